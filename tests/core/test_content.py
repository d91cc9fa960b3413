"""Content files: what a dataclass is filled with, and where a mistake is said to be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

from peft_lab.core.content import Citation, ContentError, by_name, read_entries, read_entry
from peft_lab.core.references import LORA


@dataclass(frozen=True)
class Then:
    question: str
    answer: str = ""


@dataclass(frozen=True)
class Entry:
    id: str
    level: Literal["basic", "hard"]
    listen_for: tuple[str, ...]
    sources: tuple[Citation, ...] = ()
    then: tuple[Then, ...] = ()
    given: Mapping[str, int | float | str | tuple[int, ...]] = field(default_factory=dict)
    correct: int | None = None


WHOLE = """\
- id: merge-rank
  level: basic
  listen for: [exact, 8 and more]
  sources:
  - LORA, section 4.1
  then:
  - question: And then?
    answer: >
      By an SVD
      of the sum.
  given: {ranks: [8, 16], share: 0.5, name: yes it is}
  correct: 2
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "merging.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_an_entry_is_filled(tmp_path: Path) -> None:
    (entry,) = read_entries(written(tmp_path, WHOLE), Entry)
    assert entry.listen_for == ("exact", "8 and more")
    assert entry.sources == (f"{LORA}, section 4.1",)
    assert entry.then == (Then("And then?", "By an SVD of the sum."),)
    assert entry.given == {"ranks": (8, 16), "share": 0.5, "name": "yes it is"}
    assert entry.correct == 2


def test_a_converter_makes_what_a_file_cannot_state(tmp_path: Path) -> None:
    path = written(tmp_path, "question: 5\nanswer: x\n")
    assert read_entry(path, Then, {str: lambda value: f"<{value}>"}) == Then("<5>", "<x>")


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("level: basic", "level: easy", 2),
        ("  level: basic\n", "", 1),
        ("listen for", "listen four", 3),
        ("LORA,", "LORRA,", 5),
        ("correct: 2", "correct: two", 12),
        ("correct: 2", "id: again", 12),
        ("[8, 16]", "[8, 16", 11),
        ("{ranks: [8, 16], share: 0.5, name: yes it is}", "7", 11),
        ("answer: >", "reply: >", 8),
    ],
)
def test_a_mistake_is_said_with_its_file_and_line(tmp_path: Path, old: str, new: str, line: int) -> None:
    with pytest.raises(ContentError) as caught:
        read_entries(written(tmp_path, WHOLE.replace(old, new)), Entry)
    assert caught.value.line == line
    assert f"merging.yaml:{caught.value.line}" in str(caught.value)


@pytest.mark.parametrize("text", ["", "id: merge\n", "- 5\n", "- id: x\n  - y\n"])
def test_a_file_of_another_form_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ContentError):
        read_entries(written(tmp_path, text), Entry)


def test_a_name_stands_for_what_python_has(tmp_path: Path) -> None:
    converters = {str: by_name({"half": "0.5", "double": "2"})}
    assert read_entry(written(tmp_path, "question: half\n"), Then, converters) == Then("0.5")
    with pytest.raises(ContentError, match=r":1: .*'halve'.*'half'"):
        read_entry(written(tmp_path, "question: halve\n"), Then, converters)
