"""A drawing of one transformer block, from a model's real shapes, with what a method puts into it.

:func:`draw_block` makes an SVG as a string. It needs neither torch nor Streamlit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from peft_lab.drawing.anatomy import read
from peft_lab.drawing.description import describe
from peft_lab.drawing.example import strip_of
from peft_lab.drawing.metrics import NARROW, WIDE, Layout
from peft_lab.drawing.picture import compose
from peft_lab.drawing.placement import Placement
from peft_lab.methods.base import Part
from peft_lab.models.quantise import Quantization
from peft_lab.models.shapes import ModelShape

TOKENS = ("Any", "text", "goes", "in", "here", ",", "token", "by", "token")  # where no task is chosen
PATCHES = ("class", "patch 1", "patch 2", "patch 3", "…")  # of a model that reads images
_PLAIN_4BIT = Quantization(bits=4, kind="nf4", double=False, compute_dtype="bfloat16")


@dataclass(frozen=True)
class Drawing:
    """A picture and the same in words.

    Attributes:
        svg: self-contained: styles inside, colours follow ``color-scheme``, no ids, no scripts.
        width: natural width in CSS pixels; at it the smallest text is 11 px.
    """

    svg: str
    description: str
    width: float
    height: float


def draw_block(
    shape: ModelShape,
    parts: Sequence[Part] = (),
    *,
    quantized: Quantization | bool | None = None,
    selected: str | None = None,
    tokens: Sequence[str] = TOKENS,
    layout: Layout = "wide",
) -> Drawing:
    """Draw one block of ``shape`` with ``parts`` in it. The same arguments give the same text.

    Args:
        quantized: how the frozen matrices are stored; ``True`` stands for NF4 without double quantisation.
        selected: path of the module group (or place) that is outlined.
        tokens: the text in the strip at the bottom.
        layout: ``wide`` (530 and more) has every branch on one line, ``narrow`` (350) folds it in two.

    Raises:
        Unsupported: the model's blocks have no attention and feed-forward maps that are known by name.
    """
    quantization = _PLAIN_4BIT if quantized is True else (quantized or None)
    anatomy = read(shape, parts)
    placement = Placement(shape, anatomy, tuple(parts), quantization)
    metrics = NARROW if layout == "narrow" else WIDE
    title = f"One of {anatomy.layers} blocks of {shape.title}"
    # Beside an encoder, a decoder reads what it wrote itself and not the text.
    read_here = () if anatomy.stack == "decoder" else tuple(tokens)
    if shape.kind == "vision":
        read_here = PATCHES
    svg, width, height = compose(metrics, placement, read_here or TOKENS, selected, title)
    return Drawing(svg, describe(placement), width, height)


__all__ = ["TOKENS", "Drawing", "Layout", "draw_block", "strip_of"]
