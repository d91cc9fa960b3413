"""Sentences that made readers stop are gone for good, and so is what a machine can see of bad English: '1 stops',
a word twice in a row, 'is no whole number'. Every text that the code can put on a screen is read, not what it draws."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PLACES = (
    *(ROOT / "peft_lab" / name for name in ("ui", "cli", "interview", "advise", "methods")),
    *(ROOT / "peft_lab" / name for name in ("studies", "runs")),
    ROOT / "pages",
)
#: What a reader stopped at, as it stood there. ``{}`` stands for whatever is put in.
STOPPED_AT = (
    "by the closed formula, which the tests hold equal to the count",
    "held equal to the count",
    "Not beaten on both by any other",
    "pairs are: ",
    "is asked of the memory simulation",
    "Asked of the memory simulation",
    "a line of this lab's own",
    "Mend it to go on",
    "Go on with",
    "Go on at",
    "Kernels of",
    "Nothing yet, out of",
    "Stopped · Stopped",
    "What would flip it",
    "What the tree says first",
    "the room for a task",
    "Kept apart it costs",
    "forgotten was",
    "and so it is",
    "beats these on one without",
    "in its middle",
    "of that moment",
    "works no longer",
    "any more at step",
    "More is surer",
    "An exported learner of",
    "Who answers what how well",
    "that was run",
    "knobs have been moved",
    "cannot work as it is",
    "all about the encoder",
    "by names known here",
    "factors for nothing",
    "move and mean nothing",
    "not taken in",
    "goes from {} to",
    "Batch, rows",
    "Rows per step",
    "Go on freely",
    "Shown is still",
    "Must have",
    "more than can be meant",
    "under a name known here",
    "ranks nothing",
    "off: it came later",
    "the difference is the",
    "and no further.",
    "taken for well",
    "are not little memory",
    "Real room is needed",
    "are spared, everything",
    "no weight matrix can take it in",
    "the lab takes",
    "has no biases throughout",
    "house words",
    "heed",
)
#: What a machine can see. A placeholder reads as ``{}``.
MECHANICAL = {
    "a plural after one": r"\b(?:1|[Oo]ne) (?:stops|rows|runs|seeds|steps|tokens|tasks|methods|models|questions|layers)"
    r"\b(?!')",
    "a plural that one of them breaks": r"(?<!at most )(?<!1 to )\{\} stops\b",
    "a word twice": r"\b([A-Za-z]{2,}) \1\b",
    "'is no ...' for 'is not a ...'": r"\b(?:is|are|holds) no (?:whole|number|valid|text|JSON|path|file|language|PEFT|"
    r"setting|precision|usable|exported|interview)\b",
    "a space before a stop": r"[a-z] [.,;:](?: |$)",
    "a space too many": r"[a-z,;:] {2,}[a-zA-Z]",
}
#: Right where they stand.
ALLOWED = ("that that", "had had", "per per")


def _texts(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Every text of a module but its docstrings, with the places for values as ``{}``."""
    silent = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            parts = (str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)
            silent |= {id(part) for part in node.values}
            yield node.lineno, "".join(parts)
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in silent:
            yield node.lineno, node.value


@cache
def _all_texts() -> list[tuple[str, str]]:
    """Read when the first test asks: three seconds, which every session would spend to know what tests there are."""
    found = []
    for place in PLACES:
        for path in sorted(place.rglob("*.py")):
            where = str(path.relative_to(ROOT))
            found += [(f"{where}:{line}", text) for line, text in _texts(ast.parse(path.read_text("utf-8")))]
    kept = json.loads((ROOT / "peft_lab/interview/claims/found.json").read_text("utf-8"))["found"]
    found += [
        (f"found.json: {name}", one[part]) for name, one in kept.items() for part in ("found", "why", "cited")
    ]
    return found


def _prose(text: str) -> bool:
    """Sentences; no stylesheet, script, drawing, query, formula, pattern or code of an exported file."""
    odd = (
        "<svg",
        "</",
        "{\n",
        "=>",
        "SELECT",
        "INSERT",
        "\\text",
        "\\cdot",
        "(?",
        "def ",
        "import ",
        " = ",
        "M{}",
    )
    return " " in text and not any(mark in text for mark in odd)


def test_all_texts_are_read() -> None:
    assert len(_all_texts()) > 3000
    assert any(text.startswith("Compare methods on the same data") for _, text in _all_texts())


@pytest.mark.parametrize("phrase", STOPPED_AT)
def test_what_readers_stopped_at_is_gone(phrase: str) -> None:
    wanted = re.compile(
        rf"(?<![A-Za-z]){re.escape(phrase)}(?![a-z])" if phrase[-1].isalpha() else re.escape(phrase)
    )
    assert [where for where, text in _all_texts() if wanted.search(text)] == []


@pytest.mark.parametrize("fault", MECHANICAL)
def test_what_a_machine_can_see(fault: str) -> None:
    wanted = re.compile(MECHANICAL[fault])
    found = [
        (where, seen.group())
        for where, text in _all_texts()
        if _prose(text)
        for seen in wanted.finditer(text)
        if seen.group() not in ALLOWED
    ]
    assert found == []


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("1 stops visited", "a plural after one"),
        ("{} stops visited", "a plural that one of them breaks"),
        ("of the the path", "a word twice"),
        ("'x' is no whole number.", "'is no ...' for 'is not a ...'"),
        ("stopped , then", "a space before a stop"),
        ("then  stopped", "a space too many"),
    ],
)
def test_the_patterns_see_what_they_are_for(text: str, fault: str) -> None:
    assert re.search(MECHANICAL[fault], text)
