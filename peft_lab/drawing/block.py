"""Draw the picture: tokens, embeddings, one block, head and legend, bottom to top along the residual stream."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from html import escape

from peft_lab.drawing import pieces, surroundings
from peft_lab.drawing.anatomy import read
from peft_lab.drawing.branch import Branch, Levels, joint
from peft_lab.drawing.pieces import PLUS, Norm
from peft_lab.drawing.placement import Placement, dims, part_words
from peft_lab.drawing.svg import NARROW, STYLE, WIDE, Canvas, Layout, Metrics, number
from peft_lab.methods.base import Part
from peft_lab.models.quantise import Quantization
from peft_lab.models.shapes import Mixture, ModelShape, ModuleGroup

FOOT = 9.0  # inside the frame, under the halves
REMARK = 20.0  # height of a remark at the frame's foot
APART = 10.0  # between the halves
BEHIND = 3.5  # offset of the frames behind it, which represent the other blocks
EDGE = 3.0


def compose(
    metrics: Metrics, placement: Placement, tokens: Sequence[str], selected: str | None, title: str
) -> tuple[str, float, float]:
    """Return the SVG, its width and its height."""
    anatomy = placement.anatomy
    branches = [Branch(metrics, placement, half, len(tokens)) for half in anatomy.halves]
    margin = EDGE + 9 + 2 * BEHIND
    m = replace(metrics, width=max([metrics.width, *(branch.reach + margin for branch in branches)]))

    canvas = Canvas(selected)
    head_y, y = surroundings.draw_head(canvas, m, placement, 4.0)
    frame_top = y + 2 * BEHIND
    y = frame_top + m.header
    levels: list[tuple[Branch, Levels]] = []
    for branch in reversed(branches):
        levels.append((branch, branch.draw(canvas, y, m.width - margin)))
        y += branch.height + APART
    frame_bottom = y - APART + FOOT + (REMARK if _remark(placement) else 0)
    y = frame_bottom + 12
    if placement.at("attention", "encoder"):
        branch, at = levels[-1]
        y = surroundings.draw_prefix_encoder(canvas, m, placement, y, at.core, at.row + branch.row / 2)
    start, looked_up, y = surroundings.draw_embedding(canvas, m, placement, y)
    strip, y = surroundings.draw_tokens(canvas, m, placement, tokens, y)
    surroundings.draw_legend(canvas, m, placement, y + 12)
    y += 12 + surroundings.legend_height(m, placement) + 2

    backdrop = Canvas(selected)
    _frame(backdrop, m, placement, frame_top, frame_bottom)
    virtual = placement.at("tokens", "cells")
    _stream(backdrop, m, placement, head_y, levels, strip if virtual else start)
    ways = _lanes(m, head_y, levels, start, looked_up)
    if virtual:
        ways.append(pieces.Lane("trained", ((m.trunk, strip), (m.trunk, start)), virtual.at, start - strip))
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="peft-block {m.layout}" role="group" '
        f'viewBox="0 0 {number(m.width)} {number(y)}" aria-label="{escape(title)}">\n'
        f"<style>{STYLE}</style>\n{backdrop}\n{canvas}\n{pieces.lanes_svg(ways)}\n</svg>"
    )
    return svg, m.width, y


def _lanes(
    m: Metrics,
    top: float,
    levels: Sequence[tuple[Branch, Levels]],
    start: float,
    looked_up: Sequence[pieces.Point],
) -> list[pieces.Lane]:
    """Return all lanes, with distances from where the embeddings meet the stream; negative before it."""
    before = pieces.Lane("flow", tuple(looked_up))
    ways = [replace(before, start=-before.length)]
    y = start
    for half, (branch, at) in enumerate(reversed(levels)):
        ways.append(pieces.Lane("stream", ((m.trunk, y), (m.trunk, at.back)), start=start - y, half=half))
        ways += pieces.placed_lanes(branch.lanes.found, start - at.leave, half)
        y = at.back
    return [*ways, pieces.Lane("stream", ((m.trunk, y), (m.trunk, top)), start=start - y, half=len(levels))]


def _frame(canvas: Canvas, m: Metrics, placement: Placement, top: float, bottom: float) -> None:
    right = m.width - EDGE - 1 - 2 * BEHIND
    for index in (2, 1, 0):
        shift = BEHIND * index
        canvas.rect(EDGE + shift, top - shift, right - EDGE, bottom - top, "frame", 8)
    anatomy = placement.anatomy
    rest = sum(count for count, _ in anatomy.others)
    count = f"one of {anatomy.layers} identical blocks" if anatomy.layers > 1 else "the only block"
    if rest:
        like = f"one of {anatomy.layers} such blocks" if anatomy.layers > 1 else "the only such block"
        count = f"{like}; {rest} differ" + ("s" if rest == 1 else "")
    label = f"{anatomy.stack}: {count}" if anatomy.stack else count
    canvas.text(right - 10, top + 14, label, m.name, "note strong", "end")
    remark = _remark(placement)
    if remark:
        canvas.text(m.first, bottom - 18, remark, m.small, "note strong", "start")


def _remark(placement: Placement) -> str:
    if placement.anatomy.side_by_side:
        return "attention and feed-forward run side by side"
    if not placement.shape.biases and not placement.parts:
        return "no biases in this model"
    return ""


def _stream(
    canvas: Canvas,
    m: Metrics,
    placement: Placement,
    top: float,
    levels: Sequence[tuple[Branch, Levels]],
    bottom: float,
) -> None:
    """Draw the residual stream from the bottom to the head, with its sums and norms."""
    y = bottom
    for branch, at in reversed(levels):
        canvas.arrow([(m.trunk, y), (m.trunk, at.back + PLUS)], "stream")
        joint(canvas, m.trunk, at.back, "+")
        y = at.back - PLUS
        if at.again is not None:
            canvas.arrow([(m.trunk, y), (m.trunk, at.again + PLUS)], "stream")
            joint(canvas, m.trunk, at.again, "+")
            y = at.again - PLUS
        if branch.half.on_stream:
            norm = Norm(m, placement, branch.half.on_stream, output="top")
            canvas.arrow([(m.trunk, y), (m.trunk, y - 6)], "stream", head=False)
            norm.draw(canvas, m.trunk - norm.w / 2, y - 6 - norm.h / 2)
            y -= 6 + norm.h
    canvas.arrow([(m.trunk, y), (m.trunk, top)], "stream", head=False)


# ----------------------------------------
# The picture's text alternative.


_PLACES = {"tokens": "the input", "attention": "the attention", "ffn": "the feed-forward part"}


def describe(placement: Placement) -> str:
    """Return the text alternative of the drawing: what is injected where, with shapes."""
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
    """Return one sentence for each kind of part, with all its modules."""
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


# ----------------------------------------
# The text in the drawing's token strip.


MOST = 12  # words handed to the strip, which shows as many as fit
_WORD = re.compile(r"\w+(?:['’]\w+)*|[^\w\s]")


def strip_of(text: str) -> tuple[str, ...]:
    """Return the first words and marks of an example, one a cell. Real tokenizers often split words further."""
    return tuple(_WORD.findall(text)[:MOST])


# ----------------------------------------
# A drawing of one transformer block, from a model's real shapes, with what a method adds to it.
#
# :func:`draw_block` returns an SVG as a string. It needs neither torch nor Streamlit.


TOKENS = ("Any", "text", "goes", "in", "here", ",", "token", "by", "token")  # if no task is chosen
PATCHES = ("class", "patch 1", "patch 2", "patch 3", "…")  # for a model that reads images
_PLAIN_4BIT = Quantization(bits=4, kind="nf4", double=False, compute_dtype="bfloat16")


@dataclass(frozen=True)
class Drawing:
    """A picture and its text alternative.

    Attributes:
        svg: self-contained: styles inside, colours follow ``color-scheme``, no ids, no scripts.
        width: natural width in CSS pixels, at which the smallest text is 11 px.
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
    """Draw one block of ``shape`` with ``parts`` in it. Equal arguments give equal text.

    Args:
        quantized: how the frozen matrices are stored; ``True`` means NF4 without double quantisation.
        selected: path of the module group (or place) to outline.
        tokens: the text in the strip at the bottom.
        layout: ``wide`` (530 and more) has every branch on one line, ``narrow`` (350) folds it into two.

    Raises:
        Unsupported: the model's blocks have no attention or feed-forward maps that are known by name.
    """
    quantization = _PLAIN_4BIT if quantized is True else (quantized or None)
    anatomy = read(shape, parts)
    placement = Placement(shape, anatomy, tuple(parts), quantization)
    metrics = NARROW if layout == "narrow" else WIDE
    title = f"One of {anatomy.layers} blocks of {shape.title}"
    # The decoder beside an encoder reads its own output, not the text.
    read_here = () if anatomy.stack == "decoder" else tuple(tokens)
    if shape.kind == "vision":
        read_here = PATCHES
    svg, width, height = compose(metrics, placement, read_here or TOKENS, selected, title)
    return Drawing(svg, describe(placement), width, height)


__all__ = ["TOKENS", "Drawing", "Layout", "draw_block", "strip_of"]
