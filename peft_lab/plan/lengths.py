"""How long rows are, from a file with the tokens of each."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from math import ceil

from peft_lab.errors import BadInput

MOST = 1_000_000
_LONGEST = 131_072
_KEYS = ("tokens", "length", "n_tokens", "num_tokens")
_NUMBER = re.compile(r"\d{1,7}")
_BINS = 12


@dataclass(frozen=True)
class Lengths:
    """Tokens of every row, sorted."""

    tokens: tuple[int, ...]

    @property
    def mean(self) -> float:
        return sum(self.tokens) / len(self.tokens)

    def fields(self) -> dict[str, str]:
        """What it says of a plan: rows, their mean, and the length that none is longer than."""
        return {
            "rows": str(len(self.tokens)),
            "row_tokens": str(max(1, round(self.mean))),
            "seq": str(self.tokens[-1]),
        }

    def histogram(self) -> list[tuple[int, int]]:
        """The upper end of each of a dozen equal stretches, and how many rows are in it.

        >>> Lengths((1, 2, 12)).histogram()[:2]
        [(1, 1), (2, 1)]
        """
        width = max(1, ceil(self.tokens[-1] / _BINS))
        counts = [0] * ceil(self.tokens[-1] / width)
        for length in self.tokens:
            counts[(length - 1) // width] += 1
        return [((number + 1) * width, count) for number, count in enumerate(counts)]


def read_lengths(text: str) -> Lengths:
    """Lengths from lines that are each a number, or a JSON object with the number as ``tokens`` or ``length``.

    Raises:
        BadInput: a line that says no length, none at all, or too many.
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
