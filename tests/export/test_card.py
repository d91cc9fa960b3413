"""The model card and the zip: every figure from the run, and an adapter that loads by the card's own code."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import pytest

from peft_lab import export
from peft_lab.errors import BadInput
from peft_lab.methods import all_methods
from peft_lab.runs import store
from peft_lab.runs.spec import RunSpec

from .conftest import KINDS, Plain, Train, assert_loads, finish


def unpack(content: bytes, folder: Path) -> None:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.testzip() is None
        archive.extractall(folder)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("slug", all_methods())
def test_the_adapter_loads_by_the_cards_code(
    slug: str, kind: str, plain: Plain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = plain(kind, slug)
    unpack(export.adapter_zip(run), tmp_path)
    monkeypatch.chdir(tmp_path)
    assert_loads(run, (tmp_path / run.id / "README.md").read_text("utf-8"), run.adapter)


def test_the_card_is_filled_in_from_the_run(train: Train) -> None:
    run = train("encoder", "lora", {"r": 3}, steps=2)
    card, record = export.model_card(run), run.record()
    for number in (
        f"{record['evaluation']['before']['accuracy']:.4f}",
        f"{record['evaluation']['after']['loss']:.4f}",
        f"{record['trainable']:,}",
        f"On {record['metric']['rows']:,} held-out rows",
        run.id,
        record["packages"]["peft"],
        "| Rank r | `r` | 3 |",
        "2106.09685",
    ):
        assert number in card
    front = card.split("---\n")[1]
    fields = dict(line.split(": ", 1) for line in front.strip().splitlines())
    assert json.loads(fields["base_model"]) == run.spec.model
    assert json.loads(fields["library_name"]) == "peft"


def test_the_card_names_the_settings_that_were_in_force(train: Train) -> None:
    card = export.model_card(train("encoder", "qlora", {"load_in_8bit": True}, steps=1))
    assert "`load_in_8bit`" in card and "`bnb_4bit_quant_type`" not in card
    assert "`bnb_4bit_quant_type`" in export.model_card(train("encoder", "qlora", steps=1))


def test_a_run_without_scores_says_so(train: Train) -> None:
    card = export.model_card(train("causal-lm", "lora", steps=1, eval_rows=0))
    assert "not scored" in card and "base | tuned" not in card


@pytest.mark.weights
def test_a_zip_names_no_folder_of_this_machine(assets_home: Path, tmp_path: Path) -> None:
    """Of a live model: its public name stands in the config, in the card and in the front matter."""
    spec = RunSpec(
        "minilm-l6", "prompt", "sentiment", {"prompt_tuning_init": "TEXT"}, steps=1, batch=2, eval_rows=0
    )
    run = finish(spec)
    content = export.adapter_zip(run)
    assert content == export.adapter_zip(run)
    unpack(content, tmp_path)
    files = {path.name: path for path in (tmp_path / run.id).iterdir()}
    assert set(files) == {"adapter_config.json", "adapter_model.safetensors", "README.md", "LICENSES.md"}
    for name in ("adapter_config.json", "README.md", "LICENSES.md"):
        text = files[name].read_text("utf-8")
        assert str(assets_home) not in text and "sentence-transformers/all-MiniLM-L6-v2" in text
    assert str(assets_home) not in export.script(run)
    store.delete(run.id)


def test_a_run_without_an_adapter_has_none_to_give(train: Train) -> None:
    run = train("encoder", "lora", steps=1, eval_rows=0)
    (run.adapter / "adapter_model.safetensors").unlink()
    with pytest.raises(BadInput, match="saved no adapter"):
        export.adapter_zip(run)
