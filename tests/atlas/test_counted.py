"""Closed forms equal PEFT's count, whatever the knobs and the model."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from peft_lab.atlas import entries, get_entry
from peft_lab.atlas.base import AtlasType
from peft_lab.atlas.rows import counted_type, published_rows
from peft_lab.core.errors import BadInput
from peft_lab.engine import published
from peft_lab.models.catalogue import get_model

CLOSED = [name for name, entry in entries().items() if entry.form]
#: Of the types that cannot be counted, what PEFT or the lab says.
NOT_COUNTED = {"arrow": "PEFT cannot apply"}
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


@pytest.mark.sampled(18)
@pytest.mark.parametrize("name", CLOSED)
def test_a_closed_form_is_pefts_count(name: str, shallow: dict[str, str]) -> None:
    """Every combination on few layers of one model and every third of two others; the first on all their layers."""
    done = 0
    for model, folder in shallow.items():
        every = settings(name)[:: 1 if model == "smollm2-135m" else 3]
        for where, changes in ((model, every[0]), *((folder, changes) for changes in every)):
            try:
                found = counted_type(name, where, **changes)
            except BadInput:
                continue  # PEFT does not put it there; that it does somewhere is asserted below
            assert found.formula == found.report.trainable, (model, where, changes)
            assert found.equal
            done += 1
    assert done


def test_what_is_not_counted_says_why() -> None:
    for name, words in NOT_COUNTED.items():
        with pytest.raises(BadInput, match=words):
            counted_type(name, "smollm2-135m")


@pytest.mark.rest
def test_everything_else_is_counted_on_the_default_model() -> None:
    for name in entries():
        if name not in NOT_COUNTED:
            assert counted_type(name, "llama-3.2-1b").report.trainable > 0, name


#: Published runs without a closed form: the types are counted only, or it is the optimizer that freezes A.
NO_FORM = {"adamss", "bdlora", "frod", "glora"}
NOT_IN_THE_CONFIG = {"lora--llama-3.2-3B-rank32-lorafa"}


def published_settings(entry: AtlasType, config: Mapping[str, Any]) -> dict[str, Any]:
    """A published config with what it leaves to PEFT filled in: defaults of the type, and the matrices it takes."""
    from peft import PEFT_TYPE_TO_CONFIG_MAPPING
    from peft.utils import constants

    fields = dataclasses.fields(PEFT_TYPE_TO_CONFIG_MAPPING[entry.type])  # type: ignore[index]
    given = {name: value for name, value in config.items() if value is not None}
    filled = {each.name: each.default for each in fields if each.default is not dataclasses.MISSING} | given
    if not filled.get("target_modules"):
        word = entry.type.replace("_", "")
        chosen = getattr(constants, f"TRANSFORMERS_MODELS_TO_{word}_TARGET_MODULES_MAPPING", {})
        filled["target_modules"] = chosen.get("llama")
    return filled


def test_closed_forms_say_what_was_published() -> None:
    """All of the comparison's rows with an adapter: PEFT counts them in tests/engine/published, the forms here."""
    shape, asked = get_model(published.MODEL).shape, []
    for entry in entries().values():
        for row in published_rows(entry):
            if row.benchmark != published.METAMATH or row.experiment in NOT_IN_THE_CONFIG:
                continue
            asked.append(row.experiment)
            settings = published_settings(entry, row.config or {})
            if entry.type == "IA3":
                settings["feedforward_modules"] = settings.get("feedforward_modules") or ["down_proj"]
            wanted = None if entry.name in NO_FORM else row.trainable
            assert entry.formula(shape, settings) == wanted, row.experiment
    adapters = {name for name, row in published.rows().items() if row.config}
    assert {*asked, *NOT_IN_THE_CONFIG} == adapters and len(asked) == len(set(asked))
