"""Files of the package are read and checked; what a stored value has to be is said by a type."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, Literal, NewType

import pytest

from peft_lab.core.content import (
    Citation,
    ContentError,
    by_name,
    fits,
    mistake,
    read_entries,
    read_entry,
    read_table,
    read_typed,
)
from peft_lab.core.errors import BadInput
from peft_lab.core.references import FIRST, LORA, RATE, RUNS, Fact, fact
from tests.prose import says

# -- Content files: what a dataclass is filled with, and where a mistake is said to be.


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


@pytest.mark.parametrize("text", ["", "id: merge\n", "- 5\n", "- id: x\n  - y\n"])
def test_a_file_of_another_form_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ContentError):
        read_entries(written(tmp_path, text), Entry)


def test_a_mistake_after_reading_is_found_by_its_words(tmp_path: Path) -> None:
    path = written(tmp_path, WHOLE)
    assert [mistake(path, "", *words).line for words in ((), ("sources", "8"), ("8",))] == [1, 11, 3]


@dataclass(frozen=True)
class Counts:
    function: str
    unit: str


@dataclass(frozen=True)
class Trains:
    runs: int
    unit: str


@dataclass(frozen=True)
class Settled:
    id: str
    experiment: Counts | Trains


def test_of_two_classes_the_one_with_most_fields_is_meant(tmp_path: Path) -> None:
    text = "- id: a\n  experiment: {function: f, unit: x}\n- id: b\n  experiment: {unit: x, runs: 3}\n"
    entries = read_entries(written(tmp_path, text), Settled)
    assert [entry.experiment for entry in entries] == [Counts("f", "x"), Trains(3, "x")]
    with pytest.raises(ContentError) as caught:
        read_entries(written(tmp_path, text.replace("runs: 3", "run: 3")), Settled)
    assert caught.value.line == 4


Word = NewType("Word", str)


class Badge(Enum):
    COUNTED = "counted"


@dataclass(frozen=True)
class Judged:
    topic: str
    word: Word
    check: Callable[[float], float]
    source: Badge = Badge.COUNTED
    version: str | None = None
    facts: tuple[Fact, ...] = ()
    code: Mapping[Literal["save", "load"], str] = field(default_factory=dict)


JUDGED = """\
- check: halve
  word: no
  source: counted
  version: 2025-09-29
  facts:
  - {subject: lora, relation: first choice, when: {live: no, kind: [encoder, causal-lm]}}
  - {subject: bitfit, relation: runs on, object: any model, holds: never, when: {biases: no}}
  - {subject: [lora, ia3], relation: learning rate, object: [0.001, 0.01], holds: sometimes}
  code: {load: x = 1}
