"""Under the block: the token strip, the embeddings, and the encoders that make virtual tokens."""

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

STRIP = 26.0  # height of the token strip
LEFT = 8.0
BRACKET = 4.0  # over the text's tokens: all of them are looked up
ENCODER = 34.0


def embedding(
    canvas: Canvas, m: Metrics, placement: Placement, top: float
) -> tuple[float, list[tuple[float, float]], float]:
    """The embedding matrix, left of it its norm. Returns the y where it meets the stream, the way from the tokens
    to there, and the bottom of the row."""
    anatomy = placement.anatomy
    if anatomy.embedding is None:
        return top, [(m.trunk, top + 10), (m.trunk, top)], top + 10
    matrix = Matrix(m, placement, anatomy.embedding, leftwards=True, flat=True)
    cy, bottom = top + matrix.h / 2, top + matrix.h + m.below + 10
    virtual = placement.at("tokens", "cells") is not None
    # Virtual tokens are vectors already and go past the table, which moves out of their way.
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
    """What is added to the word embeddings, without its size where that does not fit."""
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
    """Most that the virtual tokens take of the token strip."""
    return m.width * 0.3


def tokens(
    canvas: Canvas, m: Metrics, placement: Placement, texts: Sequence[str], top: float
) -> tuple[float, float]:
    """The strip: virtual tokens first, then the text. Returns its top and the bottom of what was drawn."""
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
    """As many tokens as are readable, the rest as an ellipsis."""
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
    """The network and the table it reads."""
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
    """Under the strip: a trained table, right to left through the encoder, up into the virtual tokens."""
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


def prefix_encoder(
    canvas: Canvas, m: Metrics, placement: Placement, top: float, middle: float, up_to: float
) -> float:
    """Between embeddings and block: a trained table, through the encoder, up to the prefix columns of every layer."""
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
