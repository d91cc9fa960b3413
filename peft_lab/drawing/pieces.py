"""The pieces a branch is built of. A piece knows its size, draws itself around a centre line, and has two ports."""

from __future__ import annotations

from typing import Literal, Protocol

from peft_lab.drawing.lanes import Lanes
from peft_lab.drawing.measure import shorten, thickness
from peft_lab.drawing.metrics import Metrics
from peft_lab.drawing.placement import Placement, is_parallel, on_sum, part_words
from peft_lab.drawing.svg import Canvas
from peft_lab.methods.base import Part
from peft_lab.models.shapes import ModuleGroup

PLUS = 7.0  # radius of a sum's circle
DOT = 1.9
Side = Literal["left", "right", "top"]


class Piece(Protocol):
    """``x`` is the left edge of the piece's body.

    Attributes:
        reach: what it needs beyond the body, left and right.
        over: what it needs above its centre line.
    """

    w: float
    h: float

    @property
    def reach(self) -> tuple[float, float]: ...

    @property
    def over(self) -> float: ...

    def ports(self, x: float) -> tuple[float, float]:
        """Where lines end at its left and begin at its right."""

    def lanes(self, found: Lanes, x: float, cy: float, start: float) -> float:
        """Add the ways through it; ``start`` is the distance at its inlet. Returns the distance at its outlet."""

    def draw(self, canvas: Canvas, x: float, cy: float) -> None: ...


class Norm:
    """A normalisation layer: no matrix, so a small box. ``output``: the side at which its bias is drawn."""

    reach = (0.0, 0.0)

    def __init__(
        self, metrics: Metrics, placement: Placement, group: ModuleGroup, output: Side = "right"
    ) -> None:
        self.w, self.h = metrics.norm
        self.over = self.h / 2
        self.metrics, self.placement, self.group, self.output = metrics, placement, group, output

    def ports(self, x: float) -> tuple[float, float]:
        return x, x + self.w

    def lanes(self, found: Lanes, x: float, cy: float, start: float) -> float:
        ends = [(x, cy), (x + self.w, cy)]
        return found.add("frozen", ends[::-1] if self.output == "left" else ends, start, self.group.path)

    def draw(self, canvas: Canvas, x: float, cy: float) -> None:
        top = cy - self.h / 2
        trained = bool(self.placement.on(self.group, "trainable"))
        with canvas.choice(self.group.path, self.placement.label(self.group), (x, top, self.w, self.h)):
            canvas.rect(x, top, self.w, self.h, "box trained" if trained else "box frozen")
            cls = "small on-trained" if trained else "small"
            canvas.text(x + self.w / 2, cy, "norm", self.metrics.small, cls)
            if self.placement.on(self.group, "bias"):
                dots(canvas, (x, top, self.w, self.h), self.output)


class Hourglass:
    """A bottleneck adapter: down to a narrow waist and up again; one in series has its own residual line over it."""

    w, h = 46.0, 34.0

    def __init__(self, metrics: Metrics, part: Part, leftwards: bool = False) -> None:
        self.metrics, self.part, self.leftwards = metrics, part, leftwards
        self.beside = is_parallel(part) or on_sum(part)  # what it is added to runs past it anyway
        self.reach = (0.0, 0.0) if self.beside else (8.0, 8.0)
        self.over = self.h / 2 + (0 if self.beside else 6)

    def ports(self, x: float) -> tuple[float, float]:
        return x, x + self.w

    def lanes(self, found: Lanes, x: float, cy: float, start: float) -> float:
        """Through the waist; one in series also over it, where what comes in goes on as it is."""
        right, over = x + self.w, cy - self.over
        through = [(x, cy), (right, cy)]
        around = [(x - 7, cy), (x - 7, over), (right + 7, over), (right + 7, cy)]
        if self.leftwards:
            through, around = through[::-1], around[::-1]
        end = found.add("trained", through, start, self.part.at)
        if not self.beside:
            found.add("frozen", around, start - 7, "")
        return end

    def draw(self, canvas: Canvas, x: float, cy: float) -> None:
        top, middle, right = self.h / 2, x + self.w / 2, x + self.w
        waist = thickness(self.part.size["width"], self.part.size["hidden"], self.h * 0.8) / 2
        if not self.beside:
            ends = (right + 7, x - 7) if self.leftwards else (x - 7, right + 7)
            canvas.arrow([(ends[0], cy), (ends[0], cy - self.over), (ends[1], cy - self.over), (ends[1], cy)])
        box = (x, cy - top, self.w, self.h + 14)
        with canvas.choice(self.part.at, f"{part_words(self.part)}, trainable", box):
            upper = [(x, cy - top), (middle, cy - waist), (right, cy - top)]
            lower = [(right, cy + top), (middle, cy + waist), (x, cy + top)]
            canvas.path([*upper, *lower], "trained", closed=True, mark="glass")
            text = f"m={self.part.size['width']}"
            canvas.text(middle, cy + top + 8, text, self.metrics.small, "small accent")


class Box:
    """A box with lines of text, (text, class) each."""

    def __init__(
        self, metrics: Metrics, w: float, h: float, rows: tuple[tuple[str, str], ...], cls: str = "box plain"
    ) -> None:
        self.metrics, self.w, self.h, self.rows, self.cls = metrics, w, h, rows, cls

    def draw(self, canvas: Canvas, x: float, cy: float) -> None:
        canvas.rect(x, cy - self.h / 2, self.w, self.h, self.cls)
        rows = []
        for text, cls in self.rows:
            size = self.metrics.name if cls.startswith("name") else self.metrics.small
            rows.append((shorten(text, self.w - 6, size, mono="note" not in cls), size, cls))
        canvas.lines(x + self.w / 2, cy, rows)


def dots(canvas: Canvas, box: tuple[float, float, float, float], side: Side) -> None:
    """Dots along one side of a box (x, y, w, h): a vector with one entry per output."""
    x, y, w, h = box
    length = w if side == "top" else h
    count = max(3, int(length / 6.5))
    for index in range(count):
        along = length * (index + 0.5) / count
        if side == "top":
            canvas.circle(x + along, y, DOT, "trained")
        else:
            canvas.circle(x if side == "left" else x + w, y + along, DOT, "trained")
