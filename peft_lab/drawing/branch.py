"""Draw one residual branch: it leaves the stream at the left, passes its pieces, and is added back further up.

Wide: all pieces on one line, and a line above them back to the stream. Narrow (``fold``): the last matrix and what
follows it are on a second line, right to left.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from peft_lab.drawing.pieces import GATE, PLUS, DrawnHourglass, DrawnPiece, Lanes, Matrix, Norm
from peft_lab.drawing.placement import Half, Placement, part_words
from peft_lab.drawing.svg import LINE, Canvas, Metrics, shorten
from peft_lab.methods.base import Part

# ----------------------------------------
# Between a branch's parallel matrices and its last one: attention, or the activation.


CELL = 12.0
PITCH = CELL + 4
# The tanh forms approximate the same function.
_ACTIVATIONS = {"gelu_pytorch_tanh": "gelu", "gelu_new": "gelu", "gelu_fast": "gelu", "swish": "silu"}


class Attention:
    """The attention box; with a prefix, also the keys and values that it reads, trained columns first. ``columns``: the
    prefix: one part each for K and V, or one for both if a fused matrix makes them. ``texts``: number of tokens in
    the text."""

    def __init__(
        self, metrics: Metrics, placement: Placement, half: Half, columns: Sequence[Part], texts: int
    ) -> None:
        self.metrics, self.texts = metrics, texts
        self.w = metrics.core
        name, small, shape = metrics.name, metrics.small, placement.shape
        self.rows = [(line, name, "name") for line in half.kind.replace("-", "- ").split()]
        heads = [f"{shape.heads} heads"] if shape.heads else []  # none in a recurrent block (RWKV)
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
        """Return the minimum height."""
        return sum(size for _, size, _ in self.rows) * LINE + 14 + len(self.strips) * PITCH

    def _first_strip(self, cy: float) -> float:
        return cy - len(self.strips) * PITCH / 2 + sum(size for _, size, _ in self.rows) * LINE / 2 + 4

    def sources(self, x: float, cy: float) -> list[tuple[Part, list[tuple[float, float]]]]:
        """Return each part's path from its trained columns to the right edge of the box."""
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
    """Draw ``count`` cells in a row, or one bar if they would be too thin to distinguish."""
    pitch = w / count
    if pitch < 2.2:
        canvas.rect(x, y, w, h, cls, 1)
        return
    gap = 1.0 if pitch > 4 else 0.5
    for index in range(count):
        canvas.rect(x + index * pitch, y, pitch - gap, h, cls, min(1.0, pitch / 8))


class Activation:
    """The nonlinearity between up and down; with a gate matrix, also the product of both."""

    w, h = 62.0, 24.0

    def __init__(self, metrics: Metrics, placement: Placement, gated: bool) -> None:
        self.metrics, self.gated = metrics, gated
        raw = placement.shape.activation
        self.name = shorten(_ACTIVATIONS.get(raw, raw), self.w - 8, metrics.small)

    def draw(self, canvas: Canvas, x: float, cy: float, entries: Sequence[tuple[float, float]]) -> None:
        """Draw it. ``entries``: where the incoming lines begin, gate first."""
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
    """Draw a circle with a plus or a times, made of lines so that it is centred in every font."""
    canvas.circle(x, y, PLUS, "joint")
    if sign == "+":
        canvas.segments([(x - 3.2, y, x + 3.2, y), (x, y - 3.2, x, y + 3.2)], "sign")
    else:
        canvas.segments([(x - 2.4, y - 2.4, x + 2.4, y + 2.4), (x - 2.4, y + 2.4, x + 2.4, y - 2.4)], "sign")


# ----------------------------------------
# The lane under a mixture of experts: its router, the number of experts chosen, and the shared expert.


TOP = 4.0


class Router:
    """The router, under the experts' matrices and fed from the same line. ``height`` is known before drawing."""

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
        """Draw it. ``feed``: y where the line to the last of the experts' matrices leaves the vertical one."""
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


ROOM = 5.0  # between a strip and the matrix under it
RETURN = 16.0  # between the returning line and the row under it
LANE = DrawnHourglass.h + 28  # height of the lane of a parallel adapter
LIFT = (
    DrawnHourglass.h + 24 + PLUS
)  # from the top of the returning line's pieces to the second sum, of an adapter on the first


@dataclass(frozen=True)
class Levels:
    """The positions of a branch's lines."""

    back: float  # y of the line back to the stream
    row: float  # y of the pieces' centre
    turn: float  # x of the rightmost vertical line
    leave: float  # y where it leaves the stream
    core: float  # x of the middle of the attention or activation
    again: float | None = None  # y of a second sum on the stream, for an adapter that reads the first


