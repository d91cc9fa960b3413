"""Tables of figures."""

from __future__ import annotations

import pytest

from peft_lab.ui.components import figures

NAME = "base_model.model.layers.0.self_attn.v_proj.lora_A.weight"


def test_a_long_name_is_broken_between_its_parts_and_nothing_else_is(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[str] = []
    monkeypatch.setattr("streamlit.html", drawn.append)
    rows = [(NAME, "0.125"), ("short.name", "2.5"), ("a sentence of many words. And another one.", "1")]
    figures.table(("tensor", "largest"), rows, numeric=(1,), fold=True)
    figures.table(("tensor", "largest"), rows, numeric=(1,))
    folded, plain = drawn
    assert "self_attn.<wbr>v_proj.<wbr>" in folded and folded.replace("<wbr>", "").count(NAME) == 1
    assert "short.name" in folded and "0.125" in folded and "words. And" in folded
    assert "<wbr>" not in plain
