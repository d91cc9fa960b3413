"""``open``, and library folders where other adapter configs are named."""

from __future__ import annotations

import json
from pathlib import Path

from tests.cli.conftest import Run
from tests.models.assets import adapters_folders as saved
from tests.prose import says

FOLDER = saved.FOLDER / saved.CLASSIFIER


def model_of(tmp_path: Path) -> str:
    """The config of the recorded folder's base: counted without weights."""
    from transformers import BertConfig

    from tests.models.assets import adapters_library as made

    folder = tmp_path / "bert"
    folder.mkdir()
    config = {"model_type": "bert", "architectures": ["BertModel"], **made._ENCODER}
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    assert BertConfig.from_pretrained(folder).hidden_size == made.HIDDEN
    return str(folder)


def test_open_says_what_a_folder_holds(run: Run, tmp_path: Path) -> None:
    document = run("open", str(FOLDER), "--model", model_of(tmp_path), "--json").document
    assert document["values"] == {"placement": "seq_bn", "bottleneck": 4, "nonlinearity": "gelu"}
    assert document["count"]["trainable"] == document["count"]["formula"] == 2 * (2 * 16 * 4 + 16 + 4)
    assert document["scores"] is None


def test_count_and_memory_take_a_library_folder_as_an_adapter_config(run: Run, tmp_path: Path) -> None:
    model = model_of(tmp_path)
    counted = run("count", "--model", model, "--adapter-config", str(FOLDER), "--json")
    assert [(each["method"], each["trainable"]) for each in counted.document] == [("adapters", 296)]
    assert says(counted.stderr, "seq_bn", 4)


def test_what_is_not_opened_is_refused_in_one_line(run: Run, tmp_path: Path) -> None:
    model, stored = model_of(tmp_path), json.loads(saved.FILE.read_text("utf-8"))
    for name in ("mam", "unipelt", "compacter", "prefix_tuning"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "adapter_config.json").write_text(json.dumps(stored["others"][name]), "utf-8")
        for command in (("open", str(folder)), ("count", "--adapter-config", str(folder))):
            said = run(*command, "--model", model).refused()
            assert "adapters library" in said
    assert says(
        run("open", str(tmp_path / "nothing"), "--model", model).refused(), "adapter_config.json", "nothing"
    )


def test_training_on_from_a_folder_is_of_its_method(run: Run, tmp_path: Path) -> None:
    asked = ("train", "--model", model_of(tmp_path), "--task", "sentiment", "--start", str(FOLDER))
    assert says(run(*asked, "--method", "lora").refused(), "adapters", "--method lora")


def test_export_for_adapters_asks_for_a_folder(run: Run, tmp_path: Path) -> None:
    assert "no run called" in run("export", "nothing", "--as", "adapters").refused()
