"""IA³'s targets in the paper and in PEFT, on one model of each architecture, counted.

The paper scales keys, values and the activations inside the feed-forward part. PEFT's table names modules for each
architecture; on some of them it names others.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from peft_lab.models.catalogue import catalogue
from peft_lab.models.shapes import ModelShape, ModuleGroup

PAPER = ("k", "v", "down")
# Architectures of PEFT's table that are not in the catalogue: built from transformers' default config for them.
OTHERS = ("opt", "phi", "gpt_neo")
# As the paper's vectors are called: l_k, l_v, l_ff.
_KIND = {"q": "q", "k": "k", "v": "v", "qkv": "q+k+v", "o": "o", "gate": "gate", "up": "up", "down": "ff"}


@dataclass(frozen=True)
class TargetsRow:
    """One architecture.

    Attributes:
        model: which one was counted.
        paper, peft: what is scaled: ``k, v, ff``. paper_count, peft_count: trained factors.
        fused: keys and values come from one map with the queries, so the paper's choice cannot be made.
    """

    architecture: str
    model: str
    paper: str
    peft: str
    paper_count: int
    peft_count: int
    fused: bool

    @property
    def same(self) -> bool:
        """Whether paper and PEFT name the same modules, and as many."""
        return self.paper == self.peft and self.paper_count == self.peft_count


def table() -> list[dict[str, Any]]:
    """All rows as plain values. Imports torch and peft: asked through the inspector."""
    from peft.utils.constants import (
        TRANSFORMERS_MODELS_TO_IA3_FEEDFORWARD_MODULES_MAPPING as INPUTS,
    )
    from peft.utils.constants import (
        TRANSFORMERS_MODELS_TO_IA3_TARGET_MODULES_MAPPING as TARGETS,
    )

    shapes: dict[str, ModelShape] = {}
    for entry in catalogue().values():
        shapes.setdefault(entry.shape.model_type, entry.shape)
    shapes |= {name: _default_shape(name) for name in OTHERS}
    rows = [row(shape, TARGETS[kind], INPUTS[kind]) for kind, shape in shapes.items() if kind in TARGETS]
    return [
        {**found.__dict__, "same": found.same}
        for found in sorted(rows, key=lambda found: (found.same, found.fused, found.architecture))
    ]


def row(shape: ModelShape, targets: Iterable[str], inputs: Iterable[str]) -> TargetsRow:
    """The paper's targets, by role, beside those that PEFT's names hit."""
    inputs = tuple(inputs)
    paper = [group for group in shape.groups if group.role in PAPER]
    peft = shape.match(targets).groups
    return TargetsRow(
        architecture=shape.model_type,
        model=shape.title,
        paper=_named(paper),
        peft=_named(peft),
        paper_count=sum(_size(group, group.role == "down") for group in paper),
        peft_count=sum(_size(group, any(path.endswith(inputs) for path in group.paths)) for group in peft),
        fused="qkv" in shape.block,
    )


def _size(group: ModuleGroup, on_input: bool) -> int:
    return group.count * (group.in_features if on_input else group.out_features)


def _named(groups: Iterable[ModuleGroup]) -> str:
    order = list(_KIND)
    found = sorted({str(group.role) for group in groups}, key=order.index)
    return ", ".join(_KIND[role] for role in found)


def _default_shape(architecture: str) -> ModelShape:
    from peft_lab.models import meta

    config = meta.make_config({"model_type": architecture})
    model = meta.build(config, "causal-lm")
    return meta.read_shape(model, config, "causal-lm", architecture, "default size")
