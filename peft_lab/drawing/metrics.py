"""The two layouts' fixed measures. Both are drawn by the same code."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Layout = Literal["wide", "narrow"]


@dataclass(frozen=True)
class Metrics:
    """Lengths in user units; at the layout's natural width one unit is one CSS pixel.

    Attributes:
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


WIDE = Metrics(
    layout="wide", width=720, trunk=36, norm=(38, 24), matrix=(96, 40), widest=1.4, lane=48, strip=13, below=17,
    core=104, gap=14, name=12, small=11, fold=False,
)  # fmt: skip
NARROW = Metrics(
    layout="narrow", width=350, trunk=24, norm=(32, 22), matrix=(84, 36), widest=1.4, lane=40, strip=11, below=15,
    core=86, gap=10, name=11, small=11, fold=True,
)  # fmt: skip
