"""The models beside the catalogue's: built from configs that were read somewhere, counted, and found by name."""

from __future__ import annotations

import json

import pytest
import yaml

from peft_lab.advise.foreign.reading import named
from peft_lab.engine.request import StepRequest, StepSetting
from peft_lab.engine.simulate import longest_row
from peft_lab.methods.counting.count import count
from peft_lab.models.catalogue import catalogue, get_model, known_base, known_models, looks_external, resolve
from tools import refresh_catalogue

TABLE = yaml.safe_load(refresh_catalogue.MORE.read_text("utf-8"))
MORE = {name: entry for name, entry in known_models().items() if name not in catalogue()}


@pytest.mark.parametrize("name", MORE)
def test_a_total_is_the_publishers_and_its_config_has_a_place(name: str) -> None:
    entry, row = MORE[name], TABLE["models"][name]
    assert refresh_catalogue.agrees(entry.parameters, row)
    assert entry.source == row["source"] and dict(entry.config) == row["config"]
    assert entry.config_source == TABLE["read"][row["read"]]
    assert not entry.live and entry.lacking and entry.title in entry.lacking


@pytest.mark.sampled(11)
@pytest.mark.parametrize("name", MORE)
def test_a_kept_shape_is_what_its_config_builds(name: str) -> None:
    kept = {
        row["name"]: row
        for row in json.loads((refresh_catalogue.FOLDER.parent / "more.json").read_text("utf-8"))
    }
    assert json.loads(json.dumps(refresh_catalogue.more_entry(name))) == kept[name]


@pytest.mark.sampled(11)
@pytest.mark.parametrize("name", MORE)
def test_lora_is_counted_as_peft_does(name: str) -> None:
    found = count(name, "lora", {})
    assert found.formula == found.trainable > 0
    assert found.total == MORE[name].parameters + found.trainable


def test_they_are_found_by_name_by_id_and_by_a_copys_id() -> None:
    assert resolve("qwen3-8b") is get_model("qwen3-8b") and not looks_external("qwen3-8b")
    assert known_base("Qwen/Qwen3-8B") is get_model("qwen3-8b")
    assert named("unsloth/Qwen3-8B-bnb-4bit") == "qwen3-8b"
    assert longest_row(StepRequest("gpt-oss-20b", "lora", {}, StepSetting(1, 4096))) == 4096
