"""The facets of every question whose free answers are read. One text file to a field::

[question-id]
+ A point, as a sentence that is shown.
    a pattern that finds it
    another one
-1 An error, as a sentence; it contradicts the first point.
    a pattern that finds it
- An error against no point.
    a pattern
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from peft_lab.quiz.reading.facet import Error, Facets, Point, facets
from peft_lab.quiz.reading.patterns import Pattern, pattern

_QUESTION = re.compile(r"\[([\w-]+)\]")
_PART = re.compile(r"(?P<kind>\+|-(?P<against>\d*)) (?P<text>\S.*)")


@cache
def all_facets() -> Mapping[str, Facets]:
    """Facets by question id.

    Raises:
        ValueError: a line that cannot be read, or a question that comes twice: a mistake in the files.
    """
    found: dict[str, Facets] = {}
    for file in sorted(Path(__file__).parent.glob("*.txt")):
        for name, each in parse(file.read_text("utf-8")).items():
            if name in found:
                raise ValueError(f"{name} has facets twice")
            found[name] = each
    return found


def parse(text: str) -> dict[str, Facets]:
    """The facets in one file's text. Raises ValueError as :func:`all_facets`."""
    parts: dict[str, list[tuple[re.Match[str], list[Pattern]]]] = {}
    name = ""
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        if question := _QUESTION.fullmatch(line):
            name = question[1]
            if name in parts:
                raise ValueError(f"{name} has facets twice")
            parts[name] = []
        elif part := _PART.fullmatch(line):
            parts[name].append((part, []))
        elif line.startswith("    "):
            parts[name][-1][1].append(pattern(line))
        else:
            raise ValueError(f"line {number} is no part of a facet: {line!r}")
    return {each: facets(*(_part(*part) for part in found)) for each, found in parts.items()}


def _part(line: re.Match[str], patterns: list[Pattern]) -> Point | Error:
    if not patterns:
        raise ValueError(f"nothing finds {line['text']!r}")
    if line["kind"] == "+":
        return Point(line["text"], tuple(patterns))
    return Error(line["text"], tuple(patterns), int(line["against"]) - 1 if line["against"] else None)
