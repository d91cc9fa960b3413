"""What stands between a branch's parallel matrices and its last one: attention, or the activation."""

from __future__ import annotations

import math
from collections.abc import Sequence

from peft_lab.drawing.measure import break_words, shorten
from peft_lab.drawing.metrics import Metrics
from peft_lab.drawing.pieces import PLUS
from peft_lab.drawing.placement import Placement, part_words
from peft_lab.drawing.svg import Canvas
from peft_lab.methods.base import Part

CELL = 12.0
ACTIVATION = (62.0, 24.0)
_ACTIVATIONS = {
    "gelu_pytorch_tanh": "gelu tanh",
    "gelu_new": "gelu tanh",
    "gelu_fast": "gelu tanh",
    "swish": "silu",
}


def heads_text(placement: Placement) -> tuple[str, ...]:
    shape = placement.shape
    if shape.heads == shape.kv_heads:
        return (f"{shape.heads} heads",)
    return f"{shape.heads} q heads", f"{shape.kv_heads} kv heads"


class Attention:
    """The attention box; with a prefix also the keys and values it looks at, the trained columns first."""

    def __init__(
        self,
        metrics: Metrics,
        placement: Placement,
        title: str,
        columns: Sequence[Part],
        texts: int,
        selected: str | None,
    ) -> None:
        self.metrics, self.placement, self.columns, self.texts = metrics, placement, columns, texts
        self.selected = selected
        self.w = metrics.core
        name, small = metrics.name, metrics.small
        self.rows = [(line, name, "name") for line in title.replace("-", "- ").split()]
        self.rows += [(line, small, "note") for line in heads_text(placement)]
        if columns:
            self.rows.append((f"+{columns[0].size['tokens']} columns", small, "note accent strong"))

    @property
    def least(self) -> float:
        """Least height."""
        return sum(size for _, size, _ in self.rows) * 1.2 + 12 + len(self.columns) * (CELL + 5)

    def draw(self, canvas: Canvas, x: float, cy: float, h: float) -> None:
        canvas.rect(x, cy - h / 2, self.w, h, "box plain")
        strip = len(self.columns) * (CELL + 5)
        canvas.lines(x + self.w / 2, cy - strip / 2, self.rows)
        y = cy - strip / 2 + sum(size for _, size, _ in self.rows) * 0.59 + 4
        for part in self.columns:
            self._cells(canvas, part, x + 6, y, self.w - 12)
            y += CELL + 5

    def _cells(self, canvas: Canvas, part: Part, x: float, y: float, room: float) -> None:
        count = part.size["tokens"]
        label_w = 13.0 if "," not in part.label else 0.0
        room -= label_w
        share = 0.25 + 0.4 * min(1.0, math.log1p(count) / math.log1p(256))
        pitch = room * share / count
        label = f"{part_words(part)}, in every layer"
        with canvas.choice(part.at, label, (x, y, room + label_w, CELL), part.at == self.selected):
            if label_w:
                canvas.text(x + 4, y + CELL / 2, part.label[-1].upper(), self.metrics.small, "small")
            x += label_w
            cells(canvas, x, y, room * share, CELL, count, "trained cell")
            own = room * (1 - share) - 2
            cells(canvas, x + room * share + 2, y, own, CELL, self.texts, "frozen cell")
        assert pitch > 0


def cells(canvas: Canvas, x: float, y: float, w: float, h: float, count: int, cls: str) -> None:
    """``count`` cells in a row; where they would be too thin to see, one bar with marks at its ends instead."""
    pitch = w / count
    if pitch < 2.2:
        canvas.rect(x, y, w, h, cls.replace(" cell", ""), 1)
        return
    gap = 1.0 if pitch > 4 else 0.6
    for index in range(count):
        canvas.rect(x + index * pitch, y, pitch - gap, h, cls, 1)


class Activation:
    """The nonlinearity between up and down; with a gate matrix also the product of both."""

    def __init__(self, metrics: Metrics, placement: Placement, gated: bool) -> None:
        self.metrics, self.gated = metrics, gated
        self.w, self.h = ACTIVATION
        raw = placement.shape.activation
        self.name = shorten(_ACTIVATIONS.get(raw, raw), self.w - 4, metrics.small)

    def draw(self, canvas: Canvas, x: float, cy: float, entries: Sequence[tuple[float, float]]) -> None:
        """``entries``: where the lines come from, gate first."""
        if not self.gated:
            self._box(canvas, x, cy)
            canvas.arrow([entries[0], (x, cy)])
            return
        (gate_x, gate_y), (up_x, up_y) = entries[0], entries[-1]
        middle = x + self.w / 2
        self._box(canvas, x, gate_y)
        canvas.arrow([(gate_x, gate_y), (x, gate_y)])
        canvas.arrow([(middle, gate_y + self.h / 2), (middle, cy - PLUS)])
        canvas.arrow([(up_x, up_y), (middle, up_y), (middle, cy + PLUS)])
        joint(canvas, middle, cy, "×")

    def outlet(self, x: float) -> float:
        return x + self.w / 2 + PLUS if self.gated else x + self.w

    def _box(self, canvas: Canvas, x: float, cy: float) -> None:
        canvas.rect(x, cy - self.h / 2, self.w, self.h, "box plain", 12)
        canvas.text(x + self.w / 2, cy, self.name, self.metrics.small, "small")


def joint(canvas: Canvas, x: float, y: float, sign: str) -> None:
    """A circle with a plus or a times in it, drawn with lines so that it is centred in every font."""
    canvas.circle(x, y, PLUS, "joint")
    a = 3.2 if sign == "+" else 2.4
    if sign == "+":
        canvas.segments([(x - a, y, x + a, y), (x, y - a, x, y + a)], "sign")
    else:
        canvas.segments([(x - a, y - a, x + a, y + a), (x - a, y + a, x + a, y - a)], "sign")


__all__ = ["Activation", "Attention", "break_words", "cells", "joint"]
