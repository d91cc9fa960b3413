"""The newer questions on preferences, data, memory, planning, serving, merging and debugging once more."""

from __future__ import annotations

import math
import statistics

from tests.quiz.dims import Dims
from tests.quiz.independent import Computation, Givens


def logistic_loss(margin: float) -> float:
    return -math.log(1 / (1 + math.exp(-margin)))


def advantage(_m: Dims, g: Givens) -> float:
    return (1 - statistics.fmean(g["rewards"])) / statistics.pstdev(g["rewards"])


PREFERENCE: dict[str, Computation] = {
    "preference-reference-bytes": lambda m, g: m.total * 16 / 8,
    "preference-dpo-start": lambda _, g: logistic_loss(0),
    "preference-dpo-loss": lambda _, g: logistic_loss(
        g["strength"] * g["chosen"] - g["strength"] * g["rejected"]
    ),
    "preference-advantage": advantage,
    "preference-silent-groups": lambda _, g: (
        100 * math.prod([g["rate"]] * g["size"]) + 100 * math.prod([1 - g["rate"]] * g["size"])
    ),
    "preference-batch": lambda _, g: g["devices"] * g["each"] * g["accumulate"] / g["group"],
}
