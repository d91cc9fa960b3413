"""Draw the picture: tokens, embeddings, one block, head and legend, bottom to top along the residual stream."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from html import escape

from peft_lab.drawing import pieces
from peft_lab.drawing.branch import BlockHalf, Levels, cells, joint
from peft_lab.drawing.pieces import PLUS, Box, Matrix, Norm, hatch
from peft_lab.drawing.placement import Placement, dims, part_words, read_anatomy
from peft_lab.drawing.svg import (
    ELLIPSIS,
    NARROW,
    STYLE,
    WIDE,
    Canvas,
    Layout,
    Metrics,
    number,
    shorten,
    text_width,
)
from peft_lab.methods.base import Part
from peft_lab.models.quantise import Quantization
from peft_lab.models.shapes import Mixture, ModelShape, ModuleGroup

STRIP = 26.0  # height of the token strip
LEFT = 8.0
BRACKET = 4.0  # over the text's tokens, which are all looked up
ENCODER = 34.0


def draw_embedding(
    canvas: Canvas, m: Metrics, placement: Placement, top: float
) -> tuple[float, list[tuple[float, float]], float]:
    """Draw the embedding matrix with its norm at the left; return the y where it meets the stream, the path there
    from the tokens, and the bottom of the row."""
    anatomy = placement.anatomy
    if anatomy.embedding is None:
        return top, [(m.trunk, top + 10), (m.trunk, top)], top + 10
    matrix = Matrix(m, placement, anatomy.embedding, leftwards=True, flat=True)
    cy, bottom = top + matrix.h / 2, top + matrix.h + m.below + 10
    virtual = placement.at("tokens", "cells") is not None
    # Virtual tokens are vectors already and bypass the table, which is moved aside.
    x = max(m.column, LEFT + _cells_room(m) + 24) if virtual else m.column
    points = [(x, cy)]
    if anatomy.embedding_norm:
        norm = Norm(m, placement, anatomy.embedding_norm, output="left")
        canvas.arrow([*points, (m.first + norm.w, cy)])
        norm.draw(canvas, m.first, cy)
        points = [(m.first, cy)]
    canvas.arrow([*points, (m.trunk + 1, cy)], head=virtual)
    canvas.arrow([(x + matrix.w / 2, bottom - BRACKET), (x + matrix.w / 2, top + matrix.h)])
    matrix.draw(canvas, x, cy)
    _extras(canvas, m, placement, x + matrix.w + max(matrix.beside, 8) + 2, cy)
    middle = x + matrix.w / 2
    return cy, [(middle, bottom), (middle, cy), (m.trunk, cy)], bottom


def _extras(canvas: Canvas, m: Metrics, placement: Placement, x: float, cy: float) -> None:
    """Draw what is added to the word embeddings, without its size if that does not fit."""
    rows = []
    for group in placement.anatomy.extra_embeddings:
        name = f"+ {placement.name(group).replace('_embeddings', '')}"
        full = f"{name} {dims(group)}"
        text = (
            full if text_width(full, m.small) <= m.width - x - 6 else shorten(name, m.width - x - 6, m.small)
        )
        rows.append((text, m.small, "small accent" if placement.on(group, "trainable") else "small"))
    canvas.lines(x, cy, rows, "start")


def _cells_room(m: Metrics) -> float:
    """Return the maximum width of the virtual tokens in the strip."""
    return m.width * 0.3


def draw_tokens(
    canvas: Canvas, m: Metrics, placement: Placement, texts: Sequence[str], top: float
) -> tuple[float, float]:
    """Draw the strip, virtual tokens first, then the text; return its top and the bottom of what was drawn."""
    x = LEFT
    part, encoder = placement.at("tokens", "cells"), placement.at("tokens", "encoder")
    virtual = 0.0
    if part:
        count = part.size["tokens"]
        virtual = min(_cells_room(m), max(count * 16.0, 2 * (m.trunk - x)))
        with canvas.choice(part.at, part_words(part), (x, top, virtual, STRIP)):
            cells(canvas, x, top, virtual, STRIP, count, "trained cell")
        words = f"{count} virtual token{'s' if count > 1 else ''}"
        canvas.text(m.trunk + 8, top - 12, words, m.small, "note accent strong", "start")
        x += virtual + 4
    _texts(canvas, m, texts, x, top)
    bottom = top + STRIP
    if part and encoder:
        bottom = _token_encoder(canvas, m, part, encoder, bottom, virtual)
    return top, bottom


def _texts(canvas: Canvas, m: Metrics, texts: Sequence[str], x: float, top: float) -> None:
    """Draw as many tokens as are readable, the rest as an ellipsis."""
    room = m.width - LEFT - x
    ends = (x, m.width - LEFT)
    canvas.path(
        [(ends[0], top - 1), (ends[0], top - BRACKET), (ends[1], top - BRACKET), (ends[1], top - 1)], "flow"
    )
    widest = max(text_width(text, m.small) for text in texts) + 12
    fit = max(2, int(room / min(widest, 64)))
    row = [*texts] if fit >= len(texts) else [*texts[: fit - 1], ELLIPSIS]
    pitch = (room + 4) / len(row)
    for index, text in enumerate(row):
        left = x + index * pitch
        canvas.rect(left, top, pitch - 4, STRIP, "box plain")
        shown = shorten(text, pitch - 8, m.small)
        canvas.text(left + (pitch - 4) / 2, top + STRIP / 2, shown, m.small, "small")


def _encoder_boxes(m: Metrics, part: Part, encoder: Part) -> tuple[Box, Box]:
    """Return the boxes of the token encoder's network and of the table that it reads."""
    layers, width = encoder.size["layers"], encoder.size["width"]
    what = f"{encoder.label}, {layers} layer{'s' if layers > 1 else ''}"
    rows = ((what, "name on-trained"), (f"width {width}", "small on-trained"))
    table = (("table", "name"), (f"{part.size['tokens']}×{part.size['width']}", "small"))
    return (
        Box(m, 110 if not m.fold else 102, ENCODER, rows, "box trained"),
        Box(m, 76 if not m.fold else 70, ENCODER, table, "box trained light"),
    )


