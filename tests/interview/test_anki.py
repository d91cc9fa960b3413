"""The Anki deck: a real package with every card, computed answers in it, formulas as Anki reads them."""

from __future__ import annotations

import builtins
import json
import sqlite3
import zipfile
from pathlib import Path
from typing import Any

import pytest

from peft_lab.core.errors import BadInput
from peft_lab.interview.bank import all_questions, get_question
from peft_lab.interview.computed import Answer
from peft_lab.interview.mock import card_back, card_front, to_html, write_deck

pytest.importorskip("genanki")


def notes(path: Path, folder: Path) -> list[tuple[str, list[str], str]]:
    """(guid, fields, tags) of every note in a package."""
    with zipfile.ZipFile(path) as package:
        package.extract("collection.anki2", folder)
    with sqlite3.connect(folder / "collection.anki2") as db:
        return [
            (guid, fields.split("\x1f"), tags)
            for guid, fields, tags in db.execute("SELECT guid, flds, tags FROM notes")
        ]


def test_the_whole_bank(tmp_path: Path) -> None:
    every = list(all_questions().values())
    path = tmp_path / "deck.apkg"
    light = [question for question in every if question.needs == "shape"]
    assert write_deck(path, every) == len(light) < len(every)
    found = notes(path, tmp_path)
    assert len({guid for guid, _, _ in found}) == len(light)
    asked = "".join(fields[0] + fields[1] for _, fields, _ in found)
    assert "4,587,520 parameters" in asked
    assert "{{value}}" not in asked
    assert r"\(r\,(d_{in} + d_{out})" in asked
    assert "$" not in asked
    assert {tag for _, _, tags in found for tag in tags.split()} >= {"lora", "bitfit", "hard"}
    with sqlite3.connect(tmp_path / "collection.anki2") as db:
        (models,) = db.execute("SELECT models FROM col").fetchone()
    assert any(".card" in kind["css"] for kind in json.loads(models).values()), (
        "the cards' style, not a page's"
    )


def test_cards_keep_their_identity_and_take_a_model(tmp_path: Path) -> None:
    question = get_question("lora-query-value")
    first, second = tmp_path / "a.apkg", tmp_path / "b.apkg"
    write_deck(first, [question])
    write_deck(second, [question], model="llama-2-7b")
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    (one,), (other,) = notes(first, tmp_path / "a"), notes(second, tmp_path / "b")
    assert one[0] == other[0], "a later export updates the same card"
    assert "Llama 3.2 3B" in one[1][0]
    assert "Llama 2 7B" in other[1][0]


def test_given_answers_of_torch_are_used(tmp_path: Path) -> None:
    question = get_question("quant-nf4-error")
    answer = Answer(9.2, "percent", ("$a$",), named={"fp4": "12.2"})
    assert write_deck(tmp_path / "deck.apkg", [question], {question.id: answer}) == 1
    with pytest.raises(BadInput, match="no questions to export"):
        write_deck(tmp_path / "none.apkg", [question])


def test_html() -> None:
    assert (
        to_html("a < b & `x<y` in $p < q_{1}$") == r"a &lt; b &amp; <code>x&lt;y</code> in \(p &lt; q_{1}\)"
    )
    choice = get_question("ia3-start")
    assert "<li>At one, so that nothing is changed</li>" in card_front(choice)
    assert "An interviewer listens for" in card_back(choice, None)


def test_without_genanki_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "genanki":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(BadInput, match="pip install genanki"):
        write_deck(tmp_path / "deck.apkg", [get_question("lora-scale")])


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="cannot be saved"):
        write_deck(tmp_path / "missing" / "deck.apkg", [get_question("lora-scale")])
