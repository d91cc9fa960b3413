"""Over the block: the last norm, the output matrix, and what comes out."""

from __future__ import annotations

from peft_lab.drawing.matrix import Matrix
from peft_lab.drawing.measure import shorten
from peft_lab.drawing.metrics import Metrics
from peft_lab.drawing.pieces import Box, Norm
from peft_lab.drawing.placement import Placement
from peft_lab.drawing.svg import Canvas


def head(canvas: Canvas, m: Metrics, placement: Placement, top: float) -> tuple[float, float]:
    """Draw the row, from the stream to the right. Returns its centre line and its bottom."""
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
    """The decoder behind a T5 encoder, and in how many of its modules there are parts as well."""
    assert placement.anatomy.other_side is not None
    title, groups = placement.anatomy.other_side
    touched = {part.at for part in placement.elsewhere if part.at.startswith(title)}
    name = (f"{title} ×{max(group.count for group in groups)}", "name")
    if not touched:
        return Box(m, m.matrix[0] + 38, m.matrix[1], (name, ("frozen", "note")))
    plural = "s" if len(touched) > 1 else ""
    return Box(
        m,
        m.matrix[0] + 38,
        m.matrix[1],
        (name, (f"parts in {len(touched)} module{plural}", "note accent strong")),
    )
