"""Draw the pieces of a branch. A piece knows its size, draws itself around a centre line, and has two ports."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from peft_lab.drawing.placement import Placement, dims, is_parallel, on_sum, part_words
from peft_lab.drawing.svg import LINE, Canvas, Metrics, break_name, element, number, shorten, side, thickness
from peft_lab.methods.base import Part
from peft_lab.models.shapes import PARAMETER, ModuleGroup

# ----------------------------------------
# Invisible paths along which data passes, for a page that moves dots along them.
#
# ``data-from`` is the distance in user units that a dot which entered the residual stream at the bottom has
# travelled where the lane begins. Dots on one common clock then split and meet correctly, without any knowledge of
# how the lines are connected.


Point = tuple[float, float]
#: ``stream``: residual; ``flow``: any other line; ``frozen``: through a matrix; ``trained``: what a method adds.
LaneKind = Literal["stream", "flow", "frozen", "trained"]


@dataclass(frozen=True)
class Lane:
    """One path along which data passes."""

    kind: LaneKind
    points: tuple[Point, ...]
    # path of the module or place whose part it passes, as in the drawing's ``data-path``; empty without one
    of: str = ""
    start: float = 0.0  # distance travelled at its start; in a branch, since it left the stream
    half: int = -1  # index of its half of the block, from the bottom; -1 outside the halves

    @property
    def length(self) -> float:
        return sum(math.dist(a, b) for a, b in itertools.pairwise(self.points))

    @property
    def end(self) -> float:
        return self.start + self.length


class Lanes:
    """Collects the lanes of one branch."""

    def __init__(self) -> None:
        self.all: list[Lane] = []

    def add(self, kind: LaneKind, points: Iterable[Point], start: float, of: str = "") -> float:
        """Add a lane that begins at distance ``start``; return the distance at its end."""
        lane = Lane(kind, tuple(points), of, start)
        self.all.append(lane)
        return lane.end


def lanes_svg(lanes: Sequence[Lane]) -> str:
    """Return the lanes as an invisible group."""
    paths = ""
    for lane in lanes:
        steps = " L".join(f"{x:.1f} {y:.1f}" for x, y in lane.points)
        about = {"data_lane": lane.kind, "data_of": lane.of or None, "data_from": f"{lane.start:.1f}"}
        paths += element("path", class_="lane", **about, data_half=lane.half, d=f"M{steps}") + "\n"
    return element("g", f"\n{paths}", class_="lanes", aria_hidden="true")


PLUS = 7.0  # radius of a sum's circle
DOT = 1.9
Side = Literal["left", "right", "top"]


class DrawnPiece(Protocol):
    """A piece of a branch; ``x`` is the left edge of its body.

    Attributes:
        reach: room needed beside the body, left and right.
        over: room needed above its centre line.
    """

    w: float
    h: float

    @property
    def reach(self) -> tuple[float, float]: ...

    @property
    def over(self) -> float: ...

    def ports(self, x: float) -> tuple[float, float]:
        """Return the x where lines end at its left and begin at its right."""

    def lanes(self, ways: Lanes, x: float, cy: float, start: float) -> float:
        """Add this piece's lanes, the inlet being at distance ``start``; return the distance of the outlet."""

    def draw(self, canvas: Canvas, x: float, cy: float) -> None: ...


class Norm:
    """A normalisation layer, a small box as it has no matrix. ``output``: the side at which its bias is drawn."""

    reach = (0.0, 0.0)

    def __init__(
        self, metrics: Metrics, placement: Placement, group: ModuleGroup, output: Side = "right"
    ) -> None:
        self.w, self.h = metrics.norm
        self.over = self.h / 2
        self.metrics, self.placement, self.group, self.output = metrics, placement, group, output

    def ports(self, x: float) -> tuple[float, float]:
        return x, x + self.w

    def lanes(self, ways: Lanes, x: float, cy: float, start: float) -> float:
        ends = [(x, cy), (x + self.w, cy)]
        return ways.add("frozen", ends[::-1] if self.output == "left" else ends, start, self.group.path)

    def draw(self, canvas: Canvas, x: float, cy: float) -> None:
        top = cy - self.h / 2
        trained = bool(self.placement.on(self.group, "trainable"))
        with canvas.choice(self.group.path, self.placement.label(self.group), (x, top, self.w, self.h)):
            canvas.rect(x, top, self.w, self.h, "box trained" if trained else "box frozen")
            cls = "small on-trained" if trained else "small"
            canvas.text(x + self.w / 2, cy, "norm", self.metrics.small, cls)
            if self.placement.on(self.group, "bias"):
                dots(canvas, (x, top, self.w, self.h), self.output)


