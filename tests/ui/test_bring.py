"""Another tool's config file on the page "Will it fit": it moves the controls, and what is not read is said."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from peft_lab.advise.foreign.reading import read
from peft_lab.ui.components import figures
from peft_lab.ui.memory.controls import MemoryForm, fields_of
from tests.advise.foreign.test_reading import CASES
from tests.waits import SECONDS


def test_every_tools_file_gives_fields_that_the_form_takes() -> None:
    for text, name, _, method, _ in CASES.values():
        fields = fields_of(read(text, name))
        values = {field: MemoryForm.field(field).check(value) for field, value in fields.items()}
        assert values.get("method", "") == method
    axolotl = fields_of(read(*CASES["axolotl"][:2]))
    assert (axolotl["dtype"], axolotl["targets"], axolotl["seq"], axolotl["batch"]) == (
        "nf4",
        "all-linear",
        4096,
        2,
    )
    assert fields_of(read(*CASES["llama_factory_v1"][:2]))["dtype"] == "int8"
    assert fields_of(read(*CASES["unsloth"][:2]))["targets"] == "query-value"


def _drawn() -> None:
    from peft_lab.ui.memory.controls import bring

    bring()


def _brought(monkeypatch: pytest.MonkeyPatch, text: str, name: str) -> AppTest:
    file = SimpleNamespace(file_id="1", name=name, getvalue=text.encode)
    monkeypatch.setattr(st, "file_uploader", lambda *_, **__: file)
    return AppTest.from_function(_drawn, default_timeout=SECONDS).run()


def test_a_file_is_told_in_a_sentence_with_its_ignored_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = list[tuple[str, ...]]()
    monkeypatch.setattr(figures, "table", lambda _, more, **__: rows.extend(more))
    app = _brought(monkeypatch, *CASES["axolotl"][:2])
    assert not app.exception
    (told,) = (one.value for one in app.markdown if one.value.startswith("Read as"))
    assert "Axolotl" in told and "QLoRA" in told and "Llama 3.1 8B" in told
    assert "wandb_project" in {key for key, _, _ in rows}


def test_a_bad_file_is_an_error_and_moves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    app = _brought(monkeypatch, "base_model: [\n", "a.yml")
    assert not app.exception and "memory-brought" not in app.session_state
    assert any("Line" in one.value for one in (*app.markdown, *app.error))
