"""How sure a figure of a sweep is.

Trainings that share model, batch and seed share the order of the rows, the start of the head and, in differences, the
run of full fine-tuning that they are held against: they are no independent witnesses. So each such group is one
witness: the mean of its paired differences. The interval is that of Student's t over the groups, which keeps what it
promises although groups vary unequally, with two of them on (Ibragimov & Müller 2010, t-Statistic Based Correlation and
Heterogeneity Robust Inference). It is about other seeds: all trainings on a model are scored on the same rows, and what
other rows would say is not in it.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Hashable, Iterable
from dataclasses import dataclass

SURE = 0.95  # of intervals, with which they hold the true figure


@dataclass(frozen=True)
class Interval:
    """A mean over groups. Without a second group there is no interval.

    Attributes:
        value, low, high: in the unit of the differences.
        groups: independent witnesses. pairs: differences in them.
    """

    value: float
    low: float | None
    high: float | None
    groups: int
    pairs: int


def interval(differences: Iterable[tuple[Hashable, float]]) -> Interval | None:
    """Mean of the groups' means with its interval; ``None`` of nothing.

    Args:
        differences: each with the group that it is of.
    """
    table: dict[Hashable, list[float]] = {}
    for group, difference in differences:
        table.setdefault(group, []).append(difference)
    if not table:
        return None
    means = [statistics.fmean(found) for found in table.values()]
    value, pairs = statistics.fmean(means), sum(map(len, table.values()))
    if len(means) < 2:
        return Interval(value, None, None, len(means), pairs)
    reach = quantile(len(means) - 1) * statistics.stdev(means) / math.sqrt(len(means))
    return Interval(value, value - reach, value + reach, len(means), pairs)


def quantile(freedom: int) -> float:
    """How many standard errors an interval reaches to either side.

    >>> round(quantile(1), 2), round(quantile(5), 2)
    (12.71, 2.57)
    """
    from scipy.special import stdtrit

    return float(stdtrit(freedom, (1 + SURE) / 2))
