"""``check``: each stage of an adapter's life, on adapters that fail at one of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save, save_file

from peft_lab.interview.clinic.stages import check
from peft_lab.models.assets import store as assets
from peft_lab.models.catalogue import get_model
from peft_lab.runs import store
from peft_lab.runs.spec import RunRequest
from peft_lab.studies import tiny
from peft_lab.takeaway.ship.adapter import CONFIG, STATE, WEIGHTS, from_files, read
from peft_lab.takeaway.ship.passport import base_of

BASE = get_model("smollm2-135m")
LOG = {"log_history": [{"step": at, "loss": 2.0 - at / 20} for at in range(1, 21)]}
STAGES = ("trained", "saved", "base", "loads", "merges", "serves")


def stages(
    zero: bool = False, drop: str = "", rank: int = 4, width: int = 576, log: bool = True, **config: Any
) -> dict[str, tuple[bool | None, str]]:
    tensors = {}
    for layer in range(30):
        path = f"base_model.model.model.layers.{layer}.self_attn.q_proj"
        tensors[f"{path}.lora_A.weight"] = np.full((rank, width), 0.01, np.float32)
        tensors[f"{path}.lora_B.weight"] = np.full((576, rank), 0.0 if zero else 0.1, np.float32)
    made = {
        "peft_type": "LORA", "r": rank, "lora_alpha": 8, "target_modules": ["q_proj"],
        "base_model_name_or_path": "HuggingFaceTB/SmolLM2-135M-Instruct", **config,
    }  # fmt: skip
    kept = {name: tensor for name, tensor in tensors.items() if not drop or drop not in name}
    files = {CONFIG: json.dumps(made).encode(), WEIGHTS: save(kept)}
    files |= {STATE: json.dumps(LOG).encode()} if log else {}
    found = check(from_files("made", files), BASE)
    assert tuple(stage.stage for stage in found) == STAGES
    for stage in found:
        assert stage.evidence and (stage.fix or stage.ok is not False), stage.stage
    return {stage.stage: (stage.ok, stage.evidence) for stage in found}


def test_a_healthy_adapter_passes_every_stage() -> None:
    found = stages()
    assert [ok for ok, _ in found.values()] == [True, True, None, True, True, True]  # no revision is named
    assert "60 tensors" in found["saved"][1] and "30 modules" in found["loads"][1]


@pytest.mark.parametrize(
    ("how", "stage", "ok", "figure"),
    [
        ({"log": False}, "trained", None, ""),
        ({"zero": True}, "saved", False, ""),
        ({"width": 512}, "loads", False, "576"),
        ({"drop": "layers.7."}, "loads", False, "layers.7.self_attn.q_proj"),
        ({"peft_type": "PROMPT_TUNING"}, "merges", False, ""),
        ({"peft_type": "BITFIT"}, "loads", False, "BITFIT"),
    ],
)
def test_an_adapter_fails_at_its_stage(how: dict[str, Any], stage: str, ok: bool | None, figure: str) -> None:
    found = stages(**how)
    assert found[stage][0] is ok
    assert figure in found[stage][1]


@pytest.mark.slow
def test_a_served_base_is_compared_with_that_of_training(tmp_path: Path) -> None:
    import torch

    model = tiny.tiny()
    model.save_pretrained(tmp_path / "trained")
    model.to(torch.bfloat16).save_pretrained(tmp_path / "short")  # the same weights, rounded
    tiny.tiny().save_pretrained(tmp_path / "moved")
    with torch.no_grad():
        moved = tiny.tiny()
        moved.model.layers[1].self_attn.v_proj.weight *= 1.02
        moved.save_pretrained(tmp_path / "moved")
    tiny.lora(tiny.tiny()).save_pretrained(tmp_path / "adapter")
    config = json.loads((tmp_path / "adapter" / CONFIG).read_text("utf-8"))
    config["base_model_name_or_path"] = str(tmp_path / "trained")
    (tmp_path / "adapter" / CONFIG).write_text(json.dumps(config), "utf-8")
    adapter = read(tmp_path / "adapter")

    def found(served: str) -> tuple[bool | None, str]:
        stage = next(
            one for one in check(adapter, base_of(adapter, str(tmp_path / served))) if one.stage == "base"
        )
        return stage.ok, stage.evidence

    assert found("trained")[0] is None  # itself, and nothing was noted of it
    assert found("short")[0] is True and "30 " in found("short")[1]
    assert found("moved")[0] is False and "layers.1.self_attn.v_proj.weight" in found("moved")[1]


@pytest.mark.weights
@pytest.mark.parametrize("changed", [False, True])
def test_a_run_knows_the_hashes_of_its_base(changed: bool, assets_home: Path) -> None:
    run = store.create(RunRequest("smollm2-135m", "lora", "json", steps=2, batch=2).complete())
    noted = assets.noted("smollm2-135m")
    weights = next(file for file in noted if file.endswith(".safetensors"))
    run.log.emit("inputs", files={"smollm2-135m": {**noted, **({weights: "0" * 64} if changed else {})}})
    run.adapter.mkdir(exist_ok=True)
    (run.adapter / CONFIG).write_text(json.dumps({"peft_type": "LORA", "r": 4, "lora_alpha": 8}), "utf-8")
    save_file({"base_model.model.x.lora_A.weight": np.ones((4, 4), np.float32)}, run.adapter / WEIGHTS)
    stage = next(one for one in check(read(run.id), BASE) if one.stage == "base")
    assert stage.ok is not changed and (weights in stage.evidence) == changed
