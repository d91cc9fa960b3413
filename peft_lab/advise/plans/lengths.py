"""Row lengths, from a file with the number of tokens of each."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

from peft_lab.advise.plans.facts import WRITTEN
from peft_lab.core import units
from peft_lab.core.errors import BadInput
from peft_lab.models.catalogue import ModelEntry
from peft_lab.training.packing import TYPES, fill

# ----------------------------------------
# Packing in a plan: when it works and how many rows it makes; :mod:`peft_lab.training.packing` does it.


def rows_of(tokens: Sequence[int], seq: int) -> int:
    """Return how many rows of ``seq`` tokens the rows fill when packed; longer rows are cut.

    >>> rows_of([300, 200, 100, 900], seq=512)
    3
    """
    return len(fill([min(length, seq) for length in tokens], seq))


def why_not(entry: ModelEntry, objective: str) -> str:
    """Return why rows cannot be packed for this model and objective; empty if they can."""
    kind = entry.config.get("text_config", entry.config).get("model_type", "")
    if entry.kind != "causal-lm" or objective not in WRITTEN:
        return "Only decoders that learn the next token have packed rows here: leave packing out."
    if kind not in TYPES:
        return (
            f"Packed rows were not compared with rows apart for models of type '{kind}': leave packing out, or choose "
            f"one of {', '.join(TYPES)}."
        )
    return ""


def check_packing(
    entry: ModelEntry, objective: str, packed: int, rows: int, row_tokens: int, seq: int
) -> None:
    """Check that rows can be packed into so many. Raises BadInput otherwise."""
    if reason := why_not(entry, objective):
        raise BadInput(reason, "packed")
    if packed > rows or (row_tokens - 0.5) * rows > packed * seq:
        every = f"{units.several(rows, 'row')} of {units.several(row_tokens, 'token')}"
        filled = f"{units.several(packed, 'row')} of {seq:,}"
        raise BadInput(
            f"{every} on average do not fill {filled}: give their lengths again.",
            "packed",
        )


MOST = 1_000_000
_LONGEST = 131_072
_KEYS = ("tokens", "length", "n_tokens", "num_tokens")
_NUMBER = re.compile(r"\d{1,7}")
_BINS = 12


@dataclass(frozen=True)
class Lengths:
    """The sorted lengths of all rows, in tokens."""

    tokens: tuple[int, ...]

    @property
    def mean(self) -> float:
        """Return the mean length of a row, in tokens."""
        return sum(self.tokens) / len(self.tokens)

    def fields(self) -> dict[str, str]:
        """Return the fields of a request that they determine: rows, their mean length, and the greatest length."""
        return {
            "rows": str(len(self.tokens)),
            "row_tokens": str(max(1, round(self.mean))),
            "seq": str(self.tokens[-1]),
        }

    def histogram(self) -> list[tuple[int, int]]:
        """Return the upper end of each of about a dozen equal intervals, and its number of rows.

        >>> Lengths((1, 2, 12)).histogram()[:2]
        [(1, 1), (2, 1)]
        """
        width = max(1, ceil(self.tokens[-1] / _BINS))
        counts = [0] * ceil(self.tokens[-1] / width)
        for length in self.tokens:
            counts[(length - 1) // width] += 1
        return [((number + 1) * width, count) for number, count in enumerate(counts)]


def read_lengths(text: str) -> Lengths:
    """Return the lengths from lines that are each a number, or a JSON object with it as ``tokens`` or ``length``.

    Raises:
        BadInput: a line has no length, or there are no rows or too many.
    """
    found = [
        _length(number, line.strip()) for number, line in enumerate(text.splitlines(), 1) if line.strip()
    ]
    if not found:
        raise BadInput("The file has no rows.", "lengths")
    if len(found) > MOST:
        raise BadInput(f"The file has {len(found):,} rows; at most {MOST:,} are read.", "lengths")
    return Lengths(tuple(sorted(found)))


def _length(number: int, line: str) -> int:
    value: object = None
    if _NUMBER.fullmatch(line):
        value = int(line)
    elif line.startswith("{"):
        try:
            row = json.loads(line)
        except ValueError:
            row = {}
        value = next((row[key] for key in _KEYS if key in row), None)
        if value is None and isinstance(row, dict):
            raise BadInput(
                f"Line {number} has no '{_KEYS[0]}': count each row with your tokenizer, as texts alone do not say how "
                "long they are.",
                "lengths",
            )
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= _LONGEST:
        raise BadInput(
            f"Line {number} is not a length from 1 to {_LONGEST:,} tokens: '{line[:40]}'.", "lengths"
        )
    return value
