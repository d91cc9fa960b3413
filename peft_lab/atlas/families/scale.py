"""Types that scale what a layer computes, shift it, or train a few rows that are there already."""

from __future__ import annotations

from peft_lab.atlas.base import AtlasType, Paper, target_names
from peft_lab.models.shapes import ModelShape


def _norms(shape: ModelShape) -> list[str]:
    """Norms of the block by the last part of their path; norms outside the block come along where they share it."""
    found = [group.path.rpartition(".")[2] for group in shape.groups if group.is_norm and group.layers]
    return list(dict.fromkeys(found))


def _feedforward(shape: ModelShape) -> list[str]:
    return list(target_names(shape, ("down",)))


IA3 = AtlasType(
    type="IA3",
    title="IA³",
    family="scale",
    parent="",
    update="diag(l)·W, or W·diag(l) in the feed-forward part",
    paper=Paper("Liu et al. 2022, IA³", "section 3.3; PEFT 0.21, tuners/ia3", "2205.05638"),
    knobs=(),
    settings={"feedforward_modules": _feedforward},
    targets=("k", "v", "down"),
    differs="It starts the line: one factor for each channel, beginning at 1.",
    when="With few examples, and when the adapter has to be tiny and still merge.",
    form="d_out for keys and values, d_in for the feed-forward part",
    each=lambda m, c: m.in_features if m.path.endswith(tuple(c["feedforward_modules"])) else m.out_features,
    rate=1e-2,
    taught="ia3",
)
LN_TUNING = AtlasType(
    type="LN_TUNING",
    title="LayerNorm Tuning",
    family="scale",
    parent="",
    update="γ and β of the layer norms are trained",
    paper=Paper(
        "Zhao et al. 2024, Tuning LayerNorm in Attention", "PEFT 0.21, tuners/ln_tuning", "2312.11420"
    ),
    knobs=(),
    settings={"target_modules": _norms},
    targets=(),
    differs="It adds nothing: the norms' own scales, and biases where they have some, are trained.",
    when="As the cheapest baseline, and to move a text model to pictures and text.",
    form="parameters of the norms",
    each=lambda m, c: m.each,
    rate=1e-2,
)
BEFT = AtlasType(
    type="BEFT",
    title="BEFT",
    family="scale",
    parent="",
    update="W·x + b, with b trained on the value projections",
    paper=Paper("Huang et al. 2025, BEFT", "PEFT documentation, BEFT", "2509.15974"),
    knobs=(),
    targets=("v",),
    differs="BitFit for one place: a new bias on the values, also where the model has none.",
    when="With little data; on Llama-type models, which have no biases for BitFit.",
    form="d_out per matrix",
    each=lambda m, c: m.out_features,
    rate=1e-2,
)
TOKENS = AtlasType(
    type="TRAINABLE_TOKENS",
    title="Trainable Tokens",
    family="scale",
    parent="",
    update="chosen rows of the embedding are trained",
    paper=Paper("PEFT, Trainable Tokens (no paper)", "PEFT documentation, Trainable Tokens"),
    knobs=(),
    settings={"token_indices": list(range(16))},
    targets=(),
    differs="Only the embeddings of named tokens move.",
    when="To add new tokens to the vocabulary, alone or beside LoRA.",
    form="tokens·d",
    once=lambda shape, groups, c: len(c["token_indices"]) * shape.hidden,
    rate=1e-2,
)
ENTRIES = (IA3, LN_TUNING, BEFT, TOKENS)
