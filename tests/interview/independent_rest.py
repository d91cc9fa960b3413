"""The newer questions on safety, on adapters beyond chat and on new knowledge once more."""

from __future__ import annotations

import math
import statistics
from itertools import combinations

from tests.interview.dims import Dims
from tests.interview.independent import Computation, Givens


def changed(_m: Dims, g: Givens) -> float:
    return statistics.fmean(g["after"]) - statistics.fmean(g["before"])


def rows(_m: Dims, g: Givens) -> int:
    """The first number of rows at which the half-width of a difference is no larger than the drop."""
    p, n = g["accuracy"], 1
    while 1.96 * math.sqrt(p * (1 - p) / n + p * (1 - p) / n) > g["drop"]:
        n += 1
    return n


def combined(_m: Dims, g: Givens) -> int:
    adapters = range(g["count"])
    return sum(1 for size in (1, 2) for _ in combinations(adapters, size))


def wrong_passages(_m: Dims, g: Givens) -> int:
    """For the first query: every passage in the batch but its own right one."""
    passages = [(row, kind) for row in range(g["rows"]) for kind in range(1 + g["hard"])]
    return sum(passage != (0, 0) for passage in passages)


def pair_tokens(_m: Dims, g: Givens) -> float:
    return sum(g["query"] + g["passage"] for _ in range(g["candidates"])) / g["query"]


REST: dict[str, Computation] = {
    "safety-mean-change": changed,
    "safety-rows-needed": rows,
    "safety-replay-tokens": lambda _, g: g["corpus"] / (1 - g["percent"] / 100) - g["corpus"],
    "safety-refusals": lambda _, g: (1 - g["after"] / 100) / (1 - g["before"] / 100),
    "safety-pairs": combined,
    "choose-embedding-negatives": wrong_passages,
    "choose-embedding-index": lambda _, g: g["millions"] * 1e6 * g["width"] * 32 / 8,
    "choose-reranker-cost": pair_tokens,
    "choose-vision-tokens": lambda _, g: math.prod([g["side"] / g["patch"]] * 2),
    "choose-diffusion-scale": lambda _, g: g["alpha"] / g["r"] * g["weight"],
    "choose-vocabulary": lambda m, g: g["new"] * m.d * (1 if m.tied else 2),
    "choose-hypernetwork-size": lambda m, g: g["width"] * m.lora(g["r"], "q", "v"),
}
