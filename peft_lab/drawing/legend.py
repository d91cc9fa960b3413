"""The legend: only what occurs in the picture."""

from __future__ import annotations

from peft_lab.drawing.cores import cells
from peft_lab.drawing.matrix import hatch
from peft_lab.drawing.measure import shorten, text_width
from peft_lab.drawing.metrics import Metrics
from peft_lab.drawing.placement import Placement
from peft_lab.drawing.svg import Canvas

SWATCH, ROW = 12.0, 18.0


def entries(placement: Placement) -> list[tuple[str, str]]:
    """(swatch, text) for each mark that is used."""
    kinds = {part.kind for part in placement.parts}
    matrices = [group for group in placement.anatomy.drawn if len(group.parameters.get("weight", ())) == 2]
    quantised = [group for group in matrices if placement.quantised(group)]
    frozen = [g for g in placement.anatomy.drawn if not placement.on(g, "trainable") and g not in quantised]
    found = []
    if frozen:
        found.append(("frozen", "frozen"))
    if quantised and placement.quantization:
        q = placement.quantization
        found.append(("quantised", f"frozen in {q.bits} bits ({q.kind.upper()})"))
        found.append(("constant", "block constants, quantised as well" if q.double else "block constants"))
    if kinds - {"quantised"}:
        found.append(("trained", "trainable"))
    if "low_rank" in kinds:
        found.append(("strip", "strip thickness = rank (log scale)"))
    if any(part.size.get("magnitude") for part in placement.parts):
        found.append(("dots", "magnitude, one per output"))
    if "bias" in kinds:
        found.append(("dots", "bias"))
    if "gate" in kinds:
        found.append(("gate", "learned factor per feature"))
    if "columns" in kinds:
        found.append(("cells", "prefix columns on K and V"))
    if "cells" in kinds:
        found.append(("cells", "virtual tokens"))
    if "bottleneck" in kinds:
        found.append(("hourglass", "adapter, waist = its width (log scale)"))
    return found


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


def _swatch(canvas: Canvas, kind: str, x: float, cy: float) -> None:
    half, y = SWATCH / 2, cy - SWATCH / 2
    if kind == "constant":
        canvas.rect(x + 3, cy - 3, 5, 5, "constant", 0)
    elif kind == "strip":
        canvas.rect(x, cy - 1.5, SWATCH, 3, "trained", 1)
    elif kind == "dots":
        for offset in (-4, 0, 4):
            canvas.circle(x + half, cy + offset, 1.7, "trained")
    elif kind == "gate":
        canvas.rect(x, y, SWATCH, SWATCH, "gate", 2)
        for offset in (3, 6, 9):
            canvas.circle(x + offset, y + offset, 1.2, "trained")
    elif kind == "cells":
        cells(canvas, x, y + 2, SWATCH, SWATCH - 4, 3, "trained cell")
    elif kind == "hourglass":
        corners = [
            (x, y),
            (x + half, cy - 1.5),
            (x + SWATCH, y),
            (x + SWATCH, y + SWATCH),
            (x + half, cy + 1.5),
            (x, y + SWATCH),
        ]
        canvas.path(corners, "trained", closed=True)
    elif kind == "quantised":
        canvas.rect(x, y, SWATCH, SWATCH, "box frozen quantised", 2)
        hatch(canvas, x, y, SWATCH, SWATCH, 4)
    else:
        canvas.rect(x, y, SWATCH, SWATCH, f"box {kind}", 2)
