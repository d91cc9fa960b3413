"""Compute curves of a sweep: a figure over the learning rate, one line per rank, choice of targets or batch size."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from peft_lab.studies.shipped_sweep import ALL, FULL, LORA, MLP, MLP_AND_MORE, Sweep, SweepPoint

#: What distinguishes the lines, with its title.
BY: Mapping[str, str] = {"rank": "Rank", "targets": "Targets", "batch": "Batch size", "method": "Method"}
#: The figures that can be drawn. A lower loss and a higher metric are better.
LOSS, METRIC = "loss", "metric"
_TARGETS = {MLP: "feed-forward", MLP_AND_MORE: "feed-forward"}
_TITLES = {LORA: "LoRA", FULL: "Full fine-tuning"}


@dataclass(frozen=True)
class Spot:
    """One point of a line: the mean, lowest and highest figure over ``seeds`` seeds at one value of the x axis."""

    rate: float
    mean: float
    low: float
    high: float
    seeds: int


@dataclass(frozen=True)
class Line:
    """One configuration over all its rates."""

    label: str  # what distinguishes it
    method: str  # ``lora`` or ``full``; full fine-tuning is drawn beside every choice
    points: tuple[SweepPoint, ...]  # the trainings, of the seeds that cover all rates
    spots: tuple[Spot, ...]  # by rate
    best: Spot | None  # the best spot among those with the most seeds that have a score; ``None`` without any

    @property
    def diverged(self) -> int:
        """Return how many of the line's trainings diverged."""
        return sum(point.diverged for point in self.points)

    def at(self, rate: float, figure: str) -> Spot | None:
        """Return the spot at a rate for another figure; ``None`` without a score."""
        return _spot([point for point in self.points if point.rate == rate], figure)

    def first(self, rate: float) -> SweepPoint:
        """Return the training at a rate with the lowest seed."""
        return min((point for point in self.points if point.rate == rate), key=lambda point: point.seed)


def lines(sweep: Sweep, model: str, by: str, figure: str, fixed: Mapping[str, Any]) -> list[Line]:
    """Return the lines of a picture, full fine-tuning last. ``by``: one of :data:`BY`. ``figure``: ``loss`` or
    ``metric``. ``fixed``: the values of ``rank``, ``targets`` and ``batch`` where the lines do not vary them."""
    found = []
    for label, wanted in _configurations(sweep, model, by, fixed):
        points = [
            point
            for point in sweep.on(model)
            if all(getattr(point, name) == value for name, value in wanted.items())
        ]
        # Means over different seeds could not be compared: the seeds with the most rates count.
        rates = Counter(point.seed for point in points)
        points = [point for point in points if rates[point.seed] == max(rates.values())]
        if points:
            at = [
                [point for point in points if point.rate == rate] for rate in sorted({p.rate for p in points})
            ]
            spots = [spot for group in at if (spot := _spot(group, figure)) is not None]
            found.append(Line(label, points[0].method, tuple(points), tuple(spots), best_spot(spots, figure)))
    return found


def _configurations(
    sweep: Sweep, model: str, by: str, fixed: Mapping[str, Any]
) -> list[tuple[str, dict[str, Any]]]:
    kept = {name: fixed[name] for name in ("rank", "targets", "batch")}
    lora = {"method": LORA, **kept}
    full = {"method": FULL, "batch": kept["batch"]}
    if by == "method":
        return [(_TITLES[LORA], lora), (_TITLES[FULL], full)]
    values = sweep.values(model, by)
    made = [(named(sweep, model, by, value), {**lora, by: value}) for value in values]
    if by == "batch":
        return made + [
            (f"{_TITLES[FULL]}, {named(sweep, model, by, value)}", {**full, by: value}) for value in values
        ]
    return [*made, (_TITLES[FULL], full)]


def named(sweep: Sweep, model: str, by: str, value: Any) -> str:
    """Return a value as it is written in a legend or a list."""
    if by != "targets":
        return f"{BY[by].lower()} {value}"
    if value == ALL:
        return "attention and feed-forward"
    more = sweep.shared(model, value) if value in _TARGETS else ()
    return " and ".join([_TARGETS.get(value, value), *more])


def best_spot(spots: Sequence[Spot], figure: str) -> Spot | None:
    """Return the best spot among those with the most seeds; ``None`` if there are none."""
    most = max((spot.seeds for spot in spots), default=0)
    sure = [spot for spot in spots if spot.seeds == most]
    return min(sure, key=lambda spot: worth(spot, figure), default=None)


def told(value: float, figure: str) -> str:
    """Return a figure as text.

    >>> told(0.80512, METRIC), told(0.80512, LOSS)
    ('80.5%', '0.805')
    """
    return f"{value:.1%}" if figure == METRIC else f"{value:.3f}"


def worth(spot: Spot, figure: str) -> float:
    """Return a number that is lower the better a spot is, whatever the figure."""
    return spot.mean if figure == LOSS else -spot.mean


def best_of(found: Sequence[Line], figure: str) -> tuple[Line, Spot] | None:
    """Return the best spot and its line, among spots with the most seeds; ``None`` without any score."""
    pairs = [(line, line.best) for line in found if line.best is not None]
    most = max((spot.seeds for _, spot in pairs), default=0)
    return min(
        (pair for pair in pairs if pair[1].seeds == most),
        key=lambda pair: worth(pair[1], figure),
        default=None,
    )


def _spot(points: Sequence[SweepPoint], figure: str) -> Spot | None:
    values = [value for point in points if (value := getattr(point, figure)) is not None]
    return spot_of(points[0].rate, values) if points else None


def spot_of(rate: float, values: Sequence[float]) -> Spot | None:
    """Return the spot of some seeds' figures at a value of the x axis; ``None`` without any."""
    return Spot(rate, statistics.fmean(values), min(values), max(values), len(values)) if values else None


def models(sweep: Sweep) -> list[str]:
    """Return the models that have LoRA trainings; in an unfinished sweep they follow full fine-tuning's."""
    return [model for model in sweep.models if sweep.values(model, "rank")]


def usual(sweep: Sweep, model: str) -> dict[str, Any]:
    """Return the initial choices: the middle ``rank``, the widest ``targets``, the smallest ``batch``."""
    ranks, targets, batches = (sweep.values(model, name) for name in ("rank", "targets", "batch"))
    return {"rank": ranks[len(ranks) // 2], "targets": targets[-1], "batch": batches[0]}
