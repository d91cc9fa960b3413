"""The catalogue: as its configs build it, and any other model by id or folder, with nothing run that came with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from peft_lab.advise.foreign.reading import named
from peft_lab.core.errors import BadInput, UnknownName
from peft_lab.engine.request import StepRequest, StepSetting
from peft_lab.engine.simulate import longest_row
from peft_lab.methods.counting.count import count
from peft_lab.models import catalogue as models
from peft_lab.models import meta, own, shapes
from peft_lab.models.catalogue import (
    catalogue,
    get_model,
    known_base,
    known_models,
    looks_external,
    readers_of_text,
    resolve,
)
from tests.methods import tiny
from tests.prose import facts
from tools import refresh_catalogue


@pytest.mark.parametrize("name", list(catalogue()))
def test_entry_is_what_its_config_builds(name: str) -> None:
    """The stored shape, against the model built from the stored config, and against the tool's table."""
    entry = get_model(name)
    config = meta.make_config(entry.config)
    assert (
        meta.read_shape(meta.build(config, entry.kind), config, entry.kind, name, entry.title) == entry.shape
    )
    title, kind, live, source, revision, license_, total, values = refresh_catalogue.ENTRIES[name]
    assert (entry.title, entry.kind, entry.live, entry.source) == (title, kind, live, source)
    assert (entry.revision, entry.license, entry.parameters) == (revision, license_, total)
    assert dict(entry.config) == values


def test_refreshing_writes_what_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refresh_catalogue, "FOLDER", tmp_path)
    few = {
        name: refresh_catalogue.ENTRIES[name] for name in ("gpt2", "t5-base", "flan-t5-small", "llama-3.2-3b")
    }
    monkeypatch.setattr(refresh_catalogue, "ENTRIES", few)
    refresh_catalogue.refresh()
    stored = Path(models.__file__).parent / "data"
    for name in few:
        assert (tmp_path / f"{name}.json").read_text("utf-8") == (stored / f"{name}.json").read_text("utf-8")


def test_the_catalogue_is_complete_and_live_first() -> None:
    assert set(catalogue()) == set(refresh_catalogue.ENTRIES)
    assert list(catalogue())[:4] == ["minilm-l6", "flan-t5-small", "smollm2-135m", "dinov2-small"]
    assert [entry.live for entry in catalogue().values()].count(True) == 4
    assert "dinov2-small" not in readers_of_text() and len(readers_of_text()) == len(catalogue()) - 1


def test_unknown_names_get_the_nearest() -> None:
    with pytest.raises(UnknownName, match=facts("lama-3.2-3b", "llama-3.2-3b")):
        get_model("lama-3.2-3b")
    with pytest.raises(UnknownName):
        resolve("nothing-like-it")


def test_what_looks_like_an_id_or_a_folder(tmp_path: Path) -> None:
    assert looks_external("owner/name") and looks_external(str(tmp_path))
    assert (
        not looks_external("gpt2") and not looks_external("a/b/c") and not looks_external("name with spaces")
    )
    for name in ("./model.bin", "../model", "", "owner/" + "n" * 97):
        assert not looks_external(name), name


def folder(path: Path, config: dict[str, Any]) -> str:
    path.mkdir(parents=True, exist_ok=True)
    (path / "config.json").write_text(json.dumps(config), "utf-8")
    return str(path)


@pytest.mark.parametrize("name", ["llama", "gpt2", "bert", "t5", "qwen2"])
def test_a_local_folder(name: str, tmp_path: Path) -> None:
    kind, values = tiny.CONFIGS[name]
    declared = type(tiny.build(name)).__name__
    entry = resolve(folder(tmp_path / name, {**values, "architectures": [declared]}))
    assert entry.kind == kind
    assert entry.shape.groups == tiny.shape_of(name).groups
    assert entry.parameters == sum(p.numel() for p in tiny.build(name).parameters())


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({}, "be read as"),
        (
            {"model_type": "swin"},
            "'swin'",
        ),
        ({"model_type": "made-up"}, "be read as"),
        ({"model_type": "whisper"}, "'whisper'"),
        ({"model_type": "detr"}, r"a vision model \('detr'\)"),
        (
            {
                "model_type": "vision-encoder-decoder",
                "encoder": {"model_type": "vit"},
                "decoder": {"model_type": "gpt2"},
            },
            "images and text",
        ),
        (
            {"model_type": "llama", "num_hidden_layers": 0},
            "num_hidden_layers 0",
        ),
        ({"model_type": "llama", "num_hidden_layers": -4}, "num_hidden_layers -4"),
        ({"model_type": "gpt2", "n_layer": 0}, "one layer"),
        (
            {"model_type": "llama", "num_hidden_layers": 1_000_000},
            "num_hidden_layers 1,000,000",
        ),
        ({"model_type": "llama", "vocab_size": 0}, "vocab_size 0"),
        ({"model_type": "t5", "num_layers": 2, "num_decoder_layers": -1}, "num_decoder_layers -1"),
        (
            {"auto_map": {"AutoConfig": "evil.Config"}, "model_type": "evil"},
            "its own",
        ),
    ],
)
def test_folders_that_are_no_model(config: dict[str, Any], message: str, tmp_path: Path) -> None:
    (tmp_path / "evil.py").write_text("raise SystemExit('this code ran')")
    with pytest.raises(BadInput, match=message) as caught:
        resolve(folder(tmp_path, config))
    assert caught.value.field == "model"


def test_an_empty_folder_and_an_id_without_a_connection(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="be read"):
        resolve(str(tmp_path))
    with pytest.raises(BadInput, match="connection"):
        resolve("nobody-here/no-such-model")


@pytest.mark.parametrize(
    "name", ["/no/such/folder", "a/b/c", "~nobody/models", "x/" + "y" * 5000, "\0/name/here"]
)
def test_text_that_is_neither_folder_nor_id(name: str) -> None:
    with pytest.raises(BadInput, match=r"neither a folder|not reached"):
        resolve(name)


def test_a_hub_that_cannot_be_reached_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "https://localhost:1")
    monkeypatch.setattr(own, "getproxies", dict)
    assert not own.hub_answers()
    monkeypatch.setattr(own, "getproxies", lambda: {"https": "a proxy"})
    assert own.hub_answers()


def test_weights_of_a_folder_decide_whether_it_can_be_trained(tmp_path: Path) -> None:
    _, values = tiny.CONFIGS["llama"]
    place = folder(tmp_path / "my-model", values)
    assert not resolve(place).live
    assert resolve(place).title == "my-model"
    (tmp_path / "my-model" / "model.safetensors").touch()
    assert resolve(place).live


@pytest.mark.parametrize("name", tiny.MODELS)
def test_shape_equals_the_real_model(name: str) -> None:
    shape, model = tiny.shape_of(name), tiny.build(name)
    real = {n: tuple(p.shape) for n, p in model.named_parameters(remove_duplicate=False)}
    ours = {f"{path}.{n}": dims for g in shape.groups for path in g.paths for n, dims in g.parameters.items()}
    assert ours == real
    assert shape.total == sum(p.numel() for p in model.parameters())
    assert shapes.from_dict(shapes.to_dict(shape)) == shape


# -- The models beside the catalogue's: built from configs that were read somewhere, counted, and found by name --

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