class BlockHalf:
    """Lays out and draws one half of a block. ``height`` and ``reach`` are known before drawing."""

    def __init__(self, metrics: Metrics, placement: Placement, half: Half, texts: int) -> None:
        self.m, self.placement, self.half = metrics, placement, half
        self.entry = [Matrix(metrics, placement, group) for group in half.entry]
        feed = half.kind == "feed-forward"
        place = "ffn" if feed else "attention"
        self.core: Activation | Attention
        if feed:
            self.core = Activation(metrics, placement, gated=len(self.entry) > 1)
        else:
            columns = placement.columns(half.entry) if half.kind == "attention" else ()
            self.core = Attention(metrics, placement, half, columns, texts)
        parallel = placement.parallel(place)
        self.beside = DrawnHourglass(metrics, parallel) if parallel and feed else None
        on_sum = placement.on_sum(half.exit)
        self.again = DrawnHourglass(metrics, on_sum) if on_sum else None
        self.clock = 0.0  # distance from the stream to the current end of the drawing
        self.lanes = Lanes()  # filled while drawing; they begin where the branch leaves the stream
        self.choice = Router(metrics, placement, half) if half.mixture else None
        self.tail = self._tail(place)
        self.joins_after = len(self.tail) - (
            1 if half.after else 0
        )  # before Gemma's norm, as the method computes it
        gap = metrics.below + ROOM
        self.stack = sum(matrix.h for matrix in self.entry) + gap * (len(self.entry) - 1)
        self.row = max(self.stack, self.core.least if isinstance(self.core, Attention) else self.core.h)
        self.over = max((piece.over for piece in self.tail), default=0.0)
        if not metrics.fold:
            self.row = max(self.row, 2 * self.over)

    def _tail(self, place: str) -> list[DrawnPiece]:
        half, m, placement = self.half, self.m, self.placement
        tail: list[DrawnPiece] = []
        if half.exit:
            tail.append(Matrix(m, placement, half.exit, leftwards=m.fold))
        adapter = placement.bottleneck(place, half.exit)
        if adapter:
            tail.append(DrawnHourglass(m, adapter, leftwards=m.fold))
        if half.after:
            tail.append(Norm(m, placement, half.after, output="left" if m.fold else "right"))
        return tail

    # -- sizes, from the top: [norm on the stream] sum and line back, [parallel lane], row, room for strips ------------

    @property
    def above(self) -> float:
        """Return the height from the top to the returning line."""
        norm = self.m.norm[1] + 8 if self.half.on_stream else 0.0
        if self.again:
            return self.low + LIFT + PLUS + norm
        return max(PLUS + norm, self.low)

    @property
    def low(self) -> float:
        """Return how far the pieces on the returning line extend above it."""
        return max(PLUS, self.over) if self.m.fold else PLUS

    @property
    def between(self) -> float:
        """Return the height from the returning line to the top of the row."""
        under = max((piece.h for piece in self.tail), default=0.0) / 2 + self.m.below + 10
        return (LANE if self.beside else 0.0) + (under if self.m.fold else RETURN)

    @property
    def height(self) -> float:
        under = self.choice.height if self.choice else 0.0
        return self.above + self.between + self.row + self.m.below + under

    @property
    def reach(self) -> float:
        """Return the x up to which the row needs room, where it turns."""
        x = self.m.column + self.m.matrix[0] + self.m.lane + self.m.gap + self.core.w
        if self.m.fold:
            return x + 12
        for index, piece in enumerate(self.tail, start=1):
            x += self._step(piece) + piece.w + piece.reach[1]
            x += 14 + PLUS if self.beside and index == self.joins_after else 0
        return x + 6

    def _step(self, piece: DrawnPiece) -> float:
        """Return the room before a piece's body on a straight line: an arrow and the piece's left reach."""
        return self.m.gap + max(piece.reach[0], 10)

    # -- drawing -------------------------------------------------------------------------------------------------------

    def draw(self, canvas: Canvas, top: float, turn: float) -> Levels:
        """Draw the branch with this top edge and turning point; return the positions of its lines."""
        m, cross = self.m, self.half.kind == "cross-attention"
        back = top + self.above
        cy = back + self.between + self.row / 2
        first = cy - self.stack / 2 + self.entry[0].h / 2
        core_x = m.column + m.matrix[0] + m.lane + m.gap
        again = back - self.low - LIFT if self.again else None
        at = Levels(back, cy, turn, first if cross else cy, core_x + self.core.w / 2, again)
        x = m.trunk
        if self.half.before:
            norm = Norm(m, self.placement, self.half.before)
            canvas.arrow([(x, at.leave), (m.first, at.leave)])
            norm.draw(canvas, m.first, at.leave)
            x = m.first + norm.w
        canvas.arrow([(x, at.leave), (m.bus, at.leave)], head=False)
        lead = self.lanes.add("flow", [(m.trunk, at.leave), (m.bus, at.leave)], 0.0)
        ends = self._entries(canvas, cy, cross, at.leave, lead)
        outlet = self._core(canvas, core_x, cy, ends)
        self._through_core(core_x, cy, ends, outlet)
        if m.fold:
            join = self._folded(canvas, outlet, at)
        else:
            join = self._straight(canvas, outlet, core_x + self.core.w, at)
        if self.beside:
            self._parallel(canvas, self.beside, at, first, join)
        if self.again and again is not None:
            self._on_sum(canvas, self.again, at, again)
        if self.choice:
            self.choice.draw(
                canvas, cy + self.row / 2 + m.below, (cy + self.stack / 2 - self.entry[-1].h / 2)
            )
        return at

    def _entries(
        self, canvas: Canvas, cy: float, cross: bool, leave: float, lead: float
    ) -> list[tuple[float, float]]:
        """Draw the parallel matrices, fed from one vertical line; return where their outputs begin. In cross-attention
        only the queries come from the stream; keys and values come from the encoder's output."""
        m, y = self.m, cy - self.stack / 2
        centres, ends = [], []
        for matrix in self.entry:
            centres.append(y + matrix.h / 2)
            y += matrix.h + m.below + ROOM
        fed = centres[1:] if cross else centres
        if len(fed) > 1:
            canvas.arrow([(m.bus, fed[0]), (m.bus, fed[-1])], head=False)
        if cross:
            middle = (fed[0] + fed[-1]) / 2
            canvas.lines(
                m.bus - 6, middle, [("encoder", m.small, "note"), ("output", m.small, "note")], "end"
            )
            canvas.arrow([(m.bus - 4, middle), (m.bus, middle)], head=False)
        for matrix, centre in zip(self.entry, centres, strict=True):
            left, right = matrix.ports(m.column)
            canvas.arrow([(m.bus, centre), (left, centre)])
            if matrix.gate and not matrix.gate_left:
                edge = m.column + matrix.w
                canvas.arrow([(edge, centre), (edge + 6, centre)], head=False)
            matrix.draw(canvas, m.column, centre)
            ends.append((right, centre))
            from_stream = not cross or matrix is self.entry[0]
            fork = leave if from_stream else (fed[0] + fed[-1]) / 2
            reached = self.lanes.add("flow", [(m.bus, fork), (m.bus, centre), (left, centre)], lead)
            self.clock = max(self.clock, matrix.lanes(self.lanes, m.column, centre, reached))
        return ends

    def _through_core(self, x: float, cy: float, ends: list[tuple[float, float]], outlet: float) -> None:
        """Add the lanes into the attention, or to activation and product; the clock becomes the last arrival."""
        core = self.core
        start = self.clock
        for matrix, (end, y) in zip(self.entry, ends, strict=True):
            meets = [(x, y)] if isinstance(core, Attention) else [(x + core.w / 2, y), (x + core.w / 2, cy)]
            self.clock = max(self.clock, self.lanes.add("flow", [(end, y), *meets], start, matrix.group.path))
        if isinstance(core, Attention):
            for part, points in core.sources(x, cy):
                self.lanes.add("trained", [*points, (outlet, cy)], start, part.at)
            self.clock += core.w

    def _core(self, canvas: Canvas, x: float, cy: float, ends: list[tuple[float, float]]) -> float:
        if isinstance(self.core, Activation):
            self.core.draw(canvas, x, cy, ends)
            return self.core.outlet(x)
        for end, y in ends:
            canvas.arrow([(end, y), (x, y)])
        self.core.draw(canvas, x, cy, self.row)
        return x + self.core.w

    def _straight(self, canvas: Canvas, outlet: float, x: float, at: Levels) -> float:
        """Draw the tail on the same line, and the line back; return the x where a parallel adapter joins."""
        join = at.turn
        for index, piece in enumerate(self.tail, start=1):
            x += self._step(piece)
            left, right = piece.ports(x)
            canvas.arrow([(outlet, at.row), (left, at.row)])
            self._pass(piece, x, at.row, [(outlet, at.row), (left, at.row)])
            if isinstance(piece, Matrix) and piece.gate_left:
                canvas.arrow([(left + GATE, at.row), (x - 1, at.row)])
            piece.draw(canvas, x, at.row)
            outlet, x = right, x + piece.w + piece.reach[1]
            if self.beside and index == self.joins_after:
                join = x + 14
                canvas.arrow([(outlet, at.row), (join - PLUS, at.row)])
                self.clock = self.lanes.add("flow", [(outlet, at.row), (join + PLUS, at.row)], self.clock)
                joint(canvas, join, at.row, "+")
                outlet = x = join + PLUS
        way = [(outlet, at.row), (at.turn, at.row), (at.turn, at.back), (self.m.trunk + PLUS, at.back)]
        canvas.arrow(way)
        self.lanes.add("flow", way, self.clock)
        return join

    def _pass(self, piece: DrawnPiece, x: float, y: float, way: list[tuple[float, float]]) -> None:
        self.clock = piece.lanes(self.lanes, x, y, self.lanes.add("flow", way, self.clock))

    def _folded(self, canvas: Canvas, outlet: float, at: Levels) -> float:
        """Draw the tail right to left on the line above; return the x where a parallel adapter joins."""
        points = [(outlet, at.row), (at.turn, at.row), (at.turn, at.back)]
        x, join = at.turn - 8, at.turn
        for index, piece in enumerate(self.tail, start=1):
            x -= piece.w + max(piece.reach[1], 6)
            left, right = piece.ports(x)
            canvas.arrow([*points, (right, at.back)])
            self._pass(piece, x, at.back, [*points, (right, at.back)])
            if isinstance(piece, Matrix) and piece.gate:
                canvas.arrow([(x + piece.w + 6, at.back), (x + piece.w, at.back)])
            piece.draw(canvas, x, at.back)
            points = [(left, at.back)]
            x -= piece.reach[0] + 6
            if self.beside and index == self.joins_after:
                join = x - PLUS
                canvas.arrow([*points, (join + PLUS, at.back)])
                self.clock = self.lanes.add("flow", [*points, (join - PLUS, at.back)], self.clock)
                joint(canvas, join, at.back, "+")
                points, x = [(join - PLUS, at.back)], join - PLUS - 6
        way = [*points, (self.m.trunk + PLUS, at.back)]
        canvas.arrow(way)
        self.lanes.add("flow", way, self.clock)
        return join

    def _parallel(self, canvas: Canvas, glass: DrawnHourglass, at: Levels, first: float, join: float) -> None:
        """Draw the parallel adapter in a lane above the row, from the line that feeds the matrices to its sum."""
        y = at.row - self.row / 2 - 22 - glass.h / 2
        x = self.m.bus + 14 if self.m.fold else (self.m.bus + join) / 2 - glass.w / 2
        past_norm = bool(glass.part.size.get("stream")) and self.half.before is not None
        fed = [(self.m.trunk, y), (x, y)] if past_norm else [(self.m.bus, first), (self.m.bus, y), (x, y)]
        canvas.arrow(fed)
        glass.draw(canvas, x, y)
        out = x + glass.w
        if not self.m.fold:
            way = [(out, y), (join, y), (join, at.row - PLUS)]
        elif join > out + 4:
            way = [(out, y), (join, y), (join, at.back + PLUS)]
        else:  # with a norm after it the sum is further left: go around the adapter
            over = y - glass.h / 2 - 7
            way = [(out, y), (out + 8, y), (out + 8, over), (join, over), (join, at.back + PLUS)]
        canvas.arrow(way)
        feed = self.lanes.add("flow", fed, at.leave - y if past_norm else self.m.bus - self.m.trunk)
        self.lanes.add("flow", way, glass.lanes(self.lanes, x, y, feed))

    def _on_sum(self, canvas: Canvas, glass: DrawnHourglass, at: Levels, again: float) -> None:
        """Draw the adapter above the returning line: it reads the sum, through the following norm if there is one,
        and is added to the stream again, before that norm."""
        m, y = self.m, again + PLUS + 6 + glass.h / 2
        points, x, start = [(m.trunk, y), (m.first, y)], m.first, at.leave - y
        if self.half.on_stream:
            norm = Norm(m, self.placement, self.half.on_stream)
            canvas.arrow(points)
            start = norm.lanes(self.lanes, x, y, self.lanes.add("flow", points, start))
            norm.draw(canvas, x, y)
            points = [(x + norm.w, y), (x + norm.w + m.gap, y)]
            x += norm.w + m.gap
        canvas.arrow(points)
        start = glass.lanes(self.lanes, x, y, self.lanes.add("flow", points, start))
        glass.draw(canvas, x, y)
        out = x + glass.w
        way = [(out, y), (out + 9, y), (out + 9, again), (m.trunk + PLUS, again)]
        canvas.arrow(way)
        self.lanes.add("flow", way, start)
