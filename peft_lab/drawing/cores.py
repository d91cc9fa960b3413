"""What stands between a branch's parallel matrices and its last one: attention, or the activation."""

from __future__ import annotations

import math
from collections.abc import Sequence

from peft_lab.drawing.anatomy import Half
from peft_lab.drawing.measure import LINE, shorten
from peft_lab.drawing.metrics import Metrics
from peft_lab.drawing.pieces import PLUS
from peft_lab.drawing.placement import Placement, part_words
from peft_lab.drawing.svg import Canvas
from peft_lab.methods.base import Part

CELL = 12.0
PITCH = CELL + 4
# The tanh forms approximate the same function.
_ACTIVATIONS = {"gelu_pytorch_tanh": "gelu", "gelu_new": "gelu", "gelu_fast": "gelu", "swish": "silu"}


class Attention:
    """The attention box; with a prefix also the keys and values it looks at, the trained columns first.

    Args:
        columns: the prefix: one part each on K and V, or one on both where they are made by a fused matrix.
        texts: how many tokens the text has.
    """

    def __init__(
        self, metrics: Metrics, placement: Placement, half: Half, columns: Sequence[Part], texts: int
    ) -> None:
        self.metrics, self.texts = metrics, texts
        self.w = metrics.core
        name, small, shape = metrics.name, metrics.small, placement.shape
        self.rows = [(line, name, "name") for line in half.kind.replace("-", "- ").split()]
        heads = [f"{shape.heads} heads"] if shape.heads else []  # none in what carries a state (RWKV)
        if half.kind not in ("attention", "cross-attention"):
            heads = ["keeps a state"]
        elif shape.heads != shape.kv_heads:
            heads = [f"{shape.heads} q heads", f"{shape.kv_heads} kv heads"]
        self.rows += [(line, small, "note") for line in heads]
        self.rows += [(f"+ {placement.name(group)}", small, "note") for group in half.inner]
        if columns:
            count = columns[0].size["tokens"]
            self.rows.append((f"+{count} column{'s' if count > 1 else ''}", small, "note accent strong"))
        names = ["K", "V"] if len(columns) == 1 else [part.label[-1].upper() for part in columns]
        self.strips = (
            [(label, columns[min(i, len(columns) - 1)]) for i, label in enumerate(names)] if columns else []
        )

    @property
    def least(self) -> float:
        """Least height."""
        return sum(size for _, size, _ in self.rows) * LINE + 14 + len(self.strips) * PITCH

    def _first_strip(self, cy: float) -> float:
        return cy - len(self.strips) * PITCH / 2 + sum(size for _, size, _ in self.rows) * LINE / 2 + 4

    def sources(self, x: float, cy: float) -> list[tuple[Part, list[tuple[float, float]]]]:
        """By part, the way from its trained columns to the right edge of the box."""
        y, right = self._first_strip(cy) + CELL / 2, x + self.w
        rows = [(part, y + index * PITCH) for index, (_, part) in enumerate(self.strips)]
        return [(part, [(x + 18, row), (right - 4, row), (right - 4, cy)]) for part, row in rows]

    def draw(self, canvas: Canvas, x: float, cy: float, h: float) -> None:
        canvas.rect(x, cy - h / 2, self.w, h, "box plain")
        canvas.lines(x + self.w / 2, cy - len(self.strips) * PITCH / 2, self.rows)
        y = self._first_strip(cy)
        for label, part in self.strips:
            self._cells(canvas, label, part, x + 6, y, self.w - 12)
            y += PITCH

    def _cells(self, canvas: Canvas, label: str, part: Part, x: float, y: float, room: float) -> None:
        count = part.size["tokens"]
        with canvas.choice(part.at, f"{label}: {part_words(part)}, in every layer", (x, y, room, CELL)):
            canvas.text(x + 4, y + CELL / 2, label, self.metrics.small, "small")
            x, room = x + 12, room - 12
            trained = room * (0.12 + 0.6 * min(1.0, math.log1p(count) / math.log1p(256)))
            cells(canvas, x, y, trained, CELL, count, "trained cell")
            cells(canvas, x + trained + 2, y, room - trained - 2, CELL, self.texts, "frozen cell")


def cells(canvas: Canvas, x: float, y: float, w: float, h: float, count: int, cls: str) -> None:
    """``count`` cells in a row; one bar where they would be too thin to tell apart."""
    pitch = w / count
    if pitch < 2.2:
        canvas.rect(x, y, w, h, cls, 1)
        return
    gap = 1.0 if pitch > 4 else 0.5
    for index in range(count):
        canvas.rect(x + index * pitch, y, pitch - gap, h, cls, min(1.0, pitch / 8))


class Activation:
    """The nonlinearity between up and down; with a gate matrix also the product of both."""

    w, h = 62.0, 24.0

    def __init__(self, metrics: Metrics, placement: Placement, gated: bool) -> None:
        self.metrics, self.gated = metrics, gated
        raw = placement.shape.activation
        self.name = shorten(_ACTIVATIONS.get(raw, raw), self.w - 8, metrics.small)

    def draw(self, canvas: Canvas, x: float, cy: float, entries: Sequence[tuple[float, float]]) -> None:
        """``entries``: where the lines come from, gate first."""
        if not self.gated:
            canvas.arrow([entries[0], (x, cy)])
            self._box(canvas, x, cy)
            return
        (gate_x, gate_y), (up_x, up_y) = entries[0], entries[-1]
        middle = x + self.w / 2
        canvas.arrow([(gate_x, gate_y), (x, gate_y)])
        self._box(canvas, x, gate_y)
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
    if sign == "+":
        canvas.segments([(x - 3.2, y, x + 3.2, y), (x, y - 3.2, x, y + 3.2)], "sign")
    else:
        canvas.segments([(x - 2.4, y - 2.4, x + 2.4, y + 2.4), (x - 2.4, y + 2.4, x + 2.4, y - 2.4)], "sign")
