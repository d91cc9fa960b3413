"""The lane under a mixture of experts: its router, how many it chooses, and the expert that every token passes."""

from __future__ import annotations

from peft_lab.drawing.anatomy import Half
from peft_lab.drawing.matrix import Matrix
from peft_lab.drawing.measure import shorten
from peft_lab.drawing.metrics import Metrics
from peft_lab.drawing.placement import Placement
from peft_lab.drawing.svg import Canvas

TOP = 4.0


class Router:
    """Stands under the row of the experts' matrices and is fed from the same line. Its ``height`` is known before."""

    def __init__(self, metrics: Metrics, placement: Placement, half: Half) -> None:
        assert half.mixture is not None
        self.m = metrics
        self.matrix = Matrix(metrics, placement, half.router) if half.router else None
        mixture = half.mixture
        if self.matrix and mixture.per_token:
            self.rows = [
                (f"router: {mixture.per_token} of {mixture.experts}", "note strong"),
                ("for each token", "note"),
            ]
        else:
            self.rows = [(f"{mixture.experts} experts", "note strong")]
            self.rows += [(f"{mixture.per_token} used per token", "note")] if mixture.per_token else []
        if half.shared:
            count = sum(bool(placement.on(g, "low_rank", "gate", "trainable", "bias")) for g in half.shared)
            words = f"shared: {count} part{'s' if count > 1 else ''}" if count else "+ shared expert"
            self.rows.append((words, "note accent strong" if count else "note"))

    @property
    def height(self) -> float:
        own = self.matrix.h if self.matrix else 0.0
        return TOP + max(own + self.m.below, len(self.rows) * self.m.small * 1.25 + 6)

    def draw(self, canvas: Canvas, top: float, feed: float) -> None:
        """``feed``: y where the line to the last of the experts' matrices leaves the vertical one."""
        m = self.m
        cy = top + TOP + (self.height - TOP - m.below) / 2
        if self.matrix:
            left, _ = self.matrix.ports(m.column)
            canvas.arrow([(m.bus, feed), (m.bus, cy), (left, cy)])
            self.matrix.draw(canvas, m.column, cy)
        x = m.column + m.matrix[0] + m.lane + m.gap
        room = m.width - x - 20
        rows = [(shorten(text, room, m.small, mono=False), m.small, cls) for text, cls in self.rows]
        canvas.lines(x, cy, rows, "start")
