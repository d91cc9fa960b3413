"""What is under the block and over it: tokens, embeddings, prompt encoders, head."""

from __future__ import annotations

from collections.abc import Sequence

from peft_lab.drawing.cores import cells
from peft_lab.drawing.matrix import Matrix
from peft_lab.drawing.measure import ELLIPSIS, shorten, text_width
from peft_lab.drawing.metrics import Metrics
from peft_lab.drawing.pieces import Box, Norm
from peft_lab.drawing.placement import Placement, dims, part_words
from peft_lab.drawing.svg import Canvas
from peft_lab.methods.base import Part

STRIP = 26.0
ENCODER = 34.0


def column(m: Metrics) -> float:
    """x where the parallel matrices of the branches stand."""
    return m.trunk + (24 + m.norm[0] + 8 + 24 if not m.fold else 20 + m.norm[0] + 5 + 20)


def head(
    canvas: Canvas, m: Metrics, placement: Placement, top: float, selected: str | None
) -> tuple[float, float]:
    """From the stream to the right: norm, output matrix, what comes out. Returns the row's centre and its bottom."""
    anatomy = placement.anatomy
    matrices = [Matrix(m, placement, group, selected, flat=True) for group in anatomy.head]
    row = max([m.matrix[1], *(matrix.h for matrix in matrices)])
    cy = top + row / 2
    x = m.trunk + (24 if not m.fold else 20)
    points = [(m.trunk, cy)]
    if anatomy.final_norm:
        norm = Norm(m, placement, anatomy.final_norm, selected)
        canvas.arrow([*points, (x, cy)], "flow")
        norm.draw(canvas, x, cy)
        points = [(x + norm.w, cy)]
    x = column(m)
    for matrix in matrices:
        left, outlet = matrix.ports(x)
        canvas.arrow([*points, (left, cy)])
        matrix.draw(canvas, x, cy)
        points = [(outlet, cy)]
        x += matrix.w + m.lane + m.gap
    if not anatomy.head and anatomy.other_side:
        box = _other_side(m, placement)
        canvas.arrow([*points, (x, cy)])
        box.draw(canvas, x, cy)
        points, x = [(x + box.w, cy)], x + box.w + 20
    rows = _outcome(placement)
    canvas.arrow([*points, (max(points[0][0] + 14, x - m.lane + 6), cy)])
    x = max(points[0][0] + 20, x - m.lane + 12)
    room = m.width - 8 - x
    canvas.lines(
        x, cy, [(shorten(text, room, m.small, mono=False), m.small, cls) for text, cls in rows], "start"
    )
    return cy, top + row + m.below


def _outcome(placement: Placement) -> list[tuple[str, str]]:
    shape, anatomy = placement.shape, placement.anatomy
    rows = [("pooled vector" if shape.kind == "encoder" and anatomy.head else "next token", "strong")]
    if shape.kind == "encoder" and not anatomy.head:
        rows = [("token vectors", "strong")]
    tied = any("weight" in group.tied for group in anatomy.head)
    if tied and anatomy.embedding:
        rows.append((f"shares {placement.name(anatomy.embedding)}", "note"))
    return rows


def _other_side(m: Metrics, placement: Placement) -> Box:
    assert placement.anatomy.other_side is not None
    title, groups = placement.anatomy.other_side
    touched = {part.at for part in placement.elsewhere if part.at.startswith(title)}
    layers = max(group.count for group in groups)
    rows = [(f"{title} ×{layers}", "name")]
    rows.append((f"parts on {len(touched)} maps", "note accent strong") if touched else ("not drawn", "note"))
    return Box(m, m.matrix[0] + 34, m.matrix[1], tuple(rows))


def embedding(
    canvas: Canvas, m: Metrics, placement: Placement, top: float, selected: str | None
) -> tuple[float, float]:
    """The embedding matrix, left of it its norm. Returns the y where the stream begins, and the bottom of the row."""
    anatomy = placement.anatomy
    if anatomy.embedding is None:
        return top, top + 10
    matrix = Matrix(m, placement, anatomy.embedding, selected, leftwards=True, flat=True)
    cy = top + matrix.h / 2
    x = column(m)
    if placement.at("tokens", "cells"):
        x = max(x, 8 + cells_room(m) + 24)
    points = [(x, cy)]
    norm = anatomy.embedding_norm
    if norm:
        box = Norm(m, placement, norm, selected)
        at = m.trunk + (24 if not m.fold else 20)
        canvas.arrow([*points, (at + box.w, cy)])
        box.draw(canvas, at, cy)
        points = [(at, cy)]
    canvas.arrow([*points, (m.trunk + 1, cy)], head=bool(placement.at("tokens", "cells")))
    bottom = top + matrix.h + m.below
    canvas.arrow([(x + matrix.w / 2, bottom + 10), (x + matrix.w / 2, top + matrix.h)])
    matrix.draw(canvas, x, cy)
    at = x + matrix.w + (m.lane if matrix.low_rank else 10)
    lines = [f"+ {placement.name(g).replace('_embeddings', '')} {dims(g)}" for g in anatomy.extra_embeddings]
    cls = "small accent" if any(placement.on(g, "trainable") for g in anatomy.extra_embeddings) else "small"
    canvas.lines(
        at, cy, [(shorten(line, m.width - at - 6, m.small), m.small, cls) for line in lines], "start"
    )
    return cy, bottom + 10


