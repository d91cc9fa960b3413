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


def spread_loss(_m: Dims, g: Givens) -> float:
    """Token by token."""
    tokens = [g["prompt_loss"]] * g["prompt"] + [g["answer_loss"]] * g["completion"]
    return math.fsum(tokens) / len(tokens)


def accumulated(_m: Dims, g: Givens) -> float:
    tokens = [loss / 100 for n, loss in zip(g["tokens_each"], g["losses"], strict=True) for _ in range(n)]
    return math.fsum(tokens) / len(tokens)


def foreign_pairs(_m: Dims, g: Givens) -> float:
    """By looking at every pair."""
    owner = [number for number, n in enumerate(g["lengths"]) for _ in range(n)]
    crossing = sum(owner[q] != owner[k] for q in range(len(owner)) for k in range(q + 1))
    return 100 * crossing / sum(q + 1 for q in range(len(owner)))


def least_rank(m: Dims) -> int:
    return next(rank for rank in range(1, 5000) if rank * m.d >= 4096)


def galore(m: Dims, g: Givens) -> float:
    narrow, wide = min(m.d, m.f), max(m.d, m.f)
    return 100 * (2 * g["r"] * wide + g["r"] * narrow) / (2 * m.d * m.f)


def layer(m: Dims) -> float:
    """Parameters of one layer: maps, their biases, norms."""
    return m.weights / m.layers + m.map_biases + (m.norms - 1) / m.layers * m.d


DATA: dict[str, Computation] = {
    "data-mixed-loss": spread_loss,
    "data-accumulated": accumulated,
    "data-foreign-pairs": foreign_pairs,
    "data-attention-scores": lambda m, g: 2 * g["batch"] * m.heads * g["tokens"] * g["tokens"],
    "data-chunked-logits": lambda m, g: g["chunk"] * m.vocab * (4 + 4),
    "memory-eight-bit-states": lambda m, g: m.total * 2 * (8 * 256 + 32) / 256 / 8,
    "memory-eight-bit-rank": lambda m, g: least_rank(m),
    "memory-offload-seconds": lambda m, g: m.total * 32 / (g["speed"] * 8e9),
    "memory-galore-states": galore,
    "memory-lisa": lambda m, g: 8 * (m.total - (m.layers - g["active"]) * layer(m)),
}