def _token_encoder(
    canvas: Canvas, m: Metrics, part: Part, encoder: Part, top: float, virtual: float
) -> float:
    """Draw a trained table under the strip, through the encoder, up to the virtual tokens; return the bottom."""
    made, table = _encoder_boxes(m, part, encoder)
    cy, second = top + 18 + ENCODER / 2, LEFT + made.w + 18
    up = LEFT + min(virtual, made.w) / 2
    canvas.arrow([(up, cy - ENCODER / 2), (up, top)], "making")
    box = (LEFT, cy - ENCODER / 2, made.w + 18 + table.w, ENCODER)
    with canvas.choice(encoder.at, part_words(encoder), box):
        made.draw(canvas, LEFT, cy)
        canvas.arrow([(second, cy), (LEFT + made.w, cy)], "making")
        table.draw(canvas, second, cy)
    canvas.text(second + table.w + 10, cy, "in training only", m.small, "note", "start")
    return cy + ENCODER / 2


def draw_prefix_encoder(
    canvas: Canvas, m: Metrics, placement: Placement, top: float, middle: float, up_to: float
) -> float:
    """Draw, between embeddings and block, a trained table, through the encoder to every layer's prefix columns."""
    encoder = placement.at("attention", "encoder")
    part = next(part for part in placement.parts if part.kind == "columns")
    assert encoder is not None
    made, table = _encoder_boxes(m, part, encoder)
    cy = top + ENCODER / 2
    x = m.width - LEFT - made.w if m.fold else middle - made.w / 2
    start = x - 18 - table.w
    canvas.arrow([(middle, top), (middle, up_to)], "making")
    with canvas.choice(encoder.at, part_words(encoder), (start, top, x + made.w - start, ENCODER)):
        made.draw(canvas, x, cy)
        table.draw(canvas, start, cy)
        canvas.arrow([(start + table.w, cy), (x, cy)], "making")
    canvas.text(start - 10, cy, "in training only", m.small, "note", "end")
    return top + ENCODER + 16


