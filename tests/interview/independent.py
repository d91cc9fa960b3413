"""Every computed answer once more, from first principles and the model's published config.

No formula of the library is called: a mistake there has to show as a difference. ``m`` is a model's sizes
(:class:`tests.interview.dims.Dims`), ``g`` the question's givens.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from itertools import pairwise
from statistics import NormalDist
from typing import Any

from tests.interview.dims import Dims, dims

Givens = Mapping[str, Any]
NF4 = (
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
    -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
)  # fmt: skip
"""As printed in appendix E of the QLoRA paper."""
NF4_BITS = 4 + 8 / 64 + 32 / (64 * 256)


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


def nearest_code(value: float) -> float:
    return sorted(NF4, key=lambda code: (code - value) ** 2)[0]


def codes_reached(factor: int) -> int:
    """How many code values lie nearest to something within 1/factor of zero, by the midpoints between them."""
    reach = 1 / factor
    middles = [(a + b) / 2 for a, b in pairwise(NF4)]
    return 1 + sum(-reach < middle < reach for middle in middles)


def least_that_fits(m: Dims, g: Givens) -> int:
    state = m.lora_all(g["r"]) * (4 + 4 + 4 + 4)
    needs = (m.total * (2 + 2 + 4 + 8), m.total * 2 + state, four_bit_bytes(m) + state)
    return next((i for i, need in enumerate(needs) if need / 1e9 <= g["gigabytes"]), 3)


def requests(m: Dims, g: Givens, extra: int) -> int:
    return math.floor(g["gigabytes"] * 1e9 / ((g["length"] + extra) * prefix_token(m) * 2))


def default_lora(m: Dims, r: int) -> int:
    return m.lora(r, "qkv") if "qkv" in m.maps else m.lora(r, "q", "v")


def smallest(m: Dims, g: Givens) -> int:
    houlsby = 2 * m.layers * adapter(m.d, g["m"])
    sizes = [houlsby, default_lora(m, g["r"]), prefix_token(m) * g["n"], m.d * g["n"]]
    return sizes.index(min(sizes))


def only_with_biases(_m: Dims, _g: Givens) -> int:
    names = ("llama-3.2-3b", "mistral-7b", "gpt2", "gemma-2-2b")
    return [dims(name).biases > 0 for name in names].index(True)


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
    import struct

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


def entries(m: Dims, role: str) -> int:
    return m.maps[role][0] * m.maps[role][1]


def pair(m: Dims, role: str) -> int:
    return m.maps[role][0] + m.maps[role][1]


def lora_share_state(m: Dims, g: Givens) -> float:
    return 100 * m.lora(g["r"], "q", "v") * 16 / (m.total * 2)


Computation = Callable[[Dims, Givens], float]
EXPECTED: dict[str, Computation] = {
    "lora-one-map": lambda m, g: g["r"] * m.d + m.qw * g["r"],
    "lora-query-value": lambda m, g: m.layers * g["r"] * ((m.d + m.qw) + (m.d + m.kv)),
    "lora-all-linear": lambda m, g: m.lora_all(g["r"]),
    "lora-break-even": lambda m, g: entries(m, "v") / pair(m, "v"),
    "lora-scale": lambda _, g: g["alpha"] * g["r"] ** -1,
    "lora-rslora": lambda _, g: g["alpha"] / math.sqrt(g["r"]),
    "lora-scale-drop": lambda _, g: (1 / g["r"]) / (1 / g["larger"]),
    "lora-dora-extra": lambda m, g: m.layers * (m.qw + m.kv),
    "lora-summed-rank": lambda m, g: min(g["r"] + g["other"], m.d, m.qw),
    "lora-compression": lambda m, g: (m.d * m.qw) / (g["r"] * m.d + g["r"] * m.qw),
    "qlora-base-bytes": lambda m, g: m.weights * NF4_BITS / 8,
    "qlora-largest": lambda _, g: g["gigabytes"] * 8e9 / NF4_BITS,
    "qlora-model-bytes": lambda m, g: four_bit_bytes(m),
    "qlora-left-in-half": lambda m, g: 100 - 100 * m.weights / m.total,
    "qlora-adapter-against-base": lambda m, g: 400 * m.lora_all(g["r"]) / four_bit_bytes(m),
    "qlora-saved-share": lambda m, g: 100 - 100 * four_bit_bytes(m) / (2 * m.total),
    "qlora-numel": lambda m, g: m.d * m.qw * 4 / 8,
    "prefix-stored": lambda m, g: prefix_token(m) * g["n"],
    "prefix-cache": lambda m, g: prefix_token(m) * 2,
    "prefix-projected-share": lambda m, g: 100 / (1 + m.total / projected(m, g["n"])),
    "prefix-projected": lambda m, g: projected(m, g["n"]),
    "prefix-attention": lambda _, g: 100 * g["n"] / (g["n"] + g["length"]),
    "prefix-matching-lora": lambda m, g: m.lora(g["r"], "q", "v") / prefix_token(m),
    "prefix-batch-cache": lambda m, g: g["batch"] * g["n"] * prefix_token(m) * 2,
    "prompt-count": lambda m, g: sum(m.d for _ in range(g["n"])),
    "prompt-share": lambda m, g: 100 / (1 + m.total / (m.d * g["n"])),
    "prompt-bytes": lambda m, g: m.d * g["n"] * 32 / 8,
    "prompt-room": lambda m, g: 100 * g["n"] / (m.positions - (2 if m.family == "roberta" else 0)),
    "prompt-attention-growth": lambda _, g: (1 + g["n"] / g["length"]) ** 2,
    "prompt-matching-lora": lambda m, g: m.lora(g["r"], "q", "v") / m.d,
    "prompt-seq2seq": lambda m, g: 2 * g["n"] * m.d,
    "prompt-logits-length": lambda _, g: g["n"] + g["length"],
    "ptuning-stored": lambda m, g: g["n"] * m.d,
    "ptuning-mlp": lambda m, g: p_mlp(m.d, g["n"], g["width"]),
    "ptuning-default-width": lambda m, g: p_mlp(m.d, g["n"], m.d),
    "ptuning-thrown-away": lambda m, g: 100 - 100 * g["n"] * m.d / p_mlp(m.d, g["n"], g["width"]),
    "ptuning-v2-count": lambda m, g: prefix_token(m) * g["n"],
    "ptuning-lstm": lambda m, g: p_lstm(m.d, g["n"], g["lstm_layers"]),
    "adapters-one": lambda m, g: adapter(m.d, g["m"]),
    "adapters-reduction": lambda m, g: m.d / g["factor"],
    "adapters-houlsby": lambda m, g: sum(2 * adapter(m.d, g["m"]) for _ in range(m.layers)),
    "adapters-pfeiffer-share": lambda m, g: 100 / (1 + m.total / (m.layers * adapter(m.d, g["m"]))),
    "adapters-three-domains": lambda m, g: 4 * (m.total + g["domains"] * m.layers * adapter(m.d, g["m"])),
    "adapters-extra-work": lambda m, g: 100 * m.layers * 2 * (2 * g["m"] * m.d) / m.weights,
    "adapters-matching-width": lambda m, g: (m.lora_all(g["r"]) / m.layers - m.d) / (2 * m.d + 1),
    "ia3-vectors": lambda m, g: ia3_own(m),
    "ia3-share": lambda m, g: 100 / (1 + m.total / ia3_own(m)),
    "ia3-against-lora": lambda m, g: m.lora(g["r"], "q", "v") / ia3_own(m),
    "ia3-merge-key": lambda m, g: m.d,
    "ia3-merge-ff": lambda m, g: m.d,
    "ia3-optimizer": lambda m, g: ia3_own(m) * 8,
    "ia3-fused": lambda m, g: m.layers * (m.d * 3 + m.f),
    "bitfit-share": lambda m, g: 100 * m.biases / m.total,
    "bitfit-none": lambda m, g: m.biases,
    "bitfit-count": lambda m, g: m.biases,
    "bitfit-subset": lambda m, g: m.layers * (m.d + m.f),
    "bitfit-attention-only": lambda m, g: m.layers * (m.qw + 2 * m.kv),
    "bitfit-norm-share": lambda m, g: 100 * m.norms * m.d / m.biases,
    "bitfit-inert-keys": lambda m, g: m.layers * m.kv,
    "memory-weights": lambda m, g: m.total * 16 / 8,
    "memory-gqa-factor": lambda m, g: m.qw / m.kv,
    "memory-mixed-adam": lambda m, g: m.total * (2 + 2 + 4 + 4 + 4),
    "memory-pure-half": lambda m, g: m.total * 2 * 4,
    "memory-adapter-moments": lambda m, g: m.lora(g["r"], "q", "v") * 8,
    "memory-cache": lambda m, g: g["batch"] * g["tokens"] * prefix_token(m) * 2,
    "memory-adapter-share": lora_share_state,
    "memory-saved-by-lora": lambda m, g: m.total * 6 - m.lora(g["r"], "q", "v") * 16,
    "memory-logits": lambda m, g: g["batch"] * g["tokens"] * m.vocab * 4,
    "memory-checkpoints": lambda m, g: m.layers * g["batch"] * g["tokens"] * m.d * 2,
    "quant-levels": lambda _, g: 1 << g["width"],
    "quant-single-level": lambda _, g: (4 * g["block"] + 32) / g["block"],
    "quant-width-bytes": lambda _, g: g["billions"] * 1e9 * g["width"] / 8,
    "quant-double-level": lambda _, g: (
        (4 * g["block"] * g["group"] + 8 * g["group"] + 32) / (g["block"] * g["group"])
    ),
    "quant-double-saving": lambda _, g: (4.5 - NF4_BITS) * g["billions"] * 1e9 / 8,
    "quant-negative": lambda _, g: sum(code < 0 for code in NF4),
    "quant-round-trip": lambda _, g: nearest_code(g["weight"] / g["largest"]) * g["largest"],
    "quant-outlier": lambda _, g: codes_reached(g["factor"]),
    "quant-group-format": lambda _, g: (4 * g["group"] + g["scale"] + g["zero"]) / g["group"],
    "serve-adapter-file": lambda m, g: m.lora(g["r"], "q", "v") * 4,
    "serve-per-gigabyte": lambda m, g: math.floor(1e9 / (4 * ia3_default(m))),
    "serve-many-tasks": lambda m, g: 2 * (m.total + g["tasks"] * m.lora(g["r"], "q", "v")),
    "serve-merged-copies": lambda m, g: g["tasks"] * m.total * 2,
    "serve-swap-time": lambda m, g: m.lora_all(g["r"]) * 2 / (g["speed"] * 1e9) * 1000,
    "serve-mixed-batch": lambda m, g: g["requests"] * m.lora(g["r"], "q", "v") * 2,
    "serve-unmerged-work": lambda m, g: 100 * m.lora_all(g["r"]) / m.weights,
    "serve-requests-lost": lambda m, g: requests(m, g, 0) - requests(m, g, g["n"]),
    "choose-smallest": smallest,
    "choose-mergeable": lambda _, g: ["prefix", "adapters", "ia3", "ptuning"].index("ia3"),
    "choose-bitfit-model": only_with_biases,
    "choose-least-that-fits": least_that_fits,
    "choose-rank-for-budget": lambda m, g: math.floor(g["megabytes"] * 1e6 / (2 * m.lora(1, "q", "v"))),
    "choose-encoder": lambda _, g: ["lora", "prompt", "prefix", "ia3"].index("prefix"),
    "choose-methods-that-run": lambda m, g: 8 - m.encoder - (m.biases == 0),
    "choose-gpus-for-full": lambda m, g: -(-m.total * 16 // int(g["gigabytes"] * 1e9)),
    "train-steps": lambda _, g: sum(len(range(0, g["rows"], g["batch"])) for _ in range(g["epochs"])),
    "train-effective-batch": lambda _, g: g["each"] * g["accumulate"] * g["devices"],
    "train-warm-up": lambda _, g: -(-g["total"] * g["percent"] // 100),
    "train-labelled-share": lambda _, g: 100 * g["completion"] / (g["prompt"] + g["completion"]),
    "train-padding": lambda _, g: (
        100 * sum(max(g["lengths"]) - n for n in g["lengths"]) / (max(g["lengths"]) * len(g["lengths"]))
    ),
    "train-first-gradient": gradient_case,
    "train-work-ratio": lambda m, g: 100 * (2 / 3 + m.lora_all(g["r"]) / (m.weights + m.vocab * m.d)),
    "train-bf16-spacing": gap_above_one,
}
