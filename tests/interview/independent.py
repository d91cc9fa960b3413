"""Every computed answer once more, from first principles and the model's published config alone.

No formula of the library is called: a mistake there has to show as a difference. ``m`` is a model's sizes, ``g`` the
question's givens. What is one expression of the givens alone, such as a price times hours, is not here.
"""

from __future__ import annotations

import math
import statistics
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from statistics import NormalDist
from typing import Any

from peft_lab.models.catalogue import get_model

LLAMA_LIKE = ("llama", "mistral", "qwen2", "gemma2")
FUSED = ("gpt2", "bloom")


@dataclass(frozen=True)
class Dims:
    family: str
    d: int
    layers: int
    heads: int
    kv_heads: int
    head: int
    f: int
    vocab: int
    positions: int
    types: int
    tied: bool

    @property
    def kv(self) -> int:
        return self.kv_heads * self.head

    @property
    def qw(self) -> int:
        return self.heads * self.head

    @property
    def gated(self) -> bool:
        return self.family in LLAMA_LIKE

    @property
    def maps(self) -> dict[str, tuple[int, int]]:
        """Linear maps of one layer: (inputs, outputs)."""
        if self.family in FUSED:
            attention = {"qkv": (self.d, 3 * self.d), "o": (self.d, self.d)}
        else:
            kv = (self.d, self.kv)
            attention = {"q": (self.d, self.qw), "k": kv, "v": kv, "o": (self.qw, self.d)}
        feed = {"up": (self.d, self.f), "down": (self.f, self.d)}
        return attention | ({"gate": (self.d, self.f)} if self.gated else {}) | feed

    @property
    def weights(self) -> int:
        """Entries of all the layers' linear maps."""
        return self.layers * sum(i * o for i, o in self.maps.values())

    @property
    def map_biases(self) -> int:
        """Biases of one layer's linear maps."""
        if self.family == "qwen2":
            return self.qw + 2 * self.kv
        return 0 if self.gated else sum(o for _, o in self.maps.values())

    @property
    def norms(self) -> int:
        """How many norms there are, in layers and outside."""
        per_layer = 4 if self.family == "gemma2" else 2
        outside = {"bloom": 2}.get(self.family, 1)
        return per_layer * self.layers + outside

    @property
    def norm_biases(self) -> int:
        return 0 if self.gated else self.norms * self.d

    @property
    def biases(self) -> int:
        pooler = self.d if self.encoder else 0
        return self.layers * self.map_biases + self.norm_biases + pooler

    @property
    def encoder(self) -> bool:
        return self.family in ("bert", "roberta")

    @property
    def total(self) -> int:
        embeddings = self.vocab * self.d * (1 if self.tied else 2)
        if self.encoder or self.family == "gpt2":
            embeddings += (self.positions + self.types) * self.d
        pooler = self.d * self.d if self.encoder else 0
        return embeddings + self.weights + self.norms * self.d + self.biases + pooler

    def lora(self, r: int, *roles: str) -> int:
        return self.layers * r * sum(sum(self.maps[role]) for role in roles)

    def lora_all(self, r: int) -> int:
        extra = r * 2 * self.d if self.encoder else 0  # BERT types have a pooler
        return self.lora(r, *self.maps) + extra


def dims(name: str) -> Dims:
    config = dict(get_model(name).config)
    family = config["model_type"]

    def get(*names: str) -> Any:
        return next((config[key] for key in names if config.get(key) is not None), None)

    d, heads = get("hidden_size", "n_embd", "d_model"), get("num_attention_heads", "n_head", "num_heads")
    return Dims(
        family=family,
        d=d,
        layers=get("num_hidden_layers", "n_layer", "num_layers"),
        heads=heads,
        kv_heads=get("num_key_value_heads") or heads,
        head=get("head_dim", "d_kv") or d // heads,
        f=get("intermediate_size", "n_inner", "d_ff") or 4 * d,
        vocab=config["vocab_size"],
        positions=get("max_position_embeddings", "n_positions") or 0,
        types=config.get("type_vocab_size", 2 if family == "bert" else 1 if family == "roberta" else 0),
        tied=config.get("tie_word_embeddings", family not in ("llama", "mistral", "qwen2")),
    )


