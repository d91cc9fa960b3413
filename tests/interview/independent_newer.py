"""The newer questions once more, from first principles and the models' published configs; then all by id."""

from __future__ import annotations

import math
import statistics
from itertools import combinations

from tests.interview.dims import Dims
from tests.interview.independent import EXPECTED as FIRST
from tests.interview.independent import NF4_BITS, Computation, Givens, four_bit_bytes


def attention_rank(m: Dims, g: Givens) -> float:
    attention = sum(sum(m.maps[role]) for role in ("q", "k", "v", "o"))
    return g["r"] * sum(sum(m.maps[role]) for role in ("gate", "up", "down")) / attention


def capacity_rank(m: Dims, g: Givens) -> int:
    rank = 1
    while m.lora_all(rank) * g["parameter_bits"] < g["corpus"] * g["token_bits"]:
        rank += 1
    return rank


def first_step(m: Dims, g: Givens) -> float:
    return math.hypot(*[g["rate"]] * (g["r"] * m.qw))


def lora(m: Dims, r: int) -> int:
    return m.lora(r, "q", "v")


def vera(m: Dims, r: int) -> int:
    return sum(m.qw + r + m.kv + r for _ in range(m.layers))


def vera_file(m: Dims, g: Givens) -> int:
    a, b = (g["r"], m.d), (m.qw, g["r"])  # the widest input and the highest output of q and v
    return 4 * (vera(m, g["r"]) + math.prod(a) + math.prod(b))


def skew(b: int) -> int:
    return sum(1 for i in range(b) for j in range(i))


def randlora(m: Dims, g: Givens) -> int:
    narrow, bases = min(m.d, m.qw), 0
    while bases * g["r"] < narrow:
        bases += 1
    return sum(g["r"] + narrow for _ in range(bases))


def covariances(m: Dims) -> int:
    return 4 * m.layers * sum(i**2 for i, _ in m.maps.values())


def rest(_m: Dims, g: Givens) -> float:
    """With a hundred maps: what the capped ones take is missing for the others."""
    capped = 100 * g["capped"]
    return (100 * g["r"] - capped * g["rho"] * g["r"]) / (100 - capped)


def two_numbers(g: Givens, m: Dims) -> int:
    return g["new"] * m.d


LORA: dict[str, Computation] = {
    "lora-rate-tenfold": lambda _, g: g["full"] * 10,
    "lora-rate-invariance": lambda _, g: g["factor"] ** 0.5,
    "lora-attention-rank": attention_rank,
    "lora-capacity-rank": capacity_rank,
    "lora-reward-room": lambda m, g: g["parameter_bits"] * m.lora_all(1) / g["prompts"] / g["answers"],
    "lora-intruder-cosine": lambda m, g: (0.5 * math.pi * m.d) ** -0.5,
    "lora-first-step": first_step,
    "lora-start-cap": lambda _, g: g["rho"] * g["r"],
    "lora-start-rest": rest,
    "lora-start-converted": lambda m, g: lora(m, g["r"]) + lora(m, g["r"]),
    "lora-start-covariances": lambda m, g: covariances(m),
    "lora-plus-rate": lambda _, g: g["ratio"] * g["rate"],
    "lora-vera-count": lambda m, g: vera(m, g["r"]),
    "lora-vera-file": vera_file,
    "lora-vera-memory": lambda m, g: 100 * 16 * (lora(m, g["r"]) - vera(m, g["vera_rank"])) / (2 * m.total),
    "lora-xs-count": lambda m, g: m.layers * (g["r"] ** 2 + g["r"] ** 2),
    "lora-xs-times": lambda m, g: (g["r"] * m.d + m.qw * g["r"]) / g["r"] ** 2,
    "lora-tiny-bytes": lambda _, g: g["count"] * 16 / 8,
    "lora-tiny-untied": lambda m, g: m.layers * len(m.maps) * g["u"],
    "lora-miss-count": lambda m, g: m.layers * (g["r"] * m.qw + g["r"] * m.kv),
    "lora-randlora-count": randlora,
    "choose-oft-count": lambda m, g: 2 * m.layers * (m.d // g["b"]) * skew(g["b"]),
    "choose-boft-count": lambda m, g: m.d * g["b"] + m.qw,
    "lora-experts-count": lambda _, g: (
        g["blocks"] * g["experts"] * 3 * (g["r"] * g["wide"] + g["width"] * g["r"])
    ),
    "lora-experts-share": lambda _, g: 100 * g["active"] / g["experts"],
    "lora-tokens-count": lambda m, g: two_numbers(g, m),
    "lora-tokens-saved": lambda m, g: 2 * ((m.vocab + g["new"]) * m.d - two_numbers(g, m)),
    "lora-head-memory": lambda m, g: m.vocab * m.d * (4 + 4 + 4 + 4),
}


def grouped(m: Dims, g: Givens) -> float:
    """Group by group: codes, one scale, one zero point."""
    groups = m.weights / g["group"]
    return groups * (g["group"] * 4 + 16 + 4) / 8 + 2 * (m.total - m.weights)


def outputs(m: Dims) -> int:
    return m.layers * sum(o for _, o in m.maps.values())


def others(g: Givens) -> float:
    """The part of something that the other devices hold."""
    return 1 - 1 / g["devices"]


QLORA: dict[str, Computation] = {
    "qlora-grouped-bytes": grouped,
    "qlora-qdora-share": lambda m, g: 100 * outputs(m) / m.lora_all(g["r"]),
    "qlora-eora-bytes": lambda m, g: 200 * m.lora_all(g["r"]) / four_bit_bytes(m),
    "qlora-storage-packed": lambda m, g: m.d * m.qw / 4,
    "qlora-shard-bytes": lambda m, g: four_bit_bytes(m) / g["devices"],
    "qlora-gathered": lambda m, g: sum(i * o for i, o in m.maps.values()) * NF4_BITS / 8,
    "qlora-zero-two": lambda m, g: m.lora_all(g["r"]) * (4 + 4 + 4) * others(g),
    "qlora-zero-traffic": lambda m, g: (2 + 2) * m.total * others(g),
}


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


def seconds_of(m: Dims, tokens: float, rate: float) -> float:
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
    "plan-hours": lambda m, g: seconds_of(m, g["corpus"], g["peak"] * 1e10 * g["percent"]) / 3600,
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


_PARTS = (FIRST, LORA, QLORA, PREFERENCE, DATA, PLANNING, SERVERS, MERGING, DEBUGGING, REST)
EXPECTED: dict[str, Computation] = {name: compute for part in _PARTS for name, compute in part.items()}
assert len(EXPECTED) == sum(len(part) for part in _PARTS), "a question is recomputed twice"
