"""The two layouts' fixed measures. Both are drawn by the same code."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Layout = Literal["wide", "narrow"]


@dataclass(frozen=True)
class Metrics:
    """Lengths in user units; at the layout's natural width one unit is one CSS pixel.

    Attributes:
        width: of the picture; the wide one grows when its pieces need more.
        trunk: x of the residual stream.
        norm: size of a norm's box.
        matrix: width and height of a matrix of hidden x hidden.
        widest: most that a matrix may be wider than that.
        lane: room to the right of every matrix for what is trained beside it, kept also when there is nothing, so that
            choosing a target moves no box.
        strip: thickness of a full-rank strip. below: room under a matrix for it.
        fold: whether a branch comes back to the stream on a second line, right to left.
    """

    layout: Layout
    width: float
    trunk: float
    norm: tuple[float, float]
    matrix: tuple[float, float]
    widest: float
    lane: float
    strip: float
    below: float
    core: float
    gap: float
    name: float
    small: float
    fold: bool

    @property
    def header(self) -> float:
        """Room at the frame's top for its title; on a line of matrices more of it than under a mere line."""
        return 26 if self.fold else 21

    @property
    def first(self) -> float:
        """x of what comes first on a line, right of the stream: a norm."""
        return self.trunk + 18

    @property
    def bus(self) -> float:
        """x of the vertical line that feeds the parallel matrices."""
        return self.first + self.norm[0] + (5 if self.fold else 6)

    @property
    def column(self) -> float:
        """x where the parallel matrices stand."""
        return self.bus + (18 if self.fold else 20)


WIDE = Metrics(
    layout="wide", width=530, trunk=29, norm=(34, 24), matrix=(96, 40), widest=1.35, lane=42, strip=12, below=16,
    core=88, gap=10, name=12, small=11, fold=False,
)  # fmt: skip
NARROW = Metrics(
    layout="narrow", width=350, trunk=26, norm=(32, 22), matrix=(86, 36), widest=1.35, lane=38, strip=11, below=15,
    core=84, gap=8, name=11, small=11, fold=True,
)  # fmt: skip