Givens = Mapping[str, Any]


NF4 = (
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
    -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
)  # fmt: skip
"""As printed in appendix E of the QLoRA paper."""


NF4_BITS = 4 + 8 / 64 + 32 / (64 * 256)


def requests(m: Dims, g: Givens, extra: int) -> int:
    return math.floor(g["gigabytes"] * 1e9 / ((g["length"] + extra) * prefix_token(m) * 2))


def four_bit_bytes(m: Dims) -> float:
    """The model with its layers' maps in NF4 with double quantisation and the rest in two bytes."""
    return m.weights * NF4_BITS / 8 + (m.total - m.weights) * 2


def prefix_token(m: Dims) -> int:
    return m.layers * (m.kv + m.kv)


def projected(m: Dims, n: int) -> int:
    w = m.kv
    table, hidden, out = n * w, w * w + w, w * (m.layers * 2 * w) + m.layers * 2 * w
    return table + hidden + out


def p_mlp(d: int, n: int, h: int) -> int:
    return n * d + sum(i * o + o for i, o in ((d, h), (h, h), (h, d)))


def p_lstm(d: int, n: int, layers: int) -> int:
    cells = 0
    inputs = d
    for _ in range(layers):
        for _direction in range(2):
            cells += sum(d * inputs + d * d + d + d for _gate in range(4))
        inputs = 2 * d
    return n * d + cells + (2 * d * 2 * d + 2 * d) + (2 * d * d + d)


def adapter(d: int, width: int) -> int:
    return (d * width + width) + (width * d + d)


def ia3_own(m: Dims) -> int:
    return m.layers * (m.kv + m.kv + m.f)


def ia3_default(m: Dims) -> int:
    """PEFT's default targets: qwen2 and gemma2 have q in the place of k, fused maps whole."""
    first = m.qw if m.family in ("qwen2", "gemma2") else m.kv
    if "qkv" in m.maps:
        return m.layers * (3 * m.d + m.f)
    # On BERT types the ending output.dense also hits the attention's output map.
    extra = m.d if m.encoder else 0
    return m.layers * (first + m.kv + m.f + extra)


def codes_reached(factor: int) -> int:
    """How many code values lie nearest to something within 1/factor of zero, by the midpoints between them."""
    reach = 1 / factor
    middles = [(a + b) / 2 for a, b in pairwise(NF4)]
    return 1 + sum(-reach < middle < reach for middle in middles)


def least_that_fits(m: Dims, g: Givens) -> int:
    state = m.lora_all(g["r"]) * (4 + 4 + 4 + 4)
    needs = (m.total * (2 + 2 + 4 + 8), m.total * 2 + state, four_bit_bytes(m) + state)
    return next((i for i, need in enumerate(needs) if need / 1e9 <= g["gigabytes"]), 3)


def smallest(m: Dims, g: Givens) -> int:
    houlsby = 2 * m.layers * adapter(m.d, g["m"])
    sizes = [
        houlsby,
        m.lora(g["r"], *(("qkv",) if "qkv" in m.maps else ("q", "v"))),
        prefix_token(m) * g["n"],
        m.d * g["n"],
    ]
    return sizes.index(min(sizes))


def gradient_case(_m: Dims, _g: Givens) -> int:
    """Gradients of a LoRA map with B = 0 by finite differences: which of A and B moves the output?"""
    x, seen = 2.0, 0.7

    def loss(a: float, b: float) -> float:
        return (seen * x + b * a * x - 1.0) ** 2

    a, b, h = 0.3, 0.0, 1e-6
    moves_a = abs(loss(a + h, b) - loss(a - h, b)) / (2 * h) > 1e-9
    moves_b = abs(loss(a, b + h) - loss(a, b - h)) / (2 * h) > 1e-9
    return {(True, True): 0, (True, False): 1, (False, True): 2, (False, False): 3}[moves_a, moves_b]


