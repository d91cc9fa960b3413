"""Along which lines data passes, for a page that lets dots travel there: invisible paths with attributes.

``data-from`` is the distance in user units that a dot which entered the residual stream at the bottom has travelled
where the lane begins. Dots that all follow one clock then split and meet by themselves, and whoever moves them needs to
know nothing about how the lines are connected.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from html import escape
from typing import Literal

Point = tuple[float, float]
#: ``stream``: residual; ``flow``: any other line; ``frozen``: through a matrix. ``trained``: what a method adds.
LaneKind = Literal["stream", "flow", "frozen", "trained"]


@dataclass(frozen=True)
class Lane:
    """One line.

    Attributes:
        of: path of the module or place whose part it passes, as in the drawing's ``data-path``; empty for none.
        start: distance travelled where it begins; until :func:`placed` from where its branch leaves the stream.
        half: number of the block's half it belongs to, from the bottom; -1 for what is in none.
    """

    kind: LaneKind
    points: tuple[Point, ...]
    of: str = ""
    start: float = 0.0
    half: int = -1

    @property
    def length(self) -> float:
        return sum(math.dist(a, b) for a, b in itertools.pairwise(self.points))

    @property
    def end(self) -> float:
        return self.start + self.length


class Lanes:
    """Collects the lanes of one branch, each beginning where the last one ended unless told otherwise."""

    def __init__(self) -> None:
        self.found: list[Lane] = []

    def add(self, kind: LaneKind, points: Iterable[Point], start: float, of: str = "") -> float:
        """Returns the distance at its end."""
        lane = Lane(kind, tuple(points), of, start)
        self.found.append(lane)
        return lane.end


def placed(lanes: Sequence[Lane], offset: float, half: int) -> list[Lane]:
    """The lanes of a branch that leaves the stream after ``offset``."""
    return [replace(lane, start=lane.start + offset, half=half) for lane in lanes]


def svg(lanes: Sequence[Lane]) -> str:
    """As a group that is not seen."""
    return "\n".join(['<g class="lanes" aria-hidden="true">', *(_path(lane) for lane in lanes), "</g>"])


def _path(lane: Lane) -> str:
    steps = " L".join(f"{x:.1f} {y:.1f}" for x, y in lane.points)
    of = f' data-of="{escape(lane.of)}"' if lane.of else ""
    return (
        f'<path class="lane" data-lane="{lane.kind}"{of} data-from="{lane.start:.1f}" '
        f'data-half="{lane.half}" d="M{steps}"/>'
    )
