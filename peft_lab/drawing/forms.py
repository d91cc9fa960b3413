"""Which form of block is drawn where a model's blocks differ: dense layers first, experts in every other one."""

from __future__ import annotations

from collections.abc import Sequence

from peft_lab.methods.base import Part
from peft_lab.models.shapes import ModelShape, ModuleGroup

Others = tuple[tuple[int, str], ...]


def chosen(
    shape: ModelShape, groups: Sequence[ModuleGroup], parts: Sequence[Part]
) -> tuple[list[ModuleGroup], int, Others]:
    """The groups of the form that most parts go into, among equals of the form that most blocks have.

    Two blocks are of one form when they have the same matrices and norms: T5's first block alone has a table of
    distances, and is like the others.

    Returns:
        the groups; how many blocks have that form; and how many have each of the others, with what those consist of.
    """
    forms: dict[tuple[int, ...], list[int]] = {}
    for layer in sorted({layer for group in groups for layer in group.layers}):
        form = tuple(i for i, group in enumerate(groups) if layer in group.layers and _tells(shape, group))
        forms.setdefault(form, []).append(layer)
    at = {part.at for part in parts if part.kind != "quantised"}

    def suits(form: tuple[int, ...]) -> tuple[int, int]:
        own = [groups[index] for index in form]
        reached = {group.path for group in own} | {m.path for group in own if (m := shape.mixture_of(group))}
        reached |= {
            stack.path
            for stack in shape.bare
            for group in own
            if group.layers == stack.layers and stack.path.startswith(f"{group.path}.")
        }
        return len(reached & at), len(forms[form])

    best = max(forms, key=suits)
    first = forms[best][0]
    others = tuple(
        (len(layers), _consists(shape, [groups[index] for index in form]))
        for form, layers in forms.items()
        if form != best
    )
    return [group for group in groups if first in group.layers], len(forms[best]), others


def _tells(shape: ModelShape, group: ModuleGroup) -> bool:
    return group.is_matrix or group.is_norm or shape.mixture_of(group) is not None


def _consists(shape: ModelShape, groups: Sequence[ModuleGroup]) -> str:
    """``linear attention and a mixture of experts``."""
    if any(group.role in ("q", "qkv") for group in groups):
        first = "attention"
    elif any("linear_attn" in group.path for group in groups):
        first = "linear attention"
    else:
        first = "no attention"
    if any(shape.mixture_of(group) for group in groups):
        return f"{first} and a mixture of experts"
    plain = any(group.role == "down" for group in groups)
    return f"{first} and {'a plain feed-forward part' if plain else 'no feed-forward part'}"