# ----------------------------------------
# Above the block: the last norm, the output matrix, and the output.


def draw_head(canvas: Canvas, m: Metrics, placement: Placement, top: float) -> tuple[float, float]:
    """Draw the last norm and the head from the stream to the right; return the row's centre line and its bottom."""
    anatomy = placement.anatomy
    matrices = [Matrix(m, placement, group, flat=True) for group in anatomy.head]
    row = max([m.matrix[1], *(matrix.h for matrix in matrices)])
    cy = top + row / 2
    points = [(m.trunk, cy)]
    if anatomy.final_norm:
        norm = Norm(m, placement, anatomy.final_norm)
        canvas.arrow([*points, (m.first, cy)])
        norm.draw(canvas, m.first, cy)
        points = [(m.first + norm.w, cy)]
    x = m.column
    for matrix in matrices:
        left, outlet = matrix.ports(x)
        canvas.arrow([*points, (left, cy)])
        matrix.draw(canvas, x, cy)
        points, x = [(outlet, cy)], x + matrix.w + m.lane + m.gap
    if not matrices and anatomy.other_side:
        box = _other_side(m, placement)
        canvas.arrow([*points, (x, cy)])
        box.draw(canvas, x, cy)
        points = [(x + box.w, cy)]
    x = points[0][0] + 18
    canvas.arrow([*points, (x, cy)])
    rows = [
        (shorten(text, m.width - 14 - x, m.small, mono=False), m.small, cls)
        for text, cls in _outcome(placement)
    ]
    canvas.lines(x + 6, cy, rows, "start")
    return cy, top + row + m.below


def _outcome(placement: Placement) -> list[tuple[str, str]]:
    shape, anatomy = placement.shape, placement.anatomy
    if shape.kind == "vision":
        return [("patch vectors", "strong")]
    if shape.kind == "encoder":
        return [("pooled vector" if anatomy.head else "token vectors", "strong")]
    rows = [("next token", "strong")]
    if anatomy.embedding and any("weight" in group.tied for group in anatomy.head):
        rows.append((f"tied to {placement.name(anatomy.embedding)}", "note"))
    return rows


def _other_side(m: Metrics, placement: Placement) -> Box:
    """Return the box of the decoder beside a T5 encoder, with the number of its modules that have parts."""
    assert placement.anatomy.other_side is not None
    title, groups = placement.anatomy.other_side
    touched = {part.at for part in placement.elsewhere if part.at.startswith(title)}
    name = (f"{title} ×{max(group.count for group in groups)}", "name")
    if not touched:
        return Box(m, m.matrix[0] + 38, m.matrix[1], (name, ("frozen", "note")))
    words = f"parts in {len(touched)} module{'s' if len(touched) > 1 else ''}"
    return Box(m, m.matrix[0] + 38, m.matrix[1], (name, (words, "note accent strong")))


# ----------------------------------------
# The legend: only marks that occur in the picture.


SWATCH, ROW = 12.0, 18.0
_PLAIN = {
    "bias": ("dots", "bias, one per output"),
    "gate": ("gate", "a factor per feature"),
    "columns": ("cells", "prefix columns on K and V"),
    "cells": ("cells", "virtual tokens"),
    "bottleneck": ("hourglass", "adapter, waist = width m (log scale)"),
}


