"""Types that train a few entries of W and leave the others alone."""

from __future__ import annotations

from peft_lab.atlas.base import AtlasType, Paper, Usual

SHIRA = AtlasType(
    type="SHIRA",
    title="SHiRA",
    family="sparse",
    parent="",
    update="W + S, with S zero but at chosen places",
    paper=Paper("Bhardwaj et al. 2024, SHiRA", "PEFT documentation, SHiRA", "2406.13175"),
    knobs=(Usual("r", (32, 8), "As many entries as a LoRA of this rank would have."),),
    settings={"mask_type": "random", "random_seed": 0},
    differs="It starts the line: entries of W themselves, at random places by default.",
    when="When adapters are switched often in merged weights: only few entries change.",
    form="r·(d_in + d_out) per matrix",
    each=lambda m, c: c["r"] * (m.in_features + m.out_features),
)
SUPERTUNING = AtlasType(
    type="SUPERTUNING",
    title="Super-Tuning",
    family="sparse",
    parent="SHIRA",
    update="W + S, with S zero but where |W| is largest",
    paper=Paper("Super-Tuning 2026", "PEFT 0.21, SupertuningConfig", "2607.09287"),
    knobs=(Usual("sparsity", (0.99, 0.999), "Share of the entries that stay."),),
    differs="The places are those of W's largest entries, and are found without data.",
    when="As SHiRA, without a random choice.",
    form="(1 − sparsity)·d_in·d_out per matrix",
    each=lambda m, c: int(m.in_features * m.out_features * (1 - c["sparsity"])),
)
ENTRIES = (SHIRA, SUPERTUNING)
