"""The newer questions on preferences, data, memory, planning, serving, merging and debugging once more."""

from __future__ import annotations

import math
import statistics

from tests.interview.dims import Dims
from tests.interview.independent import Computation, Givens, four_bit_bytes


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
    tokens = [loss for n, loss in zip(g["tokens_each"], g["losses"], strict=True) for _ in range(n)]
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


def seconds(m: Dims, tokens: float, rate: float) -> float:
    """Of a frozen model's forward pass (2 operations) and backward pass for inputs (2)."""
    return (2 + 2) * m.total * tokens / rate


def multiplied(m: Dims) -> int:
    """Of a causal model: its layers' maps and norms, and the output layer; a table of its own is only looked up."""
    return m.weights + m.biases + m.norms * m.d + m.vocab * m.d


def which_card(m: Dims, g: Givens) -> int:
    need = four_bit_bytes(m) + 16 * m.lora_all(g["r"])
    return sum(need > size * 1e9 for size in (24, 48, 80))


def read_tokens(g: Givens, again: bool) -> int:
    """What the base and each of the adapters have to read."""
    each = (g["document"] if again else 0) + g["own"]
    return g["document"] + sum(each for _ in range(g["checks"]))


PLANNING: dict[str, Computation] = {
    "plan-tokens": lambda _, g: g["epochs"] * g["rows"] * g["mean"],
    "plan-full-work": lambda m, g: (2 + 2 + 2) * m.total / 1e9 * g["corpus"] / 1e6,
    "plan-hours": lambda m, g: seconds(m, g["corpus"], g["peak"] * 1e10 * g["percent"]) / 3600,
    "plan-money": lambda _, g: g["cards"] * g["price"] * g["length_hours"],
    "plan-measured": lambda _, g: g["epochs"] * g["corpus"] / (3600 * g["per_second"]),
    "plan-utilisation": lambda m, g: 100 * g["per_second"] * (2 + 2) * multiplied(m) / (g["peak"] * 1e12),
    "plan-which-card": which_card,
    "plan-worth-it": lambda _, g: 1e6 * g["dollars"] / g["saved"] / g["price"],
}
SERVERS: dict[str, Computation] = {
    "server-slots": lambda m, g: g["slots"] * 2 * m.lora_all(g["rank"]),
    "server-slot-padding": lambda _, g: 100 * (g["rank"] - g["own"]) / g["rank"],
    "server-cold-start": lambda m, g: m.lora_all(g["r"]) * 16 / (g["gigabits"] * 1e6),
    "server-activated-prefill": lambda _, g: read_tokens(g, True) / read_tokens(g, False),
    "server-parallel-share": lambda m, g: g["r"] * m.d + m.qw / g["devices"] * g["r"],
}


def crossed(_m: Dims, g: Givens) -> float:
    """The two factors as they would be stored, then their product."""
    a, b = (math.sqrt(0.5) * x + math.sqrt(0.5) * y for x, y in zip(g["first"], g["second"], strict=True))
    return b * a


def elected(_m: Dims, g: Givens) -> float:
    positive = [v for v in g["values"] if v > 0]
    negative = [v for v in g["values"] if v < 0]
    return statistics.fmean(positive if sum(positive) >= -sum(negative) else negative)


def spread(_m: Dims, g: Givens) -> float:
    """The entry 1, kept or dropped: two outcomes."""
    kept = 1 / g["density"]
    return math.sqrt(g["density"] * (kept - 1) ** 2 + (1 - g["density"]) * (0 - 1) ** 2)


def kept_energy(_m: Dims, g: Givens) -> float:
    lost = math.hypot(*g["singular"][g["kept"] :]) ** 2 if g["kept"] < len(g["singular"]) else 0.0
    return 100 - 100 * lost / math.hypot(*g["singular"]) ** 2


def routed(_m: Dims, g: Givens) -> float:
    powers = sorted((math.exp(score / g["temperature"]) for score in g["scores"]), reverse=True)[: g["top"]]
    return 100 * powers[0] / sum(powers)


def above_one(dtype: str) -> float:
    import torch

    return float(torch.finfo(getattr(torch, dtype)).eps)


def largest(dtype: str) -> float:
    import torch

    return float(torch.finfo(getattr(torch, dtype)).max)


def guessing(_m: Dims, g: Givens) -> float:
    chance = 1 / g["classes"]
    return 100 * (chance + 2 * (chance * (1 - chance)) ** 0.5 / g["rows"] ** 0.5)


def halved(_m: Dims, g: Givens) -> float:
    scale = 65536.0
    for _ in range(g["overflows"]):
        scale /= 2
    return scale


MERGING: dict[str, Computation] = {
    "merge-cat-rank": lambda _, g: sum(g["ranks"]),
    "merge-linear-value": crossed,
    "merge-ties-entry": elected,
    "merge-dare-factor": lambda _, g: 1 / (g["percent"] / 100),
    "merge-dare-spread": spread,
    "merge-svd-energy": kept_energy,
    "merge-arrow-weight": routed,
    "ship-block-bits": lambda _, g: 8 * g["stored"] / g["block"],
    "ship-file-bytes": lambda m, g: g["bits"] * m.total / 8,
    "ship-fp8-step": lambda _m, _g: above_one("float8_e4m3fn"),
}
DEBUGGING: dict[str, Computation] = {
    "debug-largest-half": lambda _m, _g: largest("float16"),
    "debug-first-loss": lambda _, g: -math.log(1 / g["classes"]),
    "debug-tensors": lambda m, g: 2 * len(m.maps) * m.layers,
    "debug-chance": guessing,
    "debug-scaler": halved,
}