def legend_entries(placement: Placement) -> list[tuple[str, str]]:
    """Return (swatch, text) for each mark that is used."""
    drawn = [part for part in placement.parts if part not in placement.elsewhere]
    kinds = {part.kind for part in drawn}
    groups = placement.anatomy.drawn
    entries = []
    if not all(placement.on(group, "trainable") or placement.quantised(group) for group in groups):
        entries.append(("frozen", "frozen, out×in"))
    if placement.quantization and any(placement.quantised(group) for group in groups):
        entries += _quantised(placement.quantization, placement.parts)
    if kinds - {"quantised"}:
        entries.append(("trained", "trainable"))
    if "low_rank" in kinds:
        entries.append(("strip", "strip thickness = rank (log scale)"))
    if any(part.size.get("magnitude") for part in drawn):
        entries.append(("dots", "magnitude, one per output"))
    entries += [entry for kind, entry in _PLAIN.items() if kind in kinds]
    mixture = next((half.mixture for half in placement.anatomy.halves if half.mixture), None)
    if mixture:
        entries.append(("cards", f"one of {mixture.experts} experts, ×{mixture.experts}"))
    if unseen := placement.unseen:
        entries.append(("trained", f"not drawn: {', '.join(unseen)}"))
    return entries


def _quantised(quantization: Quantization, parts: Sequence[Part]) -> list[tuple[str, str]]:
    block = next(
        (part.size["block"] for part in parts if part.kind == "quantised" and "block" in part.size), None
    )
    per = f"a constant per {block} weights" if block else "a constant per row"
    entries = [("quantised", f"frozen, {quantization.bits} bits ({quantization.kind.upper()})")]
    if quantization.double:
        return [*entries, ("hollow", f"{per}, itself in 8 bits"), ("constant", "their own constants")]
    return [*entries, ("constant", per)]


def _rows(metrics: Metrics, placement: Placement) -> list[list[tuple[float, str, str]]]:
    rows: list[list[tuple[float, str, str]]] = []
    x = metrics.width
    for swatch, text in legend_entries(placement):
        text = shorten(text, metrics.width - 40, metrics.small, mono=False)
        need = SWATCH + 6 + text_width(text, metrics.small, mono=False) + 16
        if x + need - 16 > metrics.width - 8:
            rows.append([])
            x = 10
        rows[-1].append((x, swatch, text))
        x += need
    return rows


def draw_legend(canvas: Canvas, metrics: Metrics, placement: Placement, top: float) -> None:
    """Draw the legend below ``top``."""
    for index, row in enumerate(_rows(metrics, placement)):
        cy = top + ROW * (index + 0.5)
        for x, swatch, text in row:
            _swatch(canvas, swatch, x, cy)
            canvas.text(x + SWATCH + 6, cy, text, metrics.small, "note", "start")


# A swatch, from its upper left corner: rectangles (x, y, width, height, style, corner) and dots (x, y, radius).
_BOXES: Mapping[str, Sequence[tuple[float, float, float, float, str, float]]] = {
    "constant": [(3.5, 3.5, 5, 5, "constant", 0)],
    "hollow": [(3.5, 3.5, 5, 5, "constant hollow", 0)],
    "strip": [(0, 4.5, SWATCH, 3, "trained", 1)],
    "gate": [(0, 0, SWATCH, SWATCH, "gate", 2)],
    "cards": [(at, at, SWATCH - 4, SWATCH - 4, "frame card", 1) for at in (0, 2, 4)],
    "quantised": [(0, 0, SWATCH, SWATCH, "box frozen quantised", 2)],
    **dict.fromkeys(("dots", "cells", "hourglass"), ()),
}
_DOTS: Mapping[str, Sequence[tuple[float, float, float]]] = {
    "dots": [(6, at, 1.7) for at in (2, 6, 10)],
    "gate": [(at, at, 1.2) for at in (3, 6, 9)],
}
_HOURGLASS = ((0, 0), (6, 4.5), (SWATCH, 0), (SWATCH, SWATCH), (6, 7.5), (0, SWATCH))


