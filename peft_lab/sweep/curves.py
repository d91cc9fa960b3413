"""Trainings that differ in their learning rate alone, and the best rate of each such curve."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from peft_lab.sweep.points import Point, Sweep


@dataclass(frozen=True)
class Curve:
    """Loss against rate of one configuration with one seed.

    Attributes:
        points: by rate, lowest first. A diverged one is as bad as can be.
    """

    points: tuple[Point, ...]

    @property
    def at(self) -> Point:
        """Any of the trainings: all but rate and outcome is common."""
        return self.points[0]

    @property
    def best(self) -> Point | None:
        """The training with the lowest held-out loss; ``None`` where all diverged."""
        scored = [point for point in self.points if point.loss is not None]
        return min(scored, key=lambda point: (point.loss, point.rate)) if scored else None

    @property
    def rate(self) -> float | None:
        """The best learning rate, between the sweep's own: the lowest point of the parabola through the best training
        and its neighbours, loss over the logarithm of the rate. ``None`` where the best is at an end: it may lie
        beyond."""
        best = self.best
        if best is None:
            return None
        place = self.points.index(best)
        if place in (0, len(self.points) - 1):
            return None
        near = self.points[place - 1 : place + 2]
        losses = [point.loss for point in near if point.loss is not None]
        if len(losses) < len(near):
            return best.rate
        return math.exp(_lowest([math.log(point.rate) for point in near], losses))


def _lowest(xs: Sequence[float], ys: Sequence[float]) -> float:
    """Where the parabola through three points is lowest, of which the middle one is not above the others."""
    left, right = xs[1] - xs[0], xs[2] - xs[1]
    down, up = ys[0] - ys[1], ys[2] - ys[1]
    bend = down * right + up * left
    return xs[1] if bend <= 0 else xs[1] + (down * right**2 - up * left**2) / (2 * bend)


def curves(sweep: Sweep, points: Iterable[Point] | None = None) -> list[Curve]:
    """Every configuration and seed of which all rates are there, those that its model and method has anywhere."""
    given = sweep.points if points is None else tuple(points)
    rates: dict[tuple[str, str], set[float]] = {}
    for point in sweep.points:
        rates.setdefault((point.model, point.method), set()).add(point.rate)
    table: dict[tuple[object, ...], list[Point]] = {}
    for point in given:
        key = (point.model, point.method, point.rank, point.targets, point.batch, point.seed)
        table.setdefault(key, []).append(point)
    whole = (found for found in table.values() if len(found) == len(rates[found[0].model, found[0].method]))
    return [Curve(tuple(sorted(found, key=lambda point: point.rate))) for found in whole]
