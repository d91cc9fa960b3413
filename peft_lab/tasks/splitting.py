"""Fixed splits: which rows are held out depends on their text alone, never on a random state or on the file's order."""

from __future__ import annotations

import re
from collections.abc import Iterable
from hashlib import sha256
from itertools import chain

from peft_lab.tasks.base import Row, Splits

_NOT_WORDS = re.compile(r"\W+")


def same_text(text: str) -> str:
    """What two texts share that differ in case, spacing and punctuation only: they belong to one part of a split."""
    return _NOT_WORDS.sub(" ", text.casefold()).strip() or text.strip()


def rank(text: str) -> bytes:
    """A position that is the same on every machine and says nothing about what the text means."""
    return sha256(same_text(text).encode()).digest()


def in_fair_order(rows: Iterable[Row]) -> tuple[Row, ...]:
    """The rows ordered by :func:`rank`, so that any first part of them is a sample of the whole."""
    return tuple(sorted(rows, key=lambda row: (rank(row.text), row.text, row.target)))


def different_texts(rows: Iterable[Row]) -> int:
    """How many texts there are up to repetition."""
    return len({same_text(row.text) for row in rows})


def hold_out(rows: Iterable[Row], texts: int) -> Splits:
    """Hold out the first ``texts`` different texts by :func:`rank` for testing, with all their repetitions."""
    groups: dict[str, list[Row]] = {}
    for row in in_fair_order(rows):
        groups.setdefault(same_text(row.text), []).append(row)
    parts = tuple(groups.values())
    return Splits(tuple(chain.from_iterable(parts[texts:])), tuple(chain.from_iterable(parts[:texts])))
