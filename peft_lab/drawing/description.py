"""The picture in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from peft_lab.drawing.placement import Placement, dims, part_words
from peft_lab.methods.base import Part
from peft_lab.models.shapes import Mixture, ModuleGroup

_PLACES = {"tokens": "the input", "attention": "the attention", "ffn": "the feed-forward part"}


def describe(placement: Placement) -> str:
    """What is injected where, with shapes: the text alternative of the drawing."""
    shape, anatomy = placement.shape, placement.anatomy
    stack = f" of the {anatomy.stack}" if anatomy.stack else ""
    count = f"One of {anatomy.layers} identical blocks"
    if anatomy.others:
        count = (
            f"One of {anatomy.layers} blocks of this form"
            if anatomy.layers > 1
            else "The only block of this form"
        )
    sentences = [
        f"{count}{stack} of {shape.title}, with the tokens at the bottom and the head "
        f"at the top. The residual stream is {shape.hidden} wide."
    ]
    sentences += [
        f"{count} other block{' has' if count == 1 else 's have'} {words}." for count, words in anatomy.others
    ]
    for half in anatomy.halves:
        named = [group for group in (*half.entry, *half.inner, half.exit) if group is not None]
        listed = ", ".join(f"{placement.name(group)} {dims(group)}" for group in named)
        sentences.append(f"{half.kind.capitalize()}: {listed}.")
        if half.mixture:
            sentences.append(
                _mixture(half.mixture, placement.name(half.router) if half.router else None, half.shared)
            )
    if placement.quantization:
        q = placement.quantization
        double = ", and their block constants in 8" if q.double else ""
        sentences.append(f"The frozen matrices are stored in {q.bits} bits ({q.kind.upper()}){double}.")
    injected = _injected(placement)
    sentences += injected
    if not injected:
        sentences.append(
            "Nothing is trainable here." + ("" if shape.biases else " This model has no biases.")
        )
    return " ".join(sentences)


def _mixture(mixture: Mixture, router: str | None, shared: Sequence[ModuleGroup]) -> str:
    by = f" {router} chooses which." if router else ""
    every = " A shared expert beside them sees every token." if shared else ""
    return f"It is a mixture of {mixture.chosen}; one is drawn for all.{by}{every}"


def _injected(placement: Placement) -> list[str]:
    """One sentence for each kind of part, with all the modules it is in."""
    groups = {group.path: group for group in (*placement.shape.groups, *placement.shape.bare)}
    where: dict[str, list[str]] = {}
    for part in placement.parts:
        if part.kind != "quantised":
            where.setdefault(part_words(part), []).append(_place(placement, part, groups))
    return [
        f"{words[0].upper()}{words[1:]} at {', '.join(dict.fromkeys(at))}." for words, at in where.items()
    ]


def _place(placement: Placement, part: Part, groups: Mapping[str, ModuleGroup]) -> str:
    group = groups.get(part.at)
    if group is None and any(part.at == mixture.path for mixture in placement.shape.mixtures):
        return "the mixture of experts"
    if group is None:
        return _PLACES.get(part.at, part.at)
    name = placement.name(group)
    if placement.anatomy.other_side and group.layers:
        side = group.path.split(".")[0]
        name = f"{side} cross-attention {name}" if "EncDec" in group.path else f"{side} {name}"
    if part.kind != "low_rank":
        return name
    rank = part.size["rank"]
    if group.stacked > 1:
        name = f"{name} of each of {group.stacked} experts"
    if part.size.get("least", rank) != rank:
        return f"{name} (A r×{group.in_features}, B {group.out_features}×r)"
    return f"{name} (A {rank}×{group.in_features}, B {group.out_features}×{rank})"
