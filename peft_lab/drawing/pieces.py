"""The pieces a branch is built of. A piece knows its size, draws itself around a centre line, and has two ports."""

from __future__ import annotations

from typing import Protocol

from peft_lab.drawing.measure import LINE, break_name, shorten, text_width
from peft_lab.drawing.metrics import Metrics
from peft_lab.drawing.placement import Placement, dims, part_words
from peft_lab.drawing.svg import Canvas
from peft_lab.methods.base import Part
from peft_lab.shapes import ModuleGroup

HOURGLASS = (46.0, 36.0)
PLUS = 7.0


class Piece(Protocol):
    """``x`` is the left edge of the piece's body; ``reach`` is what it needs beyond the body (left, right)."""

    w: float
    h: float

    @property
    def reach(self) -> tuple[float, float]: ...

    def ports(self, x: float) -> tuple[float, float]:
        """Where lines end at its left and begin at its right."""

    def draw(self, canvas: Canvas, x: float, cy: float) -> None: ...


class Norm:
    """A normalisation layer: no matrix, so a small box."""

    def __init__(
        self, metrics: Metrics, placement: Placement, group: ModuleGroup, selected: str | None
    ) -> None:
        self.w, self.h = metrics.norm
        self.metrics, self.placement, self.group, self.selected = metrics, placement, group, selected

    @property
    def reach(self) -> tuple[float, float]:
        return 0.0, 0.0

    def ports(self, x: float) -> tuple[float, float]:
        return x, x + self.w

    def draw(self, canvas: Canvas, x: float, cy: float) -> None:
        label = self.placement.label(self.group)
        trained = bool(self.placement.on(self.group, "trainable"))
        with canvas.choice(
            self.group.path, label, (x, cy - self.h / 2, self.w, self.h), self.group.path == self.selected
        ):
            canvas.rect(x, cy - self.h / 2, self.w, self.h, "box trained" if trained else "box frozen")
            canvas.text(
                x + self.w / 2, cy, "norm", self.metrics.small, "small on-trained" if trained else "small"
            )
            if self.placement.on(self.group, "bias"):
                dots(canvas, x + self.w, cy, self.h)


class Hourglass:
    """A bottleneck adapter: down to a narrow waist and up again, with the sum around it."""

    w, h = HOURGLASS

    def __init__(self, metrics: Metrics, part: Part, selected: str | None) -> None:
        self.metrics, self.part, self.selected = metrics, part, selected

    @property
    def reach(self) -> tuple[float, float]:
        return 4.0, 4.0

    def ports(self, x: float) -> tuple[float, float]:
        return x, x + self.w

    def draw(self, canvas: Canvas, x: float, cy: float) -> None:
        from peft_lab.drawing.measure import thickness

        top, middle, right = self.h / 2, x + self.w / 2, x + self.w
        waist = thickness(self.part.size["width"], self.part.size.get("hidden", 4096), self.h * 0.8) / 2
        label = f"{part_words(self.part)}, trainable"
        with canvas.choice(
            self.part.at, label, (x, cy - top, self.w, self.h + 16), self.part.at == self.selected
        ):
            canvas.path(
                [(x, cy - top), (middle, cy - waist), (right, cy - top), (right, cy + top), (middle, cy + waist), (x, cy + top)],
                "trained", closed=True,
            )  # fmt: skip
            text = f"m={self.part.size['width']}"
            canvas.text(middle, cy + top + 9, text, self.metrics.small, "small accent")


def dots(canvas: Canvas, x: float, cy: float, h: float, cls: str = "trained") -> None:
    """A column of dots: a vector with one entry per output."""
    count = max(3, int(h / 6.5))
    pitch = h / count
    for index in range(count):
        canvas.circle(x, cy - h / 2 + pitch * (index + 0.5), 1.9, cls)


class Box:
    """A plain box with lines of text: something of the model without parameters of its own, or outside the picture."""

    def __init__(
        self, metrics: Metrics, w: float, h: float, rows: tuple[tuple[str, str], ...], cls: str = "box plain"
    ) -> None:
        self.metrics, self.w, self.h, self.rows, self.cls = metrics, w, h, rows, cls

    @property
    def reach(self) -> tuple[float, float]:
        return 0.0, 0.0

    def ports(self, x: float) -> tuple[float, float]:
        return x, x + self.w

    def draw(self, canvas: Canvas, x: float, cy: float) -> None:
        canvas.rect(x, cy - self.h / 2, self.w, self.h, self.cls)
        small, name = self.metrics.small, self.metrics.name
        sized = [(name if "name" in cls else small, text, cls) for text, cls in self.rows]
        rows = [
            (shorten(text, self.w - 6, size, mono="note" not in cls), size, cls) for size, text, cls in sized
        ]
        canvas.lines(x + self.w / 2, cy, rows)


def matrix_text(metrics: Metrics, name: str, size: str, room: float) -> list[tuple[str, float, str]]:
    """Name and shape of a matrix as lines that fit into ``room``."""
    lines = [(line, metrics.name, "name") for line in break_name(name, room, metrics.name)]
    return [*lines, (shorten(size, room, metrics.small), metrics.small, "small")]


def text_height(rows: list[tuple[str, float, str]]) -> float:
    return sum(size for _, size, _ in rows) * LINE


def matrix_rows(
    metrics: Metrics, placement: Placement, group: ModuleGroup, room: float
) -> list[tuple[str, float, str]]:
    return matrix_text(metrics, placement.name(group), dims(group), room)


__all__ = ["Box", "Hourglass", "Norm", "Piece", "dots", "matrix_rows", "text_height", "text_width"]