class DrawnHourglass:
    """A bottleneck adapter: down to a narrow waist and up again; in series, with its own residual line above."""

    w, h = 46.0, 34.0

    def __init__(self, metrics: Metrics, part: Part, leftwards: bool = False) -> None:
        self.metrics, self.part, self.leftwards = metrics, part, leftwards
        self.beside = is_parallel(part) or on_sum(part)  # the output that it is added to already bypasses it
        self.reach = (0.0, 0.0) if self.beside else (8.0, 8.0)
        self.over = self.h / 2 + (0 if self.beside else 6)

    def ports(self, x: float) -> tuple[float, float]:
        return x, x + self.w

    def lanes(self, ways: Lanes, x: float, cy: float, start: float) -> float:
        """Add the lane through the waist; in series also the one above it, on which the input passes unchanged."""
        right, over = x + self.w, cy - self.over
        through = [(x, cy), (right, cy)]
        around = [(x - 7, cy), (x - 7, over), (right + 7, over), (right + 7, cy)]
        if self.leftwards:
            through, around = through[::-1], around[::-1]
        end = ways.add("trained", through, start, self.part.at)
        if not self.beside:
            ways.add("frozen", around, start - 7, "")
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
    """A box with lines of text, given as (text, class)."""

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
    """Draw dots along one side of a box (x, y, w, h), for a vector with one entry per output."""
    x, y, w, h = box
    length = w if side == "top" else h
    count = max(3, int(length / 6.5))
    for index in range(count):
        along = length * (index + 0.5) / count
        if side == "top":
            canvas.circle(x + along, y, DOT, "trained")
        else:
            canvas.circle(x if side == "left" else x + w, y + along, DOT, "trained")


# ----------------------------------------
# A weight matrix, with what a method does to it: strips, dots, a gate, hatching.


GATE = 20.0
CONSTANTS = 10.0  # room for the block constants at the left
LETTER = 7.0
CARDS, CARD = 2, 3.0  # behind a matrix that represents those of all experts, and their offset
SHORTEST, TALLEST = 0.6, 2.0  # relative to the height of hidden x hidden


