"""How sure a point that patterns found may be said to be made: below a limit it is left to the learner.

Three things are looked at, none of them the answer's length: whether two patterns of the point agree, how many other
points of the question were nearly found, and how many of the point's own words the answer holds. Their weights and the
limit were fitted on the development half by ``python -m bench.reading --fit``, with the questions in ten parts, each
judged by the nine others; ``confidence.json`` has them.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

FILE = Path(__file__).with_name("confidence.json")
NEARLY = 2  # more points that were nearly found make no difference
_WORD = re.compile(r"[a-z]{4,}")


@dataclass(frozen=True)
class Signs:
    """What speaks for a point that was found.

    Attributes:
        agree: whether two or more of its patterns were found.
        nearly: other points of the question that may have been made, 0 to :data:`NEARLY`.
        words: share of the words of the point's sentence (four letters or more) that the answer has.
    """

    agree: bool
    nearly: int
    words: float

    def as_row(self) -> tuple[float, ...]:
        return 1.0, float(self.agree), float(self.nearly), self.words


@dataclass(frozen=True)
class Confidence:
    """``weights``: of a constant and of the signs in order; ``limit``: share from which on a point is called made."""

    weights: tuple[float, ...]
    limit: float

    def of(self, signs: Signs) -> float:
        """The share of points with such signs that a person finds made, as fitted."""
        total = sum(weight * each for weight, each in zip(self.weights, signs.as_row(), strict=True))
        return 1 / (1 + math.exp(-total))

    def enough(self, signs: Signs) -> bool:
        return self.of(signs) >= self.limit


@cache
def confidence() -> Confidence:
    kept = json.loads(FILE.read_text("utf-8"))
    return Confidence(tuple(kept["weights"].values()), kept["limit"])


def signs(point: str, answer: str, patterns: int, nearly: int) -> Signs:
    """The signs of a point (its sentence) that ``patterns`` of its patterns found in an answer."""
    wanted = _words(point)
    return Signs(patterns > 1, min(nearly, NEARLY), len(wanted & _words(answer)) / max(1, len(wanted)))


def _words(text: str) -> frozenset[str]:
    return frozenset(_WORD.findall(text.lower()))


def fit(rows: Sequence[Signs], right: Sequence[bool], shrink: float = 1.0) -> tuple[float, ...]:
    """Weights of a logistic regression, by Newton's steps; all but the constant are pulled to zero by ``shrink``."""
    import numpy as np

    given = np.array([each.as_row() for each in rows])
    wanted = np.array(right, float)
    pull = np.diag([1e-3] + [shrink] * (given.shape[1] - 1))
    weights = np.zeros(given.shape[1])
    for _ in range(50):
        share = 1 / (1 + np.exp(-given @ weights))
        curved = given.T @ (given * (share * (1 - share))[:, None]) + pull
        weights -= np.linalg.solve(curved, given.T @ (share - wanted) + pull @ weights)
    return tuple(float(each) for each in weights)
