"""Closed forms equal PEFT's count, whatever the knobs and the model."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from peft_lab.atlas import entries, get_entry
from peft_lab.atlas.counted import counted
from peft_lab.atlas.rows import published_rows
from peft_lab.errors import BadInput
from peft_lab.models.catalogue import get_model

CLOSED = [name for name, entry in entries().items() if entry.form]
#: Of the types that cannot be counted, what PEFT or the lab says.
NOT_COUNTED = {"xlora": "already trained", "arrow": "PEFT cannot apply"}
#: The models that forms are asked of, by what transformers calls them.
MODELS = {
    "smollm2-135m": "LlamaForCausalLM",
    "bert-base": "BertModel",
    "t5-base": "T5ForConditionalGeneration",
}
LAYERS = 3


def settings(name: str) -> list[dict[str, Any]]:
    """Every combination of a type's usual values that PEFT takes."""
    knobs = get_entry(name).knobs
    made = [
        dict(zip([knob.name for knob in knobs], values, strict=True))
        for values in product(*(k.values for k in knobs))
    ]
    return [one for one in made if one.get("r", 0) == 0 or one["r"] % one.get("gralora_k", 1) == 0]


@pytest.fixture(scope="module")
def shallow(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Folders of the same models with three layers: building thirty takes ten times as long, and a form that is right
    for one depth at the usual settings and for another at all settings is right."""
    found = {}
    for name, architecture in MODELS.items():
        config = dict(get_model(name).config)
        for field in ("num_hidden_layers", "num_layers", "num_decoder_layers"):
            if field in config:
                config[field] = LAYERS
        folder: Path = tmp_path_factory.mktemp(name)
        (folder / "config.json").write_text(json.dumps({**config, "architectures": [architecture]}))
        found[name] = str(folder)
    return found


@pytest.mark.sampled(5)
@pytest.mark.parametrize("name", CLOSED)
def test_a_closed_form_is_pefts_count(name: str, shallow: dict[str, str]) -> None:
    """Every combination on few layers of one model and every third of two others; the first on all their layers."""
    done = 0
    for model, folder in shallow.items():
        every = settings(name)[:: 1 if model == "smollm2-135m" else 3]
        for where, changes in ((model, every[0]), *((folder, changes) for changes in every)):
            try:
                found = counted(name, where, **changes)
            except BadInput:
                continue  # PEFT does not put it there; that it does somewhere is asserted below
            assert found.formula == found.report.trainable, (model, where, changes)
            assert found.equal
            done += 1
    assert done


def test_what_is_not_counted_says_why() -> None:
    for name, words in NOT_COUNTED.items():
        with pytest.raises(BadInput, match=words):
            counted(name, "smollm2-135m")


@pytest.mark.slow
def test_everything_else_is_counted_on_the_default_model() -> None:
    for name in entries():
        if name not in NOT_COUNTED:
            assert counted(name, "llama-3.2-1b").report.trainable > 0, name


def test_published_rows_are_those_of_the_type() -> None:
    assert {row.config["peft_type"] for row in published_rows(get_entry("vera")) if row.config} == {"VERA"}
    lora = {row.experiment for row in published_rows(get_entry("lora"))}
    dora = {row.experiment for row in published_rows(get_entry("dora"))}
    assert dora and not lora & dora
    assert all("dora" in name for name in dora)