"""


def halve(value: float) -> float:
    return value / 2


CHECKS = {Callable[[float], float]: by_name({"halve": halve}, "check"), Word: str.upper}


def test_texts_functions_facts_and_kinds_are_read_as_they_are_written(tmp_path: Path) -> None:
    (entry,) = read_entries(written(tmp_path, JUDGED), Judged, CHECKS, topic="merging")
    assert (entry.topic, entry.word, entry.check) == ("merging", "NO", halve)
    assert (entry.source, entry.version) == (Badge.COUNTED, "2025-09-29")
    assert entry.facts == (
        fact("lora", FIRST, live="no", kind=("encoder", "causal-lm")),
        fact("bitfit", RUNS, "any model", "never", biases="no"),
        fact(("lora", "ia3"), RATE, (0.001, 0.01), "sometimes"),
    )


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
        ("check: halve", "check: half", 1),
        ("word: no", "topic: mine", 2),
        ("source: counted", "source: typed", 3),
        ("first choice", "first chance", 6),
        ("subject: lora, ", "", 6),
        ("holds: never", "holds: seldom", 7),
        ("holds: never", "hold: never", 7),
        ("[0.001, 0.01]", "{3: 5}", 8),
        ("load:", "lode:", 9),
    ],
)
def test_a_mistake_is_said_with_its_file_and_line(tmp_path: Path, old: str, new: str, line: int) -> None:
    text, kind = (WHOLE, Entry) if old in WHOLE else (JUDGED, Judged)
    place = {} if kind is Entry else {"topic": "merging"}
    with pytest.raises(ContentError) as caught:
        read_entries(written(tmp_path, text.replace(old, new)), kind, CHECKS, **place)
    assert caught.value.line == line and f"merging.yaml:{line}" in str(caught.value)


def test_two_entries_of_a_name_are_refused(tmp_path: Path) -> None:
    path = written(tmp_path, "- {question: a, answer: x}\n- {question: b}\n")
    other = tmp_path / "other.yaml"
    other.write_text("- question: c\n- question: a\n", encoding="utf-8")
    assert [*read_table([path], Then, "question")] == ["a", "b"]
    with pytest.raises(ContentError) as caught:
        read_table([path, other], Then, "question")
    assert (caught.value.path, caught.value.line) == (other, 2)


def test_a_name_stands_for_what_python_has(tmp_path: Path) -> None:
    converters = {str: by_name({"half": "0.5", "double": "2"})}
    assert read_entry(written(tmp_path, "question: half\n"), Then, converters) == Then("0.5")
    with pytest.raises(ContentError, match=r":1: .*'halve'.*'half'"):
        read_entry(written(tmp_path, "question: halve\n"), Then, converters)


# -- What a stored value has to be, said by a type.


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        (str, ["", "a"], [None, 1, b"a"]),
        (int, [0, 10**400], [True, 1.0, "1", None]),
        (float, [0.5, 3, 10**400], [True, float("nan"), float("inf"), "0.5", None]),
        (bool, [True], [1, "true", None]),
        (dict, [{}], [[], None]),
        (list, [[1, "a"]], [{}, "ab", None]),
        (float | None, [None, 1, 0.5], ["x", False]),
        (Literal["linear", "cosine"], ["cosine"], ["step", 1, None, ["cosine"]]),
        (list[float], [[], [1, 0.5]], [[True], [None], {"0": 1}, "12"]),
        (tuple[str, ...], [[], ["a"], ("a", "b")], [[1], "ab", None]),
        (dict[str, float | None], [{"a": None, "b": 2}], [{"a": "x"}, {1: 2}, [["a", 1]]]),
        (Mapping[str, Any], [{"a": object()}], [{1: 2}, []]),
        (list[dict[str, Any]], [[{"a": 1}]], [[{}, 1], [[]]]),
    ],
)  # fmt: skip
def test_a_value_is_of_its_kind(kind: Any, good: list[Any], bad: list[Any]) -> None:
    assert [value for value in good if not fits(kind, value)] == []
    assert [value for value in bad if fits(kind, value)] == []


@dataclass(frozen=True)
class Box:
    name: str
    sizes: tuple[int, ...] = ()
    notes: Mapping[str, str] = field(default_factory=dict)


def test_a_dataclass_is_read_with_its_lists_as_tuples() -> None:
    assert Box(**read_typed(Box, {"name": "a", "sizes": [1, 2]}, "A box")) == Box("a", (1, 2))


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ([], ("[]",)),
        ({"sizes": []}, ("name",)),
        ({"name": "a", "lid": 1}, ("lid",)),
        ({"name": "a", "sizes": [1.5]}, ("sizes", "[1.5]")),
        ({"name": None}, ("name", "None")),
        ({"name": "a", "notes": {"b": "x" * 99}, "sizes": "12"}, ("sizes", "12")),
    ],
)
def test_what_is_wrong_is_one_sentence(data: Any, said: tuple[str, ...]) -> None:
    with pytest.raises(BadInput) as caught:
        read_typed(Box, data, "A box")
    assert says(caught.value, "a box", *said)
