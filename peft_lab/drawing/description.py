"""The picture in words."""

from __future__ import annotations

from peft_lab.drawing.placement import Placement, dims, part_words


def describe(placement: Placement) -> str:
    """What is injected where, with shapes: the text alternative of the drawing."""
    shape, anatomy = placement.shape, placement.anatomy
    stack = f" of the {anatomy.stack}" if anatomy.stack else ""
    first = (
        f"One of {anatomy.layers} identical blocks{stack} of {shape.title}, from the tokens at the bottom to the head at "
        f"the top. The residual stream is {shape.hidden} wide."
    )
    matrices = [
        f"{placement.name(group)} {dims(group)}"
        for half in anatomy.halves
        for group in (*half.entry, half.exit)
        if group is not None
    ]
    sentences = [first, f"Matrices, out×in: {', '.join(matrices)}."]
    if placement.quantization:
        q = placement.quantization
        double = ", their block constants quantised as well" if q.double else ""
        sentences.append(f"The frozen matrices are stored in {q.bits} bits ({q.kind.upper()}){double}.")
    groups = {group.path: group for group in shape.groups}
    for part in placement.parts:
        if part.kind == "quantised":
            continue
        group = groups.get(part.at)
        where = (
            placement.name(group)
            if group
            else {"tokens": "the input", "ffn": "the feed-forward part"}.get(part.at, part.at)
        )
        extra = ""
        if group is not None and part.kind == "low_rank":
            extra = f": A {part.size['rank']}×{group.in_features}, B {group.out_features}×{part.size['rank']}"
        sentences.append(f"On {where} ({part.at}): {part_words(part, group)}{extra}.")
    if all(part.kind == "quantised" for part in placement.parts):
        sentences.append("Nothing is trainable." + ("" if shape.biases else " This model has no biases."))
    return " ".join(sentences)
