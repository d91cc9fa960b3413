"""Types whose matrices are random, shared between layers, or taken from W, and are not trained themselves."""

from __future__ import annotations

import math

from peft_lab.atlas.base import AtlasType, Paper, Settings, Usual
from peft_lab.models.shapes import ModelShape
from peft_lab.models.structure import ModuleGroup


def _bank_length(shape: ModelShape) -> int:
    """The largest power of two, at most 256, that divides all sides of the adapted matrices."""
    found = 256
    for role in ("q", "v", "qkv"):
        group = shape.block.get(role)
        if group is not None:
            found = math.gcd(found, group.in_features, group.out_features)
    return found


def _randlora(m: ModuleGroup, rank: int) -> int:
    short = min(m.in_features, m.out_features)
    bases = math.ceil(short / rank)
    return bases * (rank + short)


def _tied(shape: ModelShape, groups: tuple[ModuleGroup, ...], c: Settings) -> int:
    """A vector for each matrix, or fewer: a share of them is tied to others'."""
    matrices = sum(group.count for group in groups)
    vectors: int = max(1, round(matrices * (1.0 - c["weight_tying"])))
    return vectors * int(c["u"])


VERA = AtlasType(
    type="VERA",
    title="VeRA",
    family="shared",
    parent="LORA",
    update="W + diag(b)·B·diag(d)·A, with A and B random, frozen, one pair for all layers",
    paper=Paper("Kopiczko et al. 2023, VeRA", "PEFT 0.21, VeraConfig; arXiv abstract", "2310.11454"),
    knobs=(
        Usual("r", (256, 64), "Rows of the random A; larger than LoRA's ranks, since they are not trained."),
    ),
    differs="A and B are random, frozen and shared by all layers; only two vectors a matrix are trained.",
    when="When thousands of adapters are stored, and each has to be small.",
    form="r + d_out per matrix",
    each=lambda m, c: c["r"] + m.out_features,
    rate=1e-2,
)
PVERA = AtlasType(
    type="PVERA",
    title="PVeRA",
    family="shared",
    parent="VERA",
    update="W + diag(b)·B·z(A·x), with z drawn from a trained normal distribution",
    paper=Paper(
        "Fillioux et al. 2025, PVeRA", "PEFT documentation, PVeRA; tuners/pvera/layer.py", "2512.07703"
    ),
    knobs=(Usual("r", (256, 64), "Width of the random projection."),),
    differs="What lies between A and B is a distribution, and is sampled while it trains.",
    when="When answers should come with an interval: sampling again gives another answer.",
    form="2·r + d_out per matrix",
    each=lambda m, c: 2 * c["r"] + m.out_features,
    rate=1e-2,
)
RANDLORA = AtlasType(
    type="RANDLORA",
    title="RandLoRA",
    family="shared",
    parent="VERA",
    update="W + (α/r)·Σ_i B_i·diag(λ_i)·A·diag(γ_i), with one random frozen A and as many B_i as make full rank",
    paper=Paper("Albert et al. 2025, RandLoRA", "PEFT 0.21, RandLoraConfig", "2502.00987"),
    knobs=(
        Usual("r", (32, 64), "Rank of one random base. A smaller one means more bases and a larger count."),
        Usual("randlora_alpha", (640, 1280), "Scales ΔW by alpha / r."),
    ),
    differs="A sum of many random products: ΔW can have full rank.",
    when="When a low rank is too little and few numbers have to do.",
    form="⌈s/r⌉·(r + s) per matrix, s its shorter side",
    each=lambda m, c: _randlora(m, c["r"]),
)
VBLORA = AtlasType(
    type="VBLORA",
    title="VB-LoRA",
    family="shared",
    parent="LORA",
    update="W + B·A, with A and B pieced together from one bank of vectors",
    paper=Paper("Li et al. 2024, VB-LoRA", "PEFT 0.21, VBLoRAConfig", "2405.15179"),
    knobs=(
        Usual("r", (4, 8), "Rank of ΔW."),
        Usual("num_vectors", (256, 64), "Vectors in the bank; more for larger models."),
    ),
    settings={"vector_length": _bank_length, "topk": 2},
    differs="All layers mix their matrices from one bank; each piece is a mixture of the best few vectors.",
    when="When the stored adapter has to be tiny; training it is not small, since the choices are trained too.",
    form="h·b + r·h·(d_in + d_out)/b per matrix once, h vectors of length b",
    each=lambda m, c: c["r"] * c["num_vectors"] * (m.in_features + m.out_features) // c["vector_length"],
    once=lambda shape, groups, c: c["num_vectors"] * c["vector_length"],
)
UNILORA = AtlasType(
    type="UNILORA",
    title="Uni-LoRA",
    family="shared",
    parent="LORA",
    update="W + B·A, every entry of A and B a scaled copy of an entry of one vector θ",
    paper=Paper("Li et al. 2025, Uni-LoRA", "PEFT documentation, UniLoRA", "2506.00799"),
    knobs=(
        Usual("theta_d_length", (256, 4096), "Length of the one vector: all that is trained."),
        Usual("r", (4, 32), "Rank of ΔW."),
    ),
    differs="One vector for the whole model; which entry goes where is random and fixed.",
    when="When an adapter has to be a few hundred numbers.",
    form="length of θ, once",
    once=lambda shape, groups, c: c["theta_d_length"],
    rate=1e-2,
)
TINYLORA = AtlasType(
    type="TINYLORA",
    title="TinyLoRA",
    family="shared",
    parent="LORA",
    update="W + U·√Σ·(Σ_i v_i·P_i)·√Σ·Vᵀ, with U, Σ, V from W and P_i random and frozen",
    paper=Paper(
        "Morris et al. 2026, Learning to Reason in 13 Parameters",
        "PEFT documentation, TinyLoRA",
        "2602.04118",
    ),
    knobs=(
        Usual("u", (64, 13), "Trained numbers a matrix."),
        Usual("r", (2, 4), "Singular directions of W that may move."),
    ),
    settings={"weight_tying": 0.0},
    differs="A tiny vector says how a few singular directions of W mix, through random matrices.",
    when="In reinforcement learning, where each example carries little information.",
    form="u per matrix, or per group of matrices that share theirs",
    once=_tied,
    rate=1e-2,
)
FROD = AtlasType(
    type="FROD",
    title="FRoD",
    family="shared",
    parent="VERA",
    update="U·(S + diag(ℓ))·Vᵀ in place of W, with S sparse and trained, V shared by layers",
    paper=Paper(
        "Wan et al. 2025, FRoD",
        "PEFT documentation, FRoD; tuners/frod/layer.py; arXiv abstract",
        "2512.23485",
    ),
    knobs=(Usual("sparse_rate", (0.01, 0.02), "Share of the off-diagonal entries of S that are trained."),),
    differs="A basis shared by all layers, found from W; diagonal and some off-diagonal entries are trained.",
    when="When a full-rank change is wanted and a slow start is no matter: it decomposes every matrix first.",
)
ADAMSS = AtlasType(
    type="ADAMSS",
    title="AdaMSS",
    family="shared",
    parent="LORA",
    update="W + Σ_k B_k·A_k·P, one small product for each cluster of W's rows, P from W's SVD",
    paper=Paper(
        "Zheng et al. 2025, AdaMSS, NeurIPS",
        "PEFT documentation, AdaMSS",
        url="https://openreview.net/forum?id=8ZdWmpYxT0",
    ),
    knobs=(
        Usual("r", (100, 50), "Singular directions of W that are kept to cluster in."),
        Usual("num_subspaces", (5, 10), "Clusters of rows."),
        Usual("subspace_rank", (1, 4), "Rank inside a cluster."),
    ),
    differs="Rows of W are clustered, and each cluster has a subspace and a small update of its own.",
    when="At very small counts; it needs scikit-learn and the weights before it can start.",
)
ENTRIES = (VERA, PVERA, RANDLORA, VBLORA, UNILORA, TINYLORA, FROD, ADAMSS)
