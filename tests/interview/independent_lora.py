"""The newer questions on LoRA and QLoRA once more, from first principles and the model's published config."""

from __future__ import annotations

import math

from tests.interview.dims import Dims
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