def gap_above_one(_m: Dims, _g: Givens) -> float:
    """The next bfloat16 above 1: a float32 whose upper 16 bits are one larger."""
    (bits,) = struct.unpack("<I", struct.pack("<f", 1.0))
    (following,) = struct.unpack("<f", struct.pack("<I", bits + (1 << 16)))
    return following - 1.0


def nf4_by_counting() -> list[float]:
    """The code book from its definition: 8 and 7 equally likely bins outwards from zero, scaled to 1."""
    ends = [1 - (1 / 32 + 1 / 30) / 2]
    half = NormalDist()
    up = [half.inv_cdf(0.5 + (ends[0] - 0.5) * k / 8) for k in range(1, 9)]
    down = [-half.inv_cdf(0.5 + (ends[0] - 0.5) * k / 7) for k in range(1, 8)]
    return [value / up[-1] for value in sorted([*down, 0.0, *up])]


Computation = Callable[[Dims, Givens], float]


def capacity_rank(m: Dims, g: Givens) -> int:
    rank = 1
    while m.lora_all(rank) * g["parameter_bits"] < g["corpus"] * g["token_bits"]:
        rank += 1
    return rank


def vera(m: Dims, r: int) -> int:
    return sum(m.qw + r + m.kv + r for _ in range(m.layers))


def randlora(m: Dims, g: Givens) -> int:
    narrow, bases = min(m.d, m.qw), 0
    while bases * g["r"] < narrow:
        bases += 1
    return sum(g["r"] + narrow for _ in range(bases))


def accumulated(_m: Dims, g: Givens) -> float:
    tokens = [loss for n, loss in zip(g["tokens_each"], g["losses"], strict=True) for _ in range(n)]
    return math.fsum(tokens) / len(tokens)


def foreign_pairs(_m: Dims, g: Givens) -> float:
    """By looking at every pair."""
    owner = [number for number, n in enumerate(g["lengths"]) for _ in range(n)]
    crossing = sum(owner[q] != owner[k] for q in range(len(owner)) for k in range(q + 1))
    return 100 * crossing / sum(q + 1 for q in range(len(owner)))


def layer(m: Dims) -> float:
    """Parameters of one layer: maps, their biases, norms."""
    return m.weights / m.layers + m.map_biases + (m.norms - 1) / m.layers * m.d


def elected(_m: Dims, g: Givens) -> float:
    positive = [v for v in g["values"] if v > 0]
    negative = [v for v in g["values"] if v < 0]
    return statistics.fmean(positive if sum(positive) >= -sum(negative) else negative)


def kept_energy(_m: Dims, g: Givens) -> float:
    lost = math.hypot(*g["singular"][g["kept"] :]) ** 2 if g["kept"] < len(g["singular"]) else 0.0
    return 100 - 100 * lost / math.hypot(*g["singular"]) ** 2


def routed(_m: Dims, g: Givens) -> float:
    powers = sorted((math.exp(score / g["temperature"]) for score in g["scores"]), reverse=True)[: g["top"]]
    return 100 * powers[0] / sum(powers)


def rows(_m: Dims, g: Givens) -> int:
    """The first number of rows at which the half-width of a difference is no larger than the drop."""
    p, n = g["accuracy"], 1
    while 1.96 * math.sqrt(p * (1 - p) / n + p * (1 - p) / n) > g["drop"]:
        n += 1
    return n