class Matrix:
    """One matrix, out x in, or one of a stack. Height and width follow the real sizes (compressed, see
    :func:`peft_lab.drawing.svg.side`). ``leftwards``: whether data flows right to left here, with the input at the
    right. ``flat``: whether to draw it as high as hidden x hidden: embeddings and heads are too tall to scale."""

    def __init__(
        self,
        metrics: Metrics,
        placement: Placement,
        group: ModuleGroup,
        leftwards: bool = False,
        flat: bool = False,
    ) -> None:
        self.metrics, self.placement, self.group, self.leftwards = metrics, placement, group, leftwards
        hidden, (base_w, base_h) = placement.shape.hidden, metrics.matrix
        inputs = group.in_features if group.is_matrix or group.type == PARAMETER else hidden
        self.w = side(inputs, hidden, base_w, 1, metrics.widest)
        room, small = self.w - 4, metrics.small
        self.rows = [
            (line, metrics.name, "name") for line in break_name(placement.name(group), room, metrics.name)
        ]
        self.rows.append((shorten(dims(group), room, small), small, "small"))
        tall = base_h if flat else side(group.out_features, hidden, base_h, SHORTEST, TALLEST)
        self.h = max(tall, sum(size for _, size, _ in self.rows) * LINE + 3)
        self.quantised = placement.quantised(group)
        self.cards = CARDS if group.stacked > 1 else 0
        self.low_rank = placement.first(group, "low_rank")
        self.gate = placement.first(group, "gate")

    @property
    def gate_left(self) -> bool:
        on_input = bool(self.gate and self.gate.size.get("on_input"))
        return self.gate is not None and on_input != self.leftwards

    @property
    def reach(self) -> tuple[float, float]:
        return CONSTANTS + (GATE + 8 if self.gate_left else 0), self.metrics.lane

    @property
    def over(self) -> float:
        return max(self.h / 2, GATE / 2 + 18 if self.gate else 0)

    def ports(self, x: float) -> tuple[float, float]:
        left = x - (CONSTANTS if self.quantised else 1 + CARD * self.cards)
        if self.gate_left:
            left = x - CONSTANTS - GATE
        return left, x + self.w + self.beside

    @property
    def beside(self) -> float:
        """Return the used width of the lane at the right."""
        if self.low_rank:
            dora = 17 if self.low_rank.size.get("magnitude") else 0
            return 3 + self._thick(self.low_rank) + 2 + LETTER + 3 + dora
        return GATE + 6 if self.gate and not self.gate_left else 0.0

    def _thick(self, part: Part) -> float:
        full = min(self.group.in_features, self.group.out_features)
        return thickness(part.size["rank"], full, self.metrics.strip)

    def lanes(self, ways: Lanes, x: float, cy: float, start: float) -> float:
        """Add the lane through W, and one through the trained part beside it; return the distance at the outlet."""
        left, right = self.ports(x)
        forth = [(left, cy), (right, cy)]
        end = ways.add("frozen", forth[::-1] if self.leftwards else forth, start, self.group.path)
        bypass = self._bypass(x, cy, left, right)
        if bypass:
            ways.add("trained", bypass[::-1] if self.leftwards else bypass, start, self.group.path)
        return end

    def _bypass(self, x: float, cy: float, left: float, right: float) -> list[tuple[float, float]]:
        """Return the trained part's path, left to right: along A and up B; through the gate; past the biases."""
        edge = x + self.w
        if self.low_rank:
            thick = self._thick(self.low_rank)
            under, beside = cy + self.h / 2 + 3 + thick / 2, edge + 3 + thick / 2
            return [(left, cy), (left, under), (beside, under), (beside, cy), (right, cy)]
        if self.gate:
            ends = (left, left + GATE + 8) if self.gate_left else (edge, right)
            return [(ends[0], cy), (ends[1], cy)]
        if self.placement.on(self.group, "bias"):
            at, above = (x if self.leftwards else edge), cy - self.h / 2 + 4
            return [(at, above), (at, cy)]
        return []

    def draw(self, canvas: Canvas, x: float, cy: float) -> None:
        top, before = cy - self.h / 2, CONSTANTS if self.quantised else 0.0
        box = (x - before, top, self.w + before, self.h)
        if self.low_rank:
            box = (box[0], top, box[2] + self.beside - 1, self.h + self._thick(self.low_rank) + 5)
        with canvas.choice(self.group.path, self.placement.label(self.group), box):
            self._body(canvas, x, top)
            if self.low_rank:
                self._strips(canvas, self.low_rank, x, cy)
            if self.gate:
                self._gate(canvas, self.gate, x - CONSTANTS - GATE if self.gate_left else x + self.w + 6, cy)
            if self.placement.on(self.group, "bias"):
                away = self.leftwards or bool(self.low_rank)  # B stands at the right
                dots(canvas, (x, top, self.w, self.h), "left" if away else "right")

    def _body(self, canvas: Canvas, x: float, top: float) -> None:
        for index in range(self.cards, 0, -1):
            canvas.rect(x - CARD * index, top - CARD * index, self.w, self.h, "frame card")
        trained = bool(self.placement.on(self.group, "trainable"))
        kind = "trained" if trained else "frozen"
        quantised = " quantised" if self.quantised else ""
        canvas.rect(x, top, self.w, self.h, f"box {kind}{quantised}", mark="W")
        if self.quantised:
            bits = self.placement.quantization.bits if self.placement.quantization else 4
            hatch(canvas, (x, top, self.w, self.h), 1.5 * bits)
            self._constants(canvas, x - CONSTANTS + 1.5, top)
        tone = " on-trained" if trained else " haloed" if self.quantised else ""
        rows = [(text, size, cls + tone) for text, size, cls in self.rows]
        canvas.lines(x + self.w / 2, top + self.h / 2, rows)

    def _constants(self, canvas: Canvas, x: float, top: float) -> None:
        """Draw small squares; with double quantisation hollow ones, and a full one for their own constants."""
        quantization = self.placement.quantization
        double = bool(quantization and quantization.double)
        count = int(self.h / 7.5)
        for index in range(count):
            y = top + (self.h / count) * (index + 0.5) - 2.5
            canvas.rect(x, y, 5, 5, "constant hollow" if double and index else "constant", 0)

    def _strips(self, canvas: Canvas, part: Part, x: float, cy: float) -> None:
        """Draw B (out x r) at the side of the outputs and A (r x in) along the inputs."""
        top, right, bottom = cy - self.h / 2, x + self.w, cy + self.h / 2
        thick, small = self._thick(part), self.metrics.small
        full = f"{min(self.group.in_features, self.group.out_features)} {number(self.metrics.strip)}"
        canvas.rect(x, bottom + 3, self.w, thick, "trained", 1, mark="A", full=full)
        canvas.rect(right + 3, top, thick, self.h, "trained light", 1, mark="B", full=full)
        canvas.text(right + 7, bottom + 3 + max(thick / 2, 4.5), "A", small, "small accent strong")
        reach = right + 3 + thick + 2
        canvas.text(reach + LETTER / 2, cy, "B", small, "small accent strong")
        if part.size.get("magnitude"):
            dots(canvas, (reach + LETTER + 3 + DOT, top, 0, self.h), "left")
            canvas.text(reach + LETTER + 5 + 2 * DOT, cy, "m", small, "small accent strong", "start")

    def _gate(self, canvas: Canvas, part: Part, x: float, cy: float) -> None:
        """Draw a multiplying vector as a diagonal matrix."""
        canvas.rect(x, cy - GATE / 2, GATE, GATE, "gate", 2, mark="gate")
        for index in range(4):
            offset = GATE * (index + 0.5) / 4
            canvas.circle(x + offset, cy - GATE / 2 + offset, DOT, "trained")
        canvas.symbol(
            x + GATE / 2 + 2, cy - GATE / 2 - 10, part.label, self.metrics.small, "small accent strong"
        )


def hatch(canvas: Canvas, box: tuple[float, float, float, float], step: float) -> None:
    """Draw diagonals at 45 degrees, clipped to the box (x, y, w, h) by arithmetic: a pattern would need an id."""
    inset = 1.0
    x, y, w, h = box[0] + inset, box[1] + inset, box[2] - 2 * inset, box[3] - 2 * inset
    lines = []
    offset = step
    while offset < w + h:
        start = (x + offset, y) if offset <= w else (x + w, y + offset - w)
        end = (x, y + offset) if offset <= h else (x + offset - h, y + h)
        lines.append((*start, *end))
        offset += step
    canvas.segments(lines, "hatch")
