"""Types that hold several adapters, or a second model, and mix them."""

from __future__ import annotations

import itertools
import math
from typing import Any

from peft_lab.atlas.base import AtlasType, Paper, Settings, Usual, target_names
from peft_lab.models.shapes import ModelShape
from peft_lab.models.structure import ModuleGroup


def _blocks(shape: ModelShape) -> str:
    """A pattern for the repeated blocks, which ShadowPEFT wraps whole."""
    group = next(group for group in shape.groups if group.layers and "{}" in group.path)
    stem = group.path.split(".{}")[0].rpartition(".")[2]
    return rf".*\.{stem}\.\d+$"


def _lily(shape: ModelShape, groups: tuple[ModuleGroup, ...], c: Settings) -> int:
    """Matrices that share a name and a size share their As, by neighbours, and all their Bs."""
    layers: dict[tuple[str, int, int], int] = {}
    for m in groups:
        key = (m.path.rpartition(".")[2], m.in_features, m.out_features)
        layers[key] = layers.get(key, 0) + m.count
    rank, many = c["r"], c["num_B"]
    return sum(
        math.ceil(depth / c["stride_A"]) * rank * into + many * rank * (out + depth)
        for (_, into, out), depth in layers.items()
    )


def _mixed(shape: ModelShape) -> dict[str, Any]:
    """Two LoRAs of rank 4 on queries and values, by their settings: X-LoRA itself takes the folders of trained ones."""
    return {str(at): {"r": 4, "target_modules": list(target_names(shape, ("q", "v")))} for at in range(2)}


def _gates(shape: ModelShape, groups: tuple[ModuleGroup, ...], c: Settings) -> int:
    """A network from the last hidden state to one gate for each adapter; 2,048 wide between, as PEFT has it."""
    wide = [shape.hidden, *[c.get("xlora_size", 2048)] * (c["xlora_depth"] - 1), len(c["adapters"])]
    return sum((into + 1) * out for into, out in itertools.pairwise(wide))


POLY = AtlasType(
    type="POLY",
    title="Polytropon",
    family="routed",
    parent="LORA",
    update="W + (1/r)·(Σ_s π_ts·B_s)·(Σ_s π_ts·A_s), with trained weights π of each skill s for task t",
    paper=Paper("Ponti et al. 2022, Polytropon", "PEFT documentation, Polytropon", "2202.13914"),
    knobs=(
        Usual("r", (8, 4), "Rank of a skill."),
        Usual("n_skills", (4, 8), "LoRAs in the inventory."),
        Usual("n_tasks", (2, 4), "Tasks, each with its own mixture."),
    ),
    settings={"n_splits": 1, "poly_type": "poly"},
    differs="Several LoRAs, and for every task one trained mixture of their As and of their Bs, which it multiplies.",
    when="With many tasks that share skills; a batch has to name its tasks.",
    form="skills·(r·(d_in + d_out) + tasks) per matrix",
    each=lambda m, c: (
        c["n_skills"] * (c["r"] * (m.in_features + m.out_features) + c["n_tasks"] * c["n_splits"])
    ),
)
XLORA = AtlasType(
    type="XLORA",
    title="X-LoRA",
    family="routed",
    parent="LORA",
    update="W + Σ_e g_e(h)·(α/r)·B_e·A_e, with gates computed from the hidden states, token by token",
    paper=Paper("Buehler & Buehler 2024, X-LoRA", "PEFT 0.21, tuners/xlora", "2402.07148"),
    knobs=(Usual("xlora_depth", (1, 4), "Layers of the network that computes the gates."),),
    settings={"hidden_size": lambda shape: shape.hidden, "adapters": {}},
    targets=(),
    differs="Its LoRAs are trained before and stay as they are; the gates are trained.",
    when="When several good adapters exist and each token should find its own.",
    form="(h + 1)·E for E adapters; deeper, a network 2,048 wide between",
    once=_gates,
    rate=1e-2,
    stand_in=Usual(
        "adapters",
        (_mixed,),
        "Two untrained LoRAs of rank 4 on queries and values stand in for those that it mixes.",
    ),
)
SHADOW = AtlasType(
    type="SHADOW",
    title="ShadowPEFT",
    family="routed",
    parent="",
    update="h + α·U·D·(h − s) before every block, with s the state of a small trained model beside the base",
    paper=Paper("Li et al. 2026, ShadowPEFT", "PEFT documentation, ShadowPEFT", "2604.19254"),
    knobs=(
        Usual("r", (8, 16), "Width of the correction."),
        Usual("shadow_num_hidden_layers", (1, 2), "Layers of the small model."),
    ),
    settings={"target_modules": _blocks, "shadow_dropout": 0.0},
    targets=(),
    differs="A small second model runs beside the base and corrects it at every block.",
    when="When the small model is to be of use by itself, on a device, later.",
)
LILY = AtlasType(
    type="LILY",
    title="Lily",
    family="routed",
    parent="LORA",
    update="W + s·(Σ_e g_e·B_e)·A, with A shared by neighbouring layers, B_e by all, and one g for all of a batch",
    paper=Paper("Zhong et al. 2024, Lily", "PEFT documentation, Lily", "2407.09946"),
    knobs=(
        Usual("r", (32, 64), "Rank; 2 to 4 times what one would take in LoRA."),
        Usual("stride_A", (1, 2), "Neighbouring layers that share one A."),
        Usual("num_B", (2, 4), "B matrices that all layers share."),
    ),
    differs="Layers share their matrices, and a router mixes the Bs anew for every batch, by the mean over its tokens.",
    when="When the rank should be higher at the same count, and merging is not needed.",
    form="⌈L/stride⌉·r·d_in + E·r·d_out + L·E·r, for each name of a matrix, E the Bs",
    once=_lily,
)
ENTRIES = (POLY, XLORA, SHADOW, LILY)
