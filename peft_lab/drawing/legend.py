"""The legend: only what occurs in the picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from peft_lab.drawing.cores import cells
from peft_lab.drawing.matrix import hatch
from peft_lab.drawing.measure import shorten, text_width
from peft_lab.drawing.metrics import Metrics
from peft_lab.drawing.placement import Placement
from peft_lab.drawing.svg import Canvas
from peft_lab.methods.base import Part
from peft_lab.models.quantise import Quantization

SWATCH, ROW = 12.0, 18.0
_PLAIN = {
    "bias": ("dots", "bias, one per output"),
    "gate": ("gate", "a factor per feature"),
    "columns": ("cells", "prefix columns on K and V"),
    "cells": ("cells", "virtual tokens"),
    "bottleneck": ("hourglass", "adapter, waist = width m (log scale)"),
}


def entries(placement: Placement) -> list[tuple[str, str]]:
    """(swatch, text) for each mark that is used."""
    drawn = [part for part in placement.parts if part not in placement.elsewhere]
    kinds = {part.kind for part in drawn}
    groups = placement.anatomy.drawn
    found = []
    if not all(placement.on(group, "trainable") or placement.quantised(group) for group in groups):
        found.append(("frozen", "frozen, out×in"))
    if placement.quantization and any(placement.quantised(group) for group in groups):
        found += _quantised(placement.quantization, placement.parts)
    if kinds - {"quantised"}:
        found.append(("trained", "trainable"))
    if "low_rank" in kinds:
        found.append(("strip", "strip thickness = rank (log scale)"))
    if any(part.size.get("magnitude") for part in drawn):
        found.append(("dots", "magnitude, one per output"))
    found += [entry for kind, entry in _PLAIN.items() if kind in kinds]
    mixture = next((half.mixture for half in placement.anatomy.halves if half.mixture), None)
    if mixture:
        found.append(("cards", f"one of {mixture.experts} experts, ×{mixture.experts}"))
    if unseen := placement.unseen:
        found.append(("trained", f"not drawn: {', '.join(unseen)}"))
    return found


def _quantised(quantization: Quantization, parts: Sequence[Part]) -> list[tuple[str, str]]:
    block = next(
        (part.size["block"] for part in parts if part.kind == "quantised" and "block" in part.size), None
    )
    per = f"a constant per {block} weights" if block else "a constant per row"
    found = [("quantised", f"frozen, {quantization.bits} bits ({quantization.kind.upper()})")]
    if quantization.double:
        return [*found, ("hollow", f"{per}, itself in 8 bits"), ("constant", "their own constants")]
    return [*found, ("constant", per)]


def height(metrics: Metrics, placement: Placement) -> float:
    return ROW * len(_rows(metrics, placement))


def _rows(metrics: Metrics, placement: Placement) -> list[list[tuple[float, str, str]]]:
    rows: list[list[tuple[float, str, str]]] = []
    x = metrics.width
    for swatch, text in entries(placement):
        text = shorten(text, metrics.width - 40, metrics.small, mono=False)
        need = SWATCH + 6 + text_width(text, metrics.small, mono=False) + 16
        if x + need - 16 > metrics.width - 8:
            rows.append([])
            x = 10
        rows[-1].append((x, swatch, text))
        x += need
    return rows


def draw(canvas: Canvas, metrics: Metrics, placement: Placement, top: float) -> None:
    for index, row in enumerate(_rows(metrics, placement)):
        cy = top + ROW * (index + 0.5)
        for x, swatch, text in row:
            _swatch(canvas, swatch, x, cy)
            canvas.text(x + SWATCH + 6, cy, text, metrics.small, "note", "start")


# Of a swatch, from its upper left corner: rectangles (x, y, width, height, style, corner) and dots (x, y, radius).
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
