"""Types whose update is a product of two thin matrices, or several of them side by side."""

from __future__ import annotations

from peft_lab.atlas.base import AtlasType, Paper, Usual

LORA = AtlasType(
    type="LORA",
    title="LoRA",
    family="low_rank",
    parent="",
    update="W + (α/r)·B·A",
    paper=Paper("Hu et al. 2021, LoRA", "section 4.1; PEFT 0.21, tuners/lora", "2106.09685"),
    knobs=(
        Usual("r", (16, 8, 64), "Rank of ΔW: the width between A and B."),
        Usual("lora_alpha", (32, 16), "Scales ΔW by alpha / r."),
    ),
    differs="It starts the line: most types here change one thing about it.",
    when="First choice for almost any job: it merges, everything serves it, and its settings are known.",
    form="r·(d_in + d_out) per matrix",
    each=lambda m, c: c["r"] * (m.in_features + m.out_features),
    taught="lora",
)
ADALORA = AtlasType(
    type="ADALORA",
    title="AdaLoRA",
    family="low_rank",
    parent="LORA",
    update="W + (α/r)·P·diag(λ)·Q, with the smallest λ cut during training",
    paper=Paper(
        "Zhang et al. 2023, AdaLoRA", "PEFT 0.21, tuners/adalora and its documentation", "2303.10512"
    ),
    knobs=(
        Usual("init_r", (12, 24), "Rank every matrix starts with."),
        Usual("target_r", (8, 16), "Mean rank that is left at the end."),
    ),
    settings={"total_step": 1000, "tinit": 100, "tfinal": 200},
    differs="The rank is one budget for the model: singular values that matter little are cut while it trains.",
    when="When ranks per layer are to be found by training, and a call after every step is no trouble.",
    form="init_r·(d_in + d_out) + init_r per matrix",
    each=lambda m, c: c["init_r"] * (m.in_features + m.out_features + 1),
)
DELORA = AtlasType(
    type="DELORA",
    title="DeLoRA",
    family="low_rank",
    parent="LORA",
    update="W + (λ/r)·B·Ξ·A·diag(‖w‖), every rank-one part scaled to length 1, ‖w‖ the lengths of W's columns",
    paper=Paper(
        "Bini et al. 2025, DeLoRA", "PEFT documentation, DeLoRA; tuners/delora/layer.py", "2503.18225"
    ),
    knobs=(
        Usual("r", (8, 32), "Rank of ΔW."),
        Usual("delora_lambda", (15, 10), "Where the bound on ΔW's size starts; it is trained too."),
    ),
    differs="Direction and size are apart: rank-one parts have length 1, and one trained number bounds their sum.",
    when="When LoRA is too sensitive to its rate; it takes rates 10 to 100 times as large.",
    form="r·(d_in + d_out) + 1 per matrix",
    each=lambda m, c: c["r"] * (m.in_features + m.out_features) + 1,
)
GRALORA = AtlasType(
    type="GRALORA",
    title="GraLoRA",
    family="low_rank",
    parent="LORA",
    update="W + (α/r)·a k×k grid of blocks B_ij·A_ij, each of rank r/k",
    paper=Paper("Jung et al. 2025, GraLoRA", "PEFT documentation, GraLoRA", "2505.20355"),
    knobs=(
        Usual("r", (32, 16), "Rank of all blocks together; the same count as LoRA of that rank."),
        Usual("gralora_k", (2, 4), "Blocks a side; r has to be divisible by it."),
        Usual("alpha", (64, 32), "Scales ΔW by alpha / r."),
    ),
    differs="ΔW is cut into a grid with a small LoRA in every block: up to k times the rank for the same count.",
    when="At high ranks, where plain LoRA stops getting better.",
    form="r·(d_in + d_out) per matrix",
    each=lambda m, c: c["r"] * (m.in_features + m.out_features),
)
GLORA = AtlasType(
    type="GLORA",
    title="GLoRA",
    family="low_rank",
    parent="LORA",
    update="W + W ⊙ A + B, and bias b + b ⊙ D + E + W·C, with A and B of rank r",
    paper=Paper("Chavan et al. 2023, GLoRA", "PEFT 0.21, GloraConfig; arXiv listing", "2306.07967"),
    knobs=(
        Usual("r", (8, 4), "Rank of A, B and C."),
        Usual(
            "config_A_B",
            ("lora", "vector"),
            "Form of A and B: a low-rank product, a vector, a number, or none.",
        ),
    ),
    differs="Besides adding to W it scales W and moves the bias, each part in a form of its own.",
    when="To search for the form itself; for a plain job it is more settings than LoRA.",
)
MISS = AtlasType(
    type="MISS",
    title="MiSS",
    family="low_rank",
    parent="LORA",
    update="W + one d_out×r matrix repeated along the inputs",
    paper=Paper("Kang & Yin 2024, MiSS", "PEFT documentation, MiSS; tuners/miss/layer.py", "2409.15371"),
    knobs=(Usual("r", (64, 32), "Columns of the one matrix; the inputs are summed into this many numbers."),),
    differs="One trained matrix instead of two, shared by all shards of W.",
    when="As a drop-in for LoRA that starts as fast and costs less to train.",
    form="r·d_out per matrix; with the start 'mini' r·mini_r",
    each=lambda m, c: c["r"] * (c["mini_r"] if c.get("init_weights") == "mini" else m.out_features),
)
DEFT = AtlasType(
    type="DEFT",
    title="DEFT",
    family="low_rank",
    parent="LORA",
    update="(I − P·relu(P)ᵀ)·W + P·R",
    paper=Paper(
        "Kumar et al. 2025, DEFT",
        "PEFT documentation, DEFT; PEFT 0.21, DeftConfig; arXiv abstract",
        "2509.22793",
    ),
    knobs=(Usual("r", (8, 32), "Rank of what is taken out of W, and of what is put in."),),
    differs="It removes a subspace of W before it writes into it.",
    when="To teach a picture model a concept from a few images and keep it obedient.",
    form="r·(d_in + d_out) per matrix; with para r·d_out",
    each=lambda m, c: c["r"] * (m.out_features + (0 if c.get("para") else m.in_features)),
)
PEANUT = AtlasType(
    type="PEANUT",
    title="PEANuT",
    family="low_rank",
    parent="LORA",
    update="W + s·f(W·A)·B, a small network that reads W",
    paper=Paper(
        "Zhong et al. 2024, PEANuT", "PEFT documentation, PEANuT; tuners/peanut/layer.py", "2410.01870"
    ),
    knobs=(
        Usual("r", (32, 16), "Width of the small network."),
        Usual("depth", (0, 1), "Hidden pairs of layers between A and B."),
    ),
    differs="ΔW is computed from W by a small network with a nonlinearity, not from the two matrices alone.",
    when="At very small counts, where LoRA has run out of rank; ΔW is built in full at every step.",
    form="2·r·d_out + 2·depth·r² per matrix",
    each=lambda m, c: 2 * c["r"] * m.out_features + 2 * c["depth"] * c["r"] ** 2,
)
ENTRIES = (LORA, ADALORA, DELORA, GRALORA, GLORA, MISS, DEFT, PEANUT)
