from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from peft_lab.core import machine
from peft_lab.core.errors import AssetError, BadInput, UnknownName
from peft_lab.models import loading
from peft_lab.models.assets import store as assets
from peft_lab.models.catalogue import get_model


@pytest.mark.weights
@pytest.mark.parametrize("name", ["minilm-l6", "smollm2-135m", "flan-t5-small"])
def test_live_models_load_as_the_catalogue_says(name: str) -> None:
    base = loading.load_base(name)
    assert sum(parameter.numel() for parameter in base.model.parameters()) == get_model(name).parameters
    assert (
        {parameter.dtype for parameter in base.model.parameters()}
        == {base.dtype}
        == {machine.compute_dtype()}
    )
    assert base.tokenizer.pad_token_id is not None and base.entry.name == name


@pytest.mark.weights
def test_the_head_is_as_random_as_the_seed() -> None:
    heads = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        model: Any = loading.load_base("minilm-l6", 3, dtype=torch.float32).model
        heads.append(model.classifier.weight.detach())
    assert heads[0].shape == (3, 384)
    assert torch.equal(heads[0], heads[1]) and not torch.equal(heads[0], heads[2])


def test_models_known_by_shape_only_are_refused_with_what_would_work() -> None:
    with pytest.raises(BadInput, match="only the shape") as caught:
        loading.load_base("llama-3.1-8b")
    assert (
        caught.value.field == "model"
        and "SmolLM2" in str(caught.value)
        and "Hugging Face id" in str(caught.value)
    )
    with pytest.raises(UnknownName):
        loading.load_base("llama-9")


def test_weights_that_are_not_here_name_the_command(own_home: Path) -> None:
    with pytest.raises(AssetError, match="fetch minilm-l6"):
        loading.load_base("minilm-l6")


@pytest.mark.weights
def test_a_local_folder_loads_but_pickles_and_foreign_code_do_not(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    shutil.copytree(assets.path("minilm-l6"), folder)
    assert loading.load_base(str(folder)).entry.kind == "encoder"
    weights = folder / "model.safetensors"
    torch.save({}, folder / "pytorch_model.bin")
    weights.unlink()
    with pytest.raises(BadInput, match="not be loaded"):
        loading.load_base(str(folder))
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "mystery", "auto_map": {"AutoConfig": "evil.Config", "AutoModel": "evil.Model"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "evil.py").write_text("raise SystemExit('ran')")
    with pytest.raises(BadInput, match="code of its"):
        loading.load_base(str(folder))


@pytest.mark.weights
def test_a_damaged_file_is_one_sentence(tmp_path: Path) -> None:
    folder = tmp_path / "broken"
    shutil.copytree(assets.path("minilm-l6"), folder)
    (folder / "model.safetensors").write_bytes(b"not weights")
    with pytest.raises(BadInput, match="not be loaded"):
        loading.load_base(str(folder))
