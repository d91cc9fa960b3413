"""What is false about nearly every method here, whichever question is asked: what is trained, merged, rounded, kept.

``falsehoods.txt`` is written as the facets are. A section names the topics in which its sentence is false, ``*`` for
all, and after ``-`` questions in whose answers it may be true::

    [name] topic topic - question-id
    - The falsehood, as a sentence that is shown.
        a pattern that finds it

A pattern is looked for in a sentence that claims something: not in a question, a condition or a report.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from peft_lab.quiz.bank import get_question
from peft_lab.quiz.question import topics
from peft_lab.quiz.reading.facet import Error
from peft_lab.quiz.reading.facets import parse

_HEAD = re.compile(r"\[([\w-]+)\] ([\w* -]+?)(?: - ([\w ,-]+))?")
FILE = Path(__file__).with_name("falsehoods.txt")


@dataclass(frozen=True)
class Falsehood:
    """One sentence that is false. ``topics``: where; ``never``: ids of questions in whose answers it may be true."""

    name: str
    error: Error
    topics: frozenset[str]
    never: frozenset[str]


@cache
def all_falsehoods() -> tuple[Falsehood, ...]:
    """Every falsehood.

    Raises:
        ValueError: a line that cannot be read, or a topic that there is none of: a mistake in the file.
    """
    return tuple(_read(FILE.read_text("utf-8")))


@cache
def false_here(question: str) -> tuple[Error, ...]:
    """The falsehoods that answers to a question are read for.

    Raises:
        UnknownName: no question has this id.
    """
    topic = get_question(question).topic
    return tuple(
        each.error for each in all_falsehoods() if topic in each.topics and question not in each.never
    )


def _read(text: str) -> Iterator[Falsehood]:
    heads = []
    lines = []
    for line in text.splitlines():
        if line.startswith("["):
            found = _HEAD.fullmatch(line)
            if found is None:
                raise ValueError(f"no head of a falsehood: {line!r}")
            heads.append(found)
            lines.append(f"[{found[1]}]")
        else:
            lines.append(line)
    for head, each in zip(heads, parse("\n".join(lines)).values(), strict=True):
        where = set(topics()) if head[2] == "*" else set(head[2].split())
        if strange := where - set(topics()):
            raise ValueError(f"{head[1]}: no topics {sorted(strange)}")
        for error in each.errors:
            yield Falsehood(head[1], error, frozenset(where), frozenset(re.findall(r"[\w-]+", head[3] or "")))