def _swatch(canvas: Canvas, kind: str, x: float, cy: float) -> None:
    y = cy - SWATCH / 2
    plain = [(0.0, 0.0, SWATCH, SWATCH, f"box {kind}", 2.0)]
    for left, top, width, height, style, corner in _BOXES.get(kind, plain):
        canvas.rect(x + left, y + top, width, height, style, corner)
    for left, top, radius in _DOTS.get(kind, ()):
        canvas.circle(x + left, y + top, radius, "trained")
    if kind == "cells":
        cells(canvas, x, y + 2, SWATCH, SWATCH - 4, 3, "trained cell")
    elif kind == "hourglass":
        canvas.path([(x + left, y + top) for left, top in _HOURGLASS], "trained", closed=True)
    elif kind == "quantised":
        hatch(canvas, (x, y, SWATCH, SWATCH), 4)


FOOT = 9.0  # inside the frame, under the halves
REMARK = 20.0  # height of a remark at the frame's foot
APART = 10.0  # between the halves
BEHIND = 3.5  # offset of the frames behind it, which represent the other blocks
EDGE = 3.0


def compose(
    metrics: Metrics, placement: Placement, tokens: Sequence[str], selected: str | None, title: str
) -> tuple[str, float, float]:
    """Draw the whole picture; return its SVG, its width and its height."""
    anatomy = placement.anatomy
    branches = [BlockHalf(metrics, placement, half, len(tokens)) for half in anatomy.halves]
    margin = EDGE + 9 + 2 * BEHIND
    m = replace(metrics, width=max([metrics.width, *(branch.reach + margin for branch in branches)]))

    canvas = Canvas(selected)
    head_y, y = draw_head(canvas, m, placement, 4.0)
    frame_top = y + 2 * BEHIND
    y = frame_top + m.header
    levels: list[tuple[BlockHalf, Levels]] = []
    for branch in reversed(branches):
        levels.append((branch, branch.draw(canvas, y, m.width - margin)))
        y += branch.height + APART
    frame_bottom = y - APART + FOOT + (REMARK if _remark(placement) else 0)
    y = frame_bottom + 12
    if placement.at("attention", "encoder"):
        branch, at = levels[-1]
        y = draw_prefix_encoder(canvas, m, placement, y, at.core, at.row + branch.row / 2)
    start, looked_up, y = draw_embedding(canvas, m, placement, y)
    strip, y = draw_tokens(canvas, m, placement, tokens, y)
    draw_legend(canvas, m, placement, y + 12)
    y += 12 + ROW * len(_rows(m, placement)) + 2

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
    levels: Sequence[tuple[BlockHalf, Levels]],
    start: float,
    looked_up: Sequence[pieces.Point],
) -> list[pieces.Lane]:
    """Return all lanes, with distances from where the embeddings meet the stream; negative before it."""
    before = pieces.Lane("flow", tuple(looked_up))
    ways = [replace(before, start=-before.length)]
    y = start
    for half, (branch, at) in enumerate(reversed(levels)):
        ways.append(pieces.Lane("stream", ((m.trunk, y), (m.trunk, at.back)), start=start - y, half=half))
        away = start - at.leave  # a branch's lanes count from where it leaves the stream
        ways += [replace(lane, start=lane.start + away, half=half) for lane in branch.lanes.all]
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
    return "" if placement.shape.biases or placement.parts else "no biases in this model"


def _stream(
    canvas: Canvas,
    m: Metrics,
    placement: Placement,
    top: float,
    levels: Sequence[tuple[BlockHalf, Levels]],
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
    """Return the first words and marks of an example, one per cell. Real tokenizers often split words further."""
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
    """A picture and its text alternative."""

    svg: str  # self-contained: styles inside, colours follow ``color-scheme``, no ids, no scripts
    description: str
    width: float  # natural width in CSS pixels, at which the smallest text is 11 px
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
    anatomy = read_anatomy(shape, parts)
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
