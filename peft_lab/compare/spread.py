"""What seeds say: means, spreads, and which differences stand out of them.

Two methods count as told apart when their means differ by more than twice the spread of a difference,
2 sqrt(s_a^2 + s_b^2) with the sample standard deviations over seeds, and by more than one held-out row. With three
seeds each and normal figures, equal methods pass that in about one of forty pairs (Welch's t above 2 sqrt(3), four
degrees of freedom). Nothing is corrected for the number of pairs.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

FACTOR = 2.0  # spreads of a difference that a difference of means has to exceed


@dataclass(frozen=True)
class Pair:
    """Two methods, the better one first. ``apart``: whether the difference is more than noise; ``noise``: the
    difference that would have to be exceeded."""

    better: str
    worse: str
    difference: float
    noise: float
    apart: bool


def mean(values: Sequence[float]) -> float | None:
    """Arithmetic mean in the unit of the values; ``None`` of nothing."""
    return statistics.fmean(values) if values else None


def deviation(values: Sequence[float]) -> float | None:
    """Sample standard deviation; ``None`` with fewer than two values, of which no spread can be known.

    >>> round(deviation([0.80, 0.82, 0.84]), 4), deviation([0.80])
    (0.02, None)
    """
    return statistics.stdev(values) if len(values) > 1 else None


def pairs(scores: Mapping[str, Sequence[float]], rows: int) -> list[Pair]:
    """Every two methods with at least two seeds each, largest difference first.

    Args:
        scores: the metric by seed of each method, higher is better.
        rows: held-out rows that the metric is a share of.

    >>> [pair.apart for pair in pairs({"lora": [0.81, 0.83], "ia3": [0.80, 0.82]}, rows=100)]
    [False]
    """
    known = {name: values for name, values in scores.items() if len(values) > 1}
    found = []
    for first, second in itertools.combinations(known, 2):
        better, worse = sorted((first, second), key=lambda name: statistics.fmean(known[name]), reverse=True)
        difference = statistics.fmean(known[better]) - statistics.fmean(known[worse])
        noise = FACTOR * math.hypot(statistics.stdev(known[better]), statistics.stdev(known[worse]))
        noise = max(noise, 1 / rows if rows else 0.0)
        # figures are shares of whole rows: equal ones may differ in their last binary digit
        found.append(Pair(better, worse, difference, noise, difference > noise * (1 + 1e-9)))
    return sorted(found, key=lambda pair: -pair.difference)


def sampling_error(share: float, rows: int) -> float:
    """Standard error of a share counted on that many rows, had other rows been held out: binomial, with two rows of
    either kind added, so that none or all of a few rows is not taken for certainty (Agresti & Coull 1998).

    >>> round(sampling_error(0.9, 100), 3), round(sampling_error(1.0, 10), 3)  # 1 is not certain
    (0.031, 0.094)
    """
    share = (share * rows + 2) / (rows + 4)
    return math.sqrt(share * (1 - share) / (rows + 4))