def cells_room(m: Metrics) -> float:
    """Most that the virtual tokens take of the token strip."""
    return m.width * 0.3


def tokens(
    canvas: Canvas, m: Metrics, placement: Placement, texts: Sequence[str], top: float, selected: str | None
) -> tuple[float, float]:
    """The strip: virtual tokens first, then the text. Returns its top and the bottom of what was drawn."""
    x, right = 8.0, m.width - 8
    part = placement.at("tokens", "cells")
    virtual = 0.0
    if part:
        count = part.size["tokens"]
        virtual = min(cells_room(m), max(count * 16.0, 2 * (m.trunk - x)))
        label = f"{part_words(part)}"
        with canvas.choice(part.at, label, (x, top, virtual, STRIP), part.at == selected):
            cells(canvas, x, top, virtual, STRIP, count, "trained cell")
        words = f"{count} virtual token{'s' if count > 1 else ''}"
        canvas.text(m.trunk + 8, top - 9, words, m.small, "note accent strong", "start")
        x += virtual + 6
    widest = max(text_width(text, m.small) for text in texts) + 10
    shown = min(len(texts), max(2, int((right - x) / min(widest, 60))))
    row = [*texts] if shown == len(texts) else [*texts[: shown - 1], ELLIPSIS]
    pitch = (right - x) / len(row)
    for index, text in enumerate(row):
        left = x + index * pitch
        canvas.rect(left, top, pitch - 4, STRIP, "box plain")
        canvas.text(
            left + (pitch - 4) / 2, top + STRIP / 2, shorten(text, pitch - 10, m.small), m.small, "small"
        )
    bottom = top + STRIP
    encoder = placement.at("tokens", "encoder")
    if part and encoder:
        bottom = _token_encoder(canvas, m, part, encoder, bottom, virtual, selected)
    return top, bottom


def _encoder_boxes(m: Metrics, part: Part, encoder: Part) -> tuple[Box, Box]:
    count = "1 layer" if encoder.size["layers"] == 1 else f"{encoder.size['layers']} layers"
    made = Box(
        m, 108 if not m.fold else 100, ENCODER,
        ((f"{encoder.label}, {count}", "name on-trained"), (f"width {encoder.size['width']}", "small on-trained")), "box trained",
    )  # fmt: skip
    table = Box(
        m, 84 if not m.fold else 72, ENCODER,
        (("table", "name"), (f"{part.size['tokens']}×{part.size['width']}", "small")), "box light-box",
    )  # fmt: skip
    return made, table


def _token_encoder(
    canvas: Canvas, m: Metrics, part: Part, encoder: Part, top: float, virtual: float, selected: str | None
) -> float:
    """Under the strip: a trained table, right to left through the encoder, up into the virtual tokens."""
    made, table = _encoder_boxes(m, part, encoder)
    x, cy = 8.0, top + 18 + ENCODER / 2
    up = x + min(virtual, made.w) / 2
    canvas.arrow([(up, cy - ENCODER / 2), (up, top)], "making")
    label = part_words(encoder)
    with canvas.choice(
        encoder.at, label, (x, cy - ENCODER / 2, made.w + 18 + table.w, ENCODER), encoder.at == selected
    ):
        made.draw(canvas, x, cy)
        canvas.arrow([(x + made.w + 18, cy), (x + made.w, cy)], "making")
        table.draw(canvas, x + made.w + 18, cy)
    canvas.text(x + made.w + table.w + 28, cy, "in training only", m.small, "note", "start")
    return cy + ENCODER / 2


def prefix_encoder(
    canvas: Canvas,
    m: Metrics,
    placement: Placement,
    top: float,
    middle: float,
    up_to: float,
    selected: str | None,
) -> float:
    """Between embeddings and block: a trained table, through the encoder, up to the prefix columns of every layer."""
    encoder = placement.at("attention", "encoder")
    part = next(part for part in placement.parts if part.kind == "columns")
    assert encoder is not None
    made, table = _encoder_boxes(m, part, encoder)
    cy = top + ENCODER / 2
    x = min(middle - made.w / 2, m.width - 8 - made.w)
    start = x - 18 - table.w
    canvas.arrow([(middle, top), (middle, up_to)], "making")
    label = part_words(encoder)
    with canvas.choice(encoder.at, label, (start, top, x + made.w - start, ENCODER), encoder.at == selected):
        made.draw(canvas, x, cy)
        table.draw(canvas, start, cy)
        canvas.arrow([(start + table.w, cy), (x, cy)], "making")
    canvas.text(start - 10, cy, "in training only", m.small, "note", "end")
    return top + ENCODER + 16
