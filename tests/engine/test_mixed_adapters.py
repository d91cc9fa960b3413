"""X-LoRA's step with two adapters that are given by their settings: what is simulated is what a real one takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from peft_lab.core.errors import BadInput
from peft_lab.engine import account, running
from peft_lab.engine.request import StepSetting
from peft_lab.methods.counting.count import count_config
from tests.engine import real, small
from tests.prose import says

pytestmark = pytest.mark.filterwarnings("ignore")
MIXED: dict[str, Any] = {"r": 4, "target_modules": ["q_proj", "v_proj"]}


def xlora(adapters: dict[str, Any], depth: int) -> Any:
    return small.adapter(
        "XLORA", hidden_size=64, xlora_depth=depth, xlora_size=48, xlora_dropout_p=0.0, adapters=adapters
    )


def saved(folder: Path, layers: int) -> dict[str, str]:
    """Two LoRAs in folders, as X-LoRA wants them."""
    from peft import LoraConfig, get_peft_model

    paths = {}
    for number in "01":
        made: Any = small.blueprint("llama", layers, None, dtype=torch.float32)
        model: Any = get_peft_model(real.built(made), LoraConfig(**MIXED))
        model.save_pretrained(folder / number)
        paths[number] = str(folder / number)
    return paths


@pytest.mark.parametrize("depth", [1, 3])
def test_simulated_is_what_a_real_step_takes(depth: int, tmp_path: Path) -> None:
    ours = small.blueprint("llama", 3, xlora({"0": MIXED, "1": MIXED}, depth), dtype=torch.float32)
    trace, _, _ = running.run(ours, StepSetting(2, 32, device="cpu"))
    found = max(point.nbytes for point in account.timeline(trace))
    theirs = small.blueprint("llama", 3, xlora(saved(tmp_path, 3), depth), dtype=torch.float32)
    theirs.config.use_cache = False
    ids = torch.randint(20, 600, (2, 32), generator=torch.Generator().manual_seed(0))
    points = real.points(theirs, {"input_ids": ids, "labels": ids.clone()}, lambda model: None)
    assert found == pytest.approx(max(point.nbytes for point in points), rel=0.003)


def test_without_settings_or_a_decoder_there_is_nothing_to_count() -> None:
    config = {"peft_type": "XLORA", "hidden_size": 576, "adapters": {"0": MIXED, "1": MIXED}}
    found = count_config("smollm2-135m", config)
    assert found.trainable == 2 * (576 + 1)
    added = 2 * 4 * 30 * ((576 + 576) + (576 + 192))
    assert says(found.note, added, "lora_A", "lora_B")
    with pytest.raises(BadInput, match="only into decoders"):
        count_config("bert-base", {**config, "hidden_size": 768})
    with pytest.raises(BadInput, match="already trained"):
        count_config("smollm2-135m", {**config, "adapters": {"0": "a/folder"}})
