"""The glossary: each form belongs to one word, and a text marks each word where it is used first."""

from __future__ import annotations

import html

import pytest

from peft_lab.core.errors import UnknownName
from peft_lab.interview import glossary
from peft_lab.methods import all_methods
from tests.ui.test_pages import opened

#: What the pages use without explaining it themselves.
NEEDED = {
    "token", "logits", "nats", "held-out rows", "rank", "exact match", "singular value", "JSON", "adapter",
    "base model", "quantisation", "gradient", "checkpointing", "learning rate", "epoch", "LoRA alpha", "perplexity",
}  # fmt: skip


def test_each_form_belongs_to_one_word() -> None:
    words = glossary.words()
    assert set(words) >= NEEDED
    forms = [form.lower() for word in words.values() for form in (word.term, *word.also)]
    assert len(forms) == len(set(forms))
    assert all(word.meaning.endswith(".") and 30 < len(word.meaning) < 260 for word in words.values())


@pytest.mark.parametrize(
    "text", [*(method.summary for method in all_methods().values()), "Rate, rank and RANK; rerank"]
)
def test_a_word_is_marked_where_it_is_used_first(text: str) -> None:
    found = glossary.pieces(text)
    assert "".join(piece for piece, _ in found) == text
    marked = [word.term for _, word in found if word is not None]
    assert marked and len(marked) == len(set(marked))


def test_the_longer_form_wins_and_a_part_of_a_word_is_none() -> None:
    assert [piece for piece, word in glossary.pieces("The learning rate of rerank") if word] == [
        "learning rate"
    ]
    with pytest.raises(UnknownName):
        glossary.meaning("no such word")


def test_the_page_shows_every_word_and_a_method_marks_its_own() -> None:
    shown = "".join(element.proto.body for element in opened("words").get("html"))
    for word in glossary.words().values():
        assert html.escape(word.meaning) in shown
    marks = "".join(element.proto.body for element in opened("lora", model="minilm-l6").get("html"))
    assert html.escape(glossary.meaning("low rank"), quote=False) in marks and 'tabindex="0"' in marks
