"""How often a suspicion was right, by the weight that its evidence had: counted on runs with known faults.

A diagnosis adds evidence up by weights that were set by hand, so its figure is no frequency. These counts are: of all
suspicions that got a figure in the same tenth, how many named the fault that had been made. ``reliability.json`` is
written by ``python -m bench.clinic measure FOLDER... --write``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

FILE = Path(__file__).with_name("reliability.json")
TENTHS = 10
FEW = 5  # below so many suspicions a count says nothing, and is not given


@dataclass(frozen=True)
class Reliability:
    """Counts. ``tenths``: right and all suspicions by the tenth of their figure; runs: with a fault, and healthy."""

    mutants: int
    healthy: int
    tenths: Mapping[int, tuple[int, int]]

    def at(self, figure: float) -> tuple[int, int] | None:
        """Right and all suspicions with about this figure (0 to 1); ``None`` where there were too few."""
        right, of = self.tenths.get(tenth(figure), (0, 0))
        return (right, of) if of >= FEW else None


def tenth(figure: float) -> int:
    """Which tenth a figure from 0 to 1 is in.

    >>> tenth(0.05), tenth(0.99), tenth(1.0)
    (0, 9, 9)
    """
    return min(TENTHS - 1, int(figure * TENTHS))


@cache
def reliability() -> Reliability:
    kept = json.loads(FILE.read_text("utf-8"))
    return Reliability(
        kept["mutants"], kept["healthy"], {int(at): (right, of) for at, (right, of) in kept["tenths"].items()}
    )


def in_words(figure: float) -> str:
    """One sentence on suspicions with about this figure."""
    known = reliability()
    found = known.at(figure)
    low = tenth(figure) / TENTHS
    if found is None:
        return f"Fewer than {FEW} suspicions between {low:.1f} and {low + 1 / TENTHS:.1f} came up in the test runs."
    return (
        f"Of {found[1]} suspicions between {low:.1f} and {low + 1 / TENTHS:.1f} in {known.mutants} runs with a known "
        f"fault and {known.healthy} healthy ones, {found[0]} named the fault that had been made."
    )