EXPECTED: dict[str, Computation] = {
    "lora-miss-count": lambda m, g: m.layers * (g["r"] * m.qw + g["r"] * m.kv),
    "lora-tiny-untied": lambda m, g: m.layers * len(m.maps) * g["u"],
    "lora-tokens-count": lambda m, g: g["new"] * m.d,
    "lora-head-memory": lambda m, g: m.vocab * m.d * (4 + 4 + 4 + 4),
    "lora-one-map": lambda m, g: g["r"] * m.d + m.qw * g["r"],
    "lora-query-value": lambda m, g: m.layers * g["r"] * ((m.d + m.qw) + (m.d + m.kv)),
    "lora-all-linear": lambda m, g: m.lora_all(g["r"]),
    "lora-break-even": lambda m, g: math.prod(m.maps["v"]) / sum(m.maps["v"]),
    "lora-compression": lambda m, g: (m.d * m.qw) / (g["r"] * m.d + g["r"] * m.qw),
    "qlora-base-bytes": lambda m, g: m.weights * NF4_BITS / 8,
    "qlora-model-bytes": lambda m, g: four_bit_bytes(m),
    "qlora-adapter-against-base": lambda m, g: 400 * m.lora_all(g["r"]) / four_bit_bytes(m),
    "prefix-projected-share": lambda m, g: 100 / (1 + m.total / projected(m, g["n"])),
    "prefix-projected": lambda m, g: projected(m, g["n"]),
    "ptuning-mlp": lambda m, g: p_mlp(m.d, g["n"], g["width"]),
    "ptuning-lstm": lambda m, g: p_lstm(m.d, g["n"], g["lstm_layers"]),
    "adapters-houlsby": lambda m, g: sum(2 * adapter(m.d, g["m"]) for _ in range(m.layers)),
    "adapters-pfeiffer-share": lambda m, g: 100 / (1 + m.total / (m.layers * adapter(m.d, g["m"]))),
    "adapters-matching-width": lambda m, g: (m.lora_all(g["r"]) / m.layers - m.d) / (2 * m.d + 1),
    "ia3-vectors": lambda m, g: ia3_own(m),
    "ia3-fused": lambda m, g: m.layers * (m.d * 3 + m.f),
    "bitfit-count": lambda m, g: m.biases,
    "bitfit-norm-share": lambda m, g: 100 * m.norms * m.d / m.biases,
    "memory-adapter-share": lambda m, g: 100 * m.lora(g["r"], "q", "v") * 16 / (m.total * 2),
    "memory-saved-by-lora": lambda m, g: m.total * 6 - m.lora(g["r"], "q", "v") * 16,
    "quant-double-level": lambda _, g: (
        (4 * g["block"] * g["group"] + 8 * g["group"] + 32) / (g["block"] * g["group"])
    ),
    "quant-round-trip": lambda _, g: (
        min(NF4, key=lambda code: abs(code - g["weight"] / g["largest"])) * g["largest"]
    ),
    "quant-outlier": lambda _, g: codes_reached(g["factor"]),
    "serve-per-gigabyte": lambda m, g: math.floor(1e9 / (4 * ia3_default(m))),
    "serve-unmerged-work": lambda m, g: 100 * m.lora_all(g["r"]) / m.weights,
    "serve-requests-lost": lambda m, g: requests(m, g, 0) - requests(m, g, g["n"]),
    "choose-smallest": smallest,
    "choose-bitfit-model": lambda _m, _g: [
        dims(name).biases > 0 for name in ("llama-3.2-3b", "mistral-7b", "gpt2", "gemma-2-2b")
    ].index(True),
    "choose-least-that-fits": least_that_fits,
    "choose-encoder": lambda _, g: ["lora", "prompt", "prefix", "ia3"].index("prefix"),
    "choose-methods-that-run": lambda m, g: 8 - m.encoder - (m.biases == 0),
    "train-padding": lambda _, g: (
        100 * sum(max(g["lengths"]) - n for n in g["lengths"]) / (max(g["lengths"]) * len(g["lengths"]))
    ),
    "train-first-gradient": gradient_case,
    "train-work-ratio": lambda m, g: 100 * (2 / 3 + m.lora_all(g["r"]) / (m.weights + m.vocab * m.d)),
    "train-bf16-spacing": gap_above_one,
    "lora-attention-rank": lambda m, g: (
        g["r"] * m.lora(1, "gate", "up", "down") / m.lora(1, "q", "k", "v", "o")
    ),
    "lora-capacity-rank": capacity_rank,
    "lora-reward-room": lambda m, g: g["parameter_bits"] * m.lora_all(1) / g["prompts"] / g["answers"],
    "lora-intruder-cosine": lambda m, g: (0.5 * math.pi * m.d) ** -0.5,
    "lora-start-covariances": lambda m, g: 4 * m.layers * sum(i**2 for i, _ in m.maps.values()),
    "lora-vera-count": lambda m, g: vera(m, g["r"]),
    "lora-vera-file": lambda m, g: 4 * (vera(m, g["r"]) + g["r"] * (m.d + m.qw)),
    "lora-vera-memory": lambda m, g: (
        100 * 16 * (m.lora(g["r"], "q", "v") - vera(m, g["vera_rank"])) / (2 * m.total)
    ),
    "lora-randlora-count": randlora,
    "choose-oft-count": lambda m, g: 2 * m.layers * (m.d // g["b"]) * math.comb(g["b"], 2),
    "choose-boft-count": lambda m, g: m.d * g["b"] + m.qw,
    "qlora-grouped-bytes": lambda m, g: m.weights * (4 + 20 / g["group"]) / 8 + 2 * (m.total - m.weights),
    "qlora-qdora-share": lambda m, g: (
        100 * m.layers * sum(o for _, o in m.maps.values()) / m.lora_all(g["r"])
    ),
    "qlora-eora-bytes": lambda m, g: 200 * m.lora_all(g["r"]) / four_bit_bytes(m),
    "qlora-gathered": lambda m, g: sum(i * o for i, o in m.maps.values()) * NF4_BITS / 8,
    "qlora-zero-two": lambda m, g: m.lora_all(g["r"]) * (4 + 4 + 4) * (1 - 1 / g["devices"]),
    "preference-advantage": lambda _, g: (
        (1 - statistics.fmean(g["rewards"])) / statistics.pstdev(g["rewards"])
    ),
    "data-accumulated": accumulated,
    "data-foreign-pairs": foreign_pairs,
    "memory-galore-states": lambda m, g: 50 * g["r"] * (2 * max(m.d, m.f) + min(m.d, m.f)) / (m.d * m.f),
    "memory-lisa": lambda m, g: 8 * (m.total - (m.layers - g["active"]) * layer(m)),
    "plan-utilisation": lambda m, g: (
        100
        * g["per_second"]
        * (2 + 2)
        * (m.weights + m.biases + m.norms * m.d + m.vocab * m.d)
        / (g["peak"] * 1e12)
    ),
    "plan-which-card": lambda m, g: sum(
        four_bit_bytes(m) + 16 * m.lora_all(g["r"]) > size * 1e9 for size in (24, 48, 80)
    ),
    "server-parallel-share": lambda m, g: g["r"] * m.d + m.qw / g["devices"] * g["r"],
    "merge-linear-value": lambda _, g: math.prod(
        math.sqrt(0.5) * x + math.sqrt(0.5) * y for x, y in zip(g["first"], g["second"], strict=True)
    ),
    "merge-ties-entry": elected,
    "merge-dare-spread": lambda _, g: math.sqrt((1 - g["density"]) / g["density"]),
    "merge-svd-energy": kept_energy,
    "merge-arrow-weight": routed,
    "debug-chance": lambda _, g: 100 / g["classes"] * (1 + 2 * ((g["classes"] - 1) / g["rows"]) ** 0.5),
    "safety-rows-needed": rows,
}
