"""Types that turn W, wholly or in its main directions."""

from __future__ import annotations

import re

from peft_lab.atlas.base import AtlasType, Paper, Settings, Usual
from peft_lab.models.structure import ModuleGroup


def _small_directions(m: ModuleGroup, c: Settings) -> int:
    """How many singular directions are trained: what is kept, a number or a share of them (half unless told), leaves.
    The first pattern that is found in a module's path tells it for this one."""
    short = min(m.in_features, m.out_features)
    own = (kept for pattern, kept in (c.get("rank_pattern") or {}).items() if re.search(pattern, m.path))
    kept = next(own, c.get("effective_rank"))
    if kept is None:
        return short - short // 2
    return short - (int(kept * short) if isinstance(kept, float) and kept <= 1 else min(short, int(kept)))


OFT = AtlasType(
    type="OFT",
    title="OFT",
    family="orthogonal",
    parent="",
    update="W·R, with R orthogonal and made of blocks along the diagonal",
    paper=Paper("Qiu et al. 2023, OFT", "PEFT 0.21, tuners/oft", "2306.07280"),
    knobs=(Usual("oft_block_size", (32, 64), "Side of a block; it has to divide the inputs."),),
    settings={"r": 0},
    differs="It starts the line: inputs are turned, so the angles between W's rows stay.",
    when="When the model must not forget how its features relate, as in picture models.",
    form="d_in·(b − 1)/2 per matrix, b = d_in/r where r blocks are named",
    each=lambda m, c: m.in_features * ((c["oft_block_size"] or m.in_features // c["r"]) - 1) // 2,
)
BOFT = AtlasType(
    type="BOFT",
    title="BOFT",
    family="orthogonal",
    parent="OFT",
    update="diag(s)·W·R, with R a product of sparse butterfly factors and s a scale for each output",
    paper=Paper("Liu et al. 2023, BOFT", "PEFT 0.21, BOFTConfig", "2311.06243"),
    knobs=(
        Usual("boft_block_size", (4, 8), "Side of a block; it has to divide the inputs."),
        Usual("boft_n_butterfly_factor", (1,), "Factors. Without its CUDA extension PEFT sets this to 1."),
    ),
    differs="Several sparse factors reach every pair of inputs that one block-diagonal matrix leaves apart.",
    when="Instead of OFT when the blocks are too coarse; it is slow.",
    form="factors·d_in·b + d_out per matrix",
    each=lambda m, c: c["boft_n_butterfly_factor"] * m.in_features * c["boft_block_size"] + m.out_features,
)
HRA = AtlasType(
    type="HRA",
    title="HRA",
    family="orthogonal",
    parent="OFT",
    update="W·H₁·…·H_r, a chain of reflections",
    paper=Paper("Yuan et al. 2024, Householder Reflection Adaptation", "PEFT 0.21, HRAConfig", "2405.17484"),
    knobs=(Usual("r", (8, 32), "Reflections; an even number starts as the identity."),),
    differs="The turn is a chain of r mirrors, so ΔW has at most rank r: between OFT and LoRA.",
    when="When a turn is wanted with LoRA's small rank.",
    form="r·d_in per matrix",
    each=lambda m, c: c["r"] * m.in_features,
)
PSOFT = AtlasType(
    type="PSOFT",
    title="PSOFT",
    family="orthogonal",
    parent="OFT",
    update="W + B·(diag(α)·R·diag(β) − I)·A, with A and B from W's largest singular directions, R orthogonal",
    paper=Paper("Wu et al. 2025, PSOFT", "PEFT documentation, PSOFT; arXiv abstract", "2505.11235"),
    knobs=(
        Usual("r", (32, 64), "Main directions of W that are turned among themselves."),
        Usual(
            "psoft_alpha", (32, 64), "No effect in PEFT: it divides B by alpha / r and multiplies ΔW by it."
        ),
    ),
    differs="It turns only the main singular directions of W: r² numbers whatever the width.",
    when="When OFT is too large, or LoRA disturbs too much.",
    form="r·(r − 1)/2 + 2·r per matrix",
    each=lambda m, c: c["r"] * (c["r"] - 1) // 2 + 2 * c["r"],
    rate=1e-2,
)
OSF = AtlasType(
    type="OSF",
    title="OSF",
    family="orthogonal",
    parent="",
    update="U_h·Σ_h·V_hᵀ frozen + U_l·Σ_l·V_lᵀ trained, with gradients kept out of the frozen directions",
    paper=Paper("Nayak et al. 2025, Sculpting Subspaces", "PEFT documentation, OSF", "2504.07097"),
    knobs=(
        Usual("effective_rank", (0.5, 0.9), "Share of singular directions that are kept and not trained."),
    ),
    differs="Nearly full fine-tuning: the smaller singular directions of every matrix are trained.",
    when="When tasks are learnt one after the other and the earlier ones must stay.",
    form="k·(d_in + d_out + 1) per matrix, k the directions that are not kept",
    each=lambda m, c: _small_directions(m, c) * (m.in_features + m.out_features + 1),
)
ROAD = AtlasType(
    type="ROAD",
    title="RoAd",
    family="orthogonal",
    parent="IA3",
    update="R·W, with R turning and scaling outputs in pairs",
    paper=Paper("Liao & Monz 2024, 3-in-1: 2D Rotary Adaptation", "PEFT 0.21, RoadConfig", "2409.00119"),
    knobs=(
        Usual(
            "variant",
            ("road_1", "road_2", "road_4"),
            "Angles and scales shared by a pair, or its own for each entry.",
        ),
        Usual("group_size", (64, 32), "Outputs that are paired with each other; a matter of speed."),
    ),
    differs="Pairs of outputs are turned as well as scaled.",
    when="When one batch carries many adapters: it is applied entry by entry.",
    form="1, 2 or 4 times d_out per matrix",
    each=lambda m, c: m.out_features * int(c["variant"][-1]),
    rate=1e-2,
)
ENTRIES = (OFT, BOFT, HRA, PSOFT, OSF, ROAD)
