"""One residual branch: it leaves the stream at the left, passes its pieces, and is added back further up.

Wide: all pieces on one line, and a line over them back to the stream. Narrow (``fold``): the last matrix and what
follows it stand on a second line, right to left.
"""

from __future__ import annotations

from peft_lab.drawing.anatomy import Half
from peft_lab.drawing.cores import ACTIVATION, Activation, Attention, joint
from peft_lab.drawing.matrix import Matrix
from peft_lab.drawing.metrics import Metrics
from peft_lab.drawing.pieces import PLUS, Hourglass, Norm, Piece
from peft_lab.drawing.placement import Placement
from peft_lab.drawing.svg import Canvas

ROOM = 5.0  # between a strip and the matrix under it


class Branch:
    """Lays out and draws one half of a block. ``height`` is known before drawing."""

    def __init__(
        self, metrics: Metrics, placement: Placement, half: Half, texts: int, selected: str | None
    ) -> None:
        self.m, self.placement, self.half, self.selected = metrics, placement, half, selected
        self.entry = [Matrix(metrics, placement, group, selected) for group in half.entry]
        feed = half.kind == "feed-forward"
        place = "ffn" if feed else "attention"
        self.attention: Attention | None = None
        self.activation: Activation | None = None
        if feed:
            self.activation = Activation(metrics, placement, gated=len(self.entry) > 1)
        else:
            columns = placement.columns(half.entry) if half.kind == "attention" else ()
            self.attention = Attention(metrics, placement, half.kind, columns, texts, selected)
        self.tail: list[Piece] = []
        if half.exit:
            self.tail.append(Matrix(metrics, placement, half.exit, selected, leftwards=metrics.fold))
        adapter = placement.bottleneck(place, half.exit)
        if adapter:
            self.tail.append(Hourglass(metrics, adapter, selected))
        self.parallel = placement.parallel(place) if feed else None
        self.join_at = len(self.tail)
        if half.after:
            self.tail.append(Norm(metrics, placement, half.after, selected))
        gap = metrics.below + ROOM
        self.stack = sum(matrix.h for matrix in self.entry) + gap * (len(self.entry) - 1)
        self.row = max(self.stack, self.attention.least if self.attention else 0.0)
        self.second = max((piece.h for piece in self.tail), default=0.0)
        if not metrics.fold:
            self.row = max(self.row, self.second)

    # -- heights, from the top: [norm on the stream] plus, return line, [parallel lane], row, strip room ---------------

    @property
    def above(self) -> float:
        """From the top to the return line (its centre)."""
        norm = self.m.norm[1] + 8 if self.half.on_stream else 0.0
        clear = PLUS + norm
        return max(clear, self.second / 2) if self.m.fold else clear

    @property
    def between(self) -> float:
        """From the return line to the top of the row."""
        lane = Hourglass.h + 28 if self.parallel else 0.0
        return lane + (self.second / 2 + self.m.below + 10 if self.m.fold else 16)

    @property
    def height(self) -> float:
        return self.above + self.between + self.row + self.m.below

    def draw(self, canvas: Canvas, top: float, turn: float) -> tuple[float, float, float]:
        """Draw with the given top; ``turn`` is the x of the rightmost vertical line.

        Returns:
            y of the sum, y where the branch leaves the stream, x of the middle of the attention (or activation).
        """
        m = self.m
        back, cy = top + self.above, top + self.above + self.between + self.row / 2
        x = m.trunk + (24 if not m.fold else 20)
        start: float = m.trunk
        cross = self.half.kind == "cross-attention"
        leave = cy - self.stack / 2 + self.entry[0].h / 2 if cross else cy
        if self.half.before:
            norm = Norm(m, self.placement, self.half.before, self.selected)
            canvas.arrow([(m.trunk, leave), (x, leave)])
            norm.draw(canvas, x, leave)
            start = x + norm.w
        bus = x + m.norm[0] + (8 if not m.fold else 5)
        x = bus + (24 if not m.fold else 20)
        ends = self._stack(canvas, x, cy, (start, leave), bus, cross)
        x += m.matrix[0] + m.lane + m.gap
        outlet = self._core(canvas, x, cy, ends)
        middle = x + (m.core if self.attention else ACTIVATION[0]) / 2
        x += m.core if self.attention else ACTIVATION[0]
        if m.fold:
            finish = self._folded(canvas, outlet, cy, back, turn)
        else:
            finish = self._straight(canvas, outlet, x, cy, back, turn)
        if self.parallel:
            self._beside(canvas, bus, cy, back, finish)
        canvas.arrow(
            [(finish, back), (m.trunk + PLUS, back)]
            if m.fold
            else [(turn, cy), (turn, back), (m.trunk + PLUS, back)]
        )
        return back, leave, middle

    def _stack(
        self, canvas: Canvas, x: float, cy: float, start: tuple[float, float], bus: float, cross: bool
    ) -> list[tuple[float, float]]:
        """The parallel matrices, fed from one vertical line. Returns where their outputs begin.

        In cross-attention only the queries come from the stream; keys and values are made of the encoder's output.
        """
        y = cy - self.stack / 2
        centres, ends = [], []
        for matrix in self.entry:
            centres.append(y + matrix.h / 2)
            y += matrix.h + self.m.below + ROOM
        canvas.arrow([start, (bus, start[1])], head=False)
        own = centres[1:] if cross else centres
        if len(own) > 1:
            canvas.arrow([(bus, own[0]), (bus, own[-1])], head=False)
        if cross:
            middle = (own[0] + own[-1]) / 2
            canvas.lines(
                bus - 6, middle, [("encoder", self.m.small, "note"), ("output", self.m.small, "note")], "end"
            )
            canvas.arrow([(bus - 4, middle), (bus, middle)], head=False)
        for matrix, centre in zip(self.entry, centres, strict=True):
            left, right = matrix.ports(x)
            canvas.arrow([(bus, centre), (left, centre)])
            if matrix.gate and not matrix.gate_left:
                canvas.arrow([(x + matrix.w, centre), (x + matrix.w + 6, centre)], head=False)
            matrix.draw(canvas, x, centre)
            ends.append((right, centre))
        return ends

    def _core(self, canvas: Canvas, x: float, cy: float, ends: list[tuple[float, float]]) -> float:
        if self.attention:
            for end, y in ends:
                canvas.arrow([(end, y), (x, y)])
            self.attention.draw(canvas, x, cy, self.row)
            return x + self.attention.w
        assert self.activation is not None
        self.activation.draw(canvas, x, cy, ends)
        return self.activation.outlet(x)

    def _straight(
        self, canvas: Canvas, outlet: float, x: float, cy: float, back: float, turn: float
    ) -> float:
        """The tail on the same line. Returns the x where a parallel adapter joins."""
        join = turn
        for index, piece in enumerate(self.tail):
            x += self.m.gap + (piece.reach[0] if index else max(piece.reach[0], 12))
            left, right = piece.ports(x)
            canvas.arrow([(outlet, cy), (left, cy)])
            if isinstance(piece, Matrix) and piece.gate_left:
                canvas.arrow([(left + 20, cy), (x - 1, cy)])
            piece.draw(canvas, x, cy)
            outlet, x = right, x + piece.w + piece.reach[1]
            if self.parallel and index + 1 == self.join_at:
                join = x + 14
                canvas.arrow([(outlet, cy), (join - PLUS, cy)])
                joint(canvas, join, cy, "+")
                outlet, x = join + PLUS, join + PLUS
        canvas.arrow([(outlet, cy), (turn, cy)], head=False)
        return join

    def _folded(self, canvas: Canvas, outlet: float, cy: float, back: float, turn: float) -> float:
        """The tail on the line above, from right to left. Returns where the line to the stream begins."""
        points = [(outlet, cy), (turn, cy), (turn, back)]
        x = turn - 14
        join = 0.0
        for index, piece in enumerate(self.tail):
            x -= piece.w + piece.reach[1]
            left, right = piece.ports(x)
            canvas.arrow([*points, (right, back)])
            piece.draw(canvas, x, back)
            points = [(left, back)]
            x -= piece.reach[0] + 4
            if self.parallel and index + 1 == self.join_at:
                join = x - PLUS
                canvas.arrow([*points, (join + PLUS, back)])
                joint(canvas, join, back, "+")
                points, x = [(join - PLUS, back)], join - PLUS - 6
        if self.parallel:
            self._join = join
        return points[0][0] if self.tail else turn

    def _beside(self, canvas: Canvas, bus: float, cy: float, back: float, join: float) -> None:
        """The parallel adapter in its own lane above the row, from the line that feeds the matrices to the sum."""
        assert self.parallel is not None
        glass = Hourglass(self.m, self.parallel, self.selected)
        y = cy - self.row / 2 - 24 - glass.h / 2
        if self.m.fold:
            join = self._join
        x = bus + 10 if self.m.fold else (bus + join) / 2 - glass.w / 2
        x = min(x, join - glass.w) if self.m.fold else x
        first = cy - self.stack / 2 + self.entry[0].h / 2
        canvas.arrow([(bus, first), (bus, y), (x, y)])
        glass.draw(canvas, x, y)
        end = (join, back + PLUS) if self.m.fold else (join, cy - PLUS)
        canvas.arrow(
            [(x + glass.w, y), (join, y), end] if join > x + glass.w else [(join, y - glass.h / 2), end]
        )
