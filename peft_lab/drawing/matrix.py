"""A weight matrix, with what a method does to it: strips, dots, a gate, hatching."""

from __future__ import annotations

from peft_lab.drawing.measure import side, thickness
from peft_lab.drawing.metrics import Metrics
from peft_lab.drawing.pieces import dots, matrix_rows, text_height
from peft_lab.drawing.placement import Placement
from peft_lab.drawing.svg import Canvas
from peft_lab.methods.base import Part
from peft_lab.shapes import ModuleGroup

GATE = 20.0
CONSTANTS = 10.0  # room for the block constants at the left
SHORTEST = 0.6


class Matrix:
    """One matrix, out x in: height and width follow the real ones (compressed, see :func:`measure.side`).

    Args:
        leftwards: whether the data flows right to left here, so that the input is at the right.
        flat: drawn with the height of a hidden x hidden matrix whatever its real one (embedding, head: too tall to scale).
    """

    def __init__(
        self,
        metrics: Metrics,
        placement: Placement,
        group: ModuleGroup,
        selected: str | None,
        leftwards: bool = False,
        flat: bool = False,
    ) -> None:
        self.metrics, self.placement, self.group, self.leftwards = metrics, placement, group, leftwards
        self.selected = group.path == selected
        hidden, (base_w, base_h) = placement.shape.hidden, metrics.matrix
        self.w = side(group.in_features, hidden, base_w, 1, metrics.widest)
        if group.type not in ("Linear", "Conv1D"):
            self.w = base_w
        self.rows = matrix_rows(metrics, placement, group, self.w - 10)
        tall = base_h if flat else side(group.out_features, hidden, base_h, SHORTEST, 2)
        self.h = max(tall, text_height(self.rows) + 3)
        self.quantised = placement.quantised(group)
        self.trained = bool(placement.on(group, "trainable"))
        self.low_rank = placement.first(group, "low_rank")
        self.gate = placement.first(group, "gate")
        self.bias = placement.first(group, "bias")

    @property
    def gate_left(self) -> bool:
        on_input = bool(self.gate and self.gate.size.get("on_input"))
        return self.gate is not None and on_input != self.leftwards

    @property
    def reach(self) -> tuple[float, float]:
        return CONSTANTS + (GATE + 8 if self.gate_left else 0), self.metrics.lane

    def ports(self, x: float) -> tuple[float, float]:
        left = x - (CONSTANTS if self.quantised else 1)
        left -= GATE + 8 if self.gate_left else 0
        right = x + self.w
        if self.low_rank:
            right += self.metrics.lane - 4
        elif self.gate and not self.gate_left:
            right += GATE + 8
        return left, right

    def draw(self, canvas: Canvas, x: float, cy: float) -> None:
        top, right = cy - self.h / 2, x + self.w
        box = (
            x - (CONSTANTS if self.quantised else 0),
            top,
            self.w + (CONSTANTS if self.quantised else 0),
            self.h,
        )
        if self.low_rank:
            box = (box[0], top, box[2] + self.metrics.strip + 3, self.h + self.metrics.strip + 3)
        with canvas.choice(self.group.path, self.placement.label(self.group), box, self.selected):
            self._body(canvas, x, top)
            if self.low_rank:
                self._strips(canvas, self.low_rank, x, cy)
            if self.gate:
                self._gate(canvas, self.gate, x - CONSTANTS - GATE if self.gate_left else right + 6, cy)
            if self.bias:
                dots(canvas, x if self.leftwards else right, cy, self.h)

    def _body(self, canvas: Canvas, x: float, top: float) -> None:
        kind = "trained" if self.trained else "frozen"
        canvas.rect(x, top, self.w, self.h, f"box {kind}{' quantised' if self.quantised else ''}")
        if self.quantised:
            hatch(canvas, x, top, self.w, self.h)
            self._constants(canvas, x - CONSTANTS + 1.5, top)
        tone = " on-trained" if self.trained else " haloed" if self.quantised else ""
        rows = [(text, size, cls + tone) for text, size, cls in self.rows]
        canvas.lines(x + self.w / 2, top + self.h / 2, rows)

    def _constants(self, canvas: Canvas, x: float, top: float) -> None:
        quantization = self.placement.quantization
        double = bool(quantization and quantization.double)
        count = int(self.h / 7.5)
        for index in range(count):
            # With double quantisation only the one constant of the constants is left in full precision.
            hollow = double and index > 0
            canvas.rect(
                x,
                top + (self.h / count) * (index + 0.5) - 2.5,
                5,
                5,
                "constant hollow" if hollow else "constant",
                0,
            )

    def _strips(self, canvas: Canvas, part: Part, x: float, cy: float) -> None:
        """B (out x r) stands at the side that counts the outputs, A (r x in) lies along the inputs."""
        top, right, bottom = cy - self.h / 2, x + self.w, cy + self.h / 2
        full = min(self.group.in_features, self.group.out_features)
        thick = thickness(part.size["rank"], full, self.metrics.strip)
        small = self.metrics.small
        canvas.rect(x, bottom + 3, self.w, thick, "trained", 1)
        canvas.rect(right + 3, top, thick, self.h, "trained light", 1)
        canvas.text(right + 3 + 3.5, bottom + 3 + max(thick / 2, 4.5), "A", small, "small accent strong")
        reach = right + 3 + thick + 2
        canvas.text(reach + 3.5, cy, "B", small, "small accent strong")
        if part.size.get("magnitude"):
            dots(canvas, reach + 11, cy, self.h)
            canvas.text(reach + 14, cy, "m", small, "small accent strong", "start")

    def _gate(self, canvas: Canvas, part: Part, x: float, cy: float) -> None:
        """A vector that multiplies is a diagonal matrix."""
        canvas.rect(x, cy - GATE / 2, GATE, GATE, "gate", 2)
        for index in range(4):
            offset = GATE * (index + 0.5) / 4
            canvas.circle(x + offset, cy - GATE / 2 + offset, 1.9, "trained")
        canvas.symbol(x + GATE / 2, cy - GATE / 2 - 8, part.label, self.metrics.small, "small accent strong")


def hatch(canvas: Canvas, x: float, y: float, w: float, h: float, step: float = 6) -> None:
    """Diagonals at 45 degrees, clipped to the rectangle by arithmetic: a pattern would need an id."""
    inset = 1.0
    x, y, w, h = x + inset, y + inset, w - 2 * inset, h - 2 * inset
    lines = []
    offset = step
    while offset < w + h:
        start = (x + offset, y) if offset <= w else (x + w, y + offset - w)
        end = (x, y + offset) if offset <= h else (x + offset - h, y + h)
        lines.append((*start, *end))
        offset += step
    canvas.segments(lines, "hatch")
