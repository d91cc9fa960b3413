"""A shipped sweep of short trainings on the two live models, made by ``tools/sweep.py``: the measured effects of
learning rate, rank, targets and batch size.

:func:`curves` groups the trainings that differ only in their rate and finds the best rate of each group,
:func:`interval` gives a confidence interval over seeds, :mod:`.landscape` selects what a picture shows.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import Any, Self

from peft_lab.core import content
from peft_lab.core.errors import BadInput
from peft_lab.models.catalogue import get_model
from peft_lab.runs.spec import RunRequest
from peft_lab.studies.store import command_line

# ----------------------------------------
# The shipped trainings, ``rows.jsonl`` (one a line, as ``tools/sweep.py`` writes them), and what they share,
# ``about.json``; ``python -m tools.ship_sweep`` writes both.


ROWS_FILE, ABOUT_FILE = "rows.jsonl", "about.json"
FULL, LORA = "full", "lora"
ATTENTION, MLP, ALL = "attention", "mlp", "all"
#: The feed-forward maps, and the attention map whose path has the same ending.
MLP_AND_MORE = "mlp-and-more"


@dataclass(frozen=True)
class SweepPoint:
    """One training."""

    model: str
    method: str
    rate: float  # peak learning rate
    rank: int  # 0 for full fine-tuning, whose targets are "all"
    targets: str
    batch: int  # rows in a step
    seed: int
    task: str
    steps: int
    trainable: int  # parameters, including the head
    curve: tuple[float, ...]  # training losses in nats, averaged over neighbouring steps
    diverged: bool  # a loss was not finite; then there are no scores
    seconds: float  # total time, including loading and scoring
    loss: float | None = None  # on held-out rows, in nats per classified row or generated token
    metric: float | None = None  # a share of these rows

    @property
    def name(self) -> tuple[str, str, float, int, str, int, int]:
        """Return the varied settings, which identify the training."""
        return (self.model, self.method, self.rate, self.rank, self.targets, self.batch, self.seed)


@dataclass(frozen=True)
class ModelSetting:
    """What the trainings on one model have in common."""

    task: str
    rows: int  # training rows that each saw
    eval_rows: int  # held-out rows it was scored on
    metric: str  # name of the metric
    targets: Mapping[str, tuple[str, ...]]  # module names by the name of the targets in a point
    specs: Mapping[str, Mapping[str, Any]]  # the run's request, by method


@dataclass(frozen=True)
class Sweep:
    """All trainings."""

    points: tuple[SweepPoint, ...]
    command: str = ""
    total: int = 0  # size of the whole grid
    created: str = ""  # date of assembly
    note: str = ""  # how it was measured
    machine: Mapping[str, Any] = field(default_factory=dict)  # processor, cores, system and more
    device: str = ""  # device and dtype: where it was computed, and in which precision
    dtype: str = ""
    packages: Mapping[str, str] = field(default_factory=dict)  # versions
    again: int = 0  # how many trainings were repeated and gave equal figures
    settings: Mapping[str, ModelSetting] = field(default_factory=dict)  # by model

    @classmethod
    def of(cls, rows: Iterable[Mapping[str, Any]], about: Mapping[str, Any] | None = None) -> Self:
        """Return a sweep from its rows and what is known of them. Raises BadInput if a row is invalid or a duplicate,
        or its model and task are not in the settings."""
        known_of = dict(about or {})
        settings = {}
        for model, each in known_of.pop("settings", {}).items():
            read = content.read_typed(ModelSetting, each, "A model's setting")
            targets = {name: tuple(maps) for name, maps in read["targets"].items()}
            settings[model] = ModelSetting(**{**read, "targets": targets})
        told = content.read_typed(cls, {"points": [], **known_of}, "A sweep")
        points = tuple(SweepPoint(**content.read_typed(SweepPoint, row, "A training")) for row in rows)
        known: set[Any] = set()
        for point in points:
            if point.name in known:
                raise BadInput(f"The run {point.name} occurs twice.", "points")
            known.add(point.name)
            _require_sense(point)
            if settings and (point.model not in settings or settings[point.model].task != point.task):
                raise BadInput(f"There are no settings for {point.task} on {point.model}.", "settings")
        return cls(**{**told, "points": points, "settings": settings})

    @property
    def models(self) -> tuple[str, ...]:
        """Return the trained models, in order of first appearance."""
        return tuple(dict.fromkeys(point.model for point in self.points))

    def on(self, model: str) -> tuple[SweepPoint, ...]:
        """Return the trainings on one model."""
        return tuple(point for point in self.points if point.model == model)

    def values(self, model: str, name: str) -> tuple[Any, ...]:
        """Return the values that a :class:`SweepPoint` field, such as ``rank``, has in LoRA's trainings on a model."""
        found = {getattr(point, name) for point in self.on(model) if point.method == LORA}
        return tuple(sorted(found, key=lambda value: (value == ALL, value)))

    def maps(self, model: str, targets: str) -> tuple[str, ...]:
        """Return the paths that PEFT adapts for a name of targets, without the model's prefix; empty if unknown.
        PEFT compares endings: BERT's ``output.dense`` also matches the attention's output."""
        known = self.settings.get(model)
        if known is None or targets not in known.targets:
            return ()
        groups = get_model(model).shape.match(known.targets[targets]).groups
        return tuple(group.path.split("{}.")[-1] for group in groups)

    def shared(self, model: str, targets: str = MLP) -> tuple[str, ...]:
        """Return the attention's maps among those that a name of targets adapts."""
        attention = self.maps(model, ATTENTION)
        return tuple(path for path in self.maps(model, targets) if path in attention)


def _require_sense(point: SweepPoint) -> None:
    if (point.loss is not None and point.metric is not None) == point.diverged:
        raise BadInput(f"The run {point.name} must either have scores or have diverged.", "diverged")
    if point.metric is not None and not 0 <= point.metric <= 1:
        raise BadInput(f"The run {point.name} has a metric of {point.metric:g}.", "metric")
    if point.rate <= 0 or point.batch < 1 or (point.rank > 0) == (point.method == FULL):
        raise BadInput(f"There is no run {point.name}.", "rate")


def read_points(rows: str, about: str) -> Sweep:
    """Return a sweep from the texts of its two files. Raises what :meth:`Sweep.of` raises."""
    return Sweep.of((json.loads(line) for line in rows.splitlines()), json.loads(about))


@cache
def shipped_points() -> Sweep:
    """Return the sweep that comes with the app."""
    folder = resources.files(__package__) / "shipped_sweep"
    return read_points((folder / ROWS_FILE).read_text("utf-8"), (folder / ABOUT_FILE).read_text("utf-8"))


# ----------------------------------------
# Confidence intervals of a sweep's figures.
#
# Trainings that share model, batch and seed share the order of the rows, the start of the head and, in differences,
# the run of full fine-tuning that they are compared with, so they are not independent. Each such group counts as
# one observation: the mean of its paired differences. The interval is Student's t over the groups; it keeps its
# coverage from two groups on, even if they vary unequally (Ibragimov & Müller 2010, t-Statistic Based Correlation
# and Heterogeneity Robust Inference). It covers the choice of seeds only: all trainings on a model are scored on
# the same rows, so the variation between rows is not included.


SURE = 0.95  # confidence level of the intervals


@dataclass(frozen=True)
class Interval:
    """A mean over groups, with its confidence interval if there are at least two groups."""

    value: float  # value, low, high: in the unit of the differences
    low: float | None
    high: float | None
    groups: int  # number of independent groups
    pairs: int  # number of differences


def interval(differences: Iterable[tuple[Hashable, float]]) -> Interval | None:
    """Return the mean of the groups' means with its interval; ``None`` for no differences. ``differences``: pairs of a
    group and a difference."""
    table: dict[Hashable, list[float]] = {}
    for group, difference in differences:
        table.setdefault(group, []).append(difference)
    if not table:
        return None
    means = [statistics.fmean(found) for found in table.values()]
    value, pairs = statistics.fmean(means), sum(map(len, table.values()))
    if len(means) < 2:
        return Interval(value, None, None, len(means), pairs)
    from scipy.special import stdtrit

    reach = float(stdtrit(len(means) - 1, (1 + SURE) / 2)) * statistics.stdev(means) / math.sqrt(len(means))
    return Interval(value, value - reach, value + reach, len(means), pairs)


# ----------------------------------------
# Trainings that differ only in their learning rate, and the best rate of each such curve.


@dataclass(frozen=True)
class RateCurve:
    """The trainings of one configuration and seed, by ascending learning rate; diverged ones count as worst."""

    points: tuple[SweepPoint, ...]

    @property
    def at(self) -> SweepPoint:
        """Return one of the trainings: they share all but rate and outcome."""
        return self.points[0]

    @property
    def best(self) -> SweepPoint | None:
        """Return the training with the lowest held-out loss; ``None`` if all diverged."""
        scored = [point for point in self.points if point.loss is not None]
        return min(scored, key=lambda point: (point.loss, point.rate)) if scored else None

    @property
    def rate(self) -> float | None:
        """Return the best learning rate: the minimum of the parabola, loss over log rate, through the best training
        and its neighbours; the best training's own rate if a neighbour diverged; ``None`` if all diverged or the
        best is at an end of the sweep, as the optimum may lie beyond."""
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
    """Return the minimum's x of the parabola through three points; the middle one must not be above the others."""
    left, right = xs[1] - xs[0], xs[2] - xs[1]
    down, up = ys[0] - ys[1], ys[2] - ys[1]
    bend = down * right + up * left
    return xs[1] if bend <= 0 else xs[1] + (down * right**2 - up * left**2) / (2 * bend)


def curves(sweep: Sweep, points: Iterable[SweepPoint] | None = None) -> list[RateCurve]:
    """Return a curve for each configuration and seed that was trained at all its model's and method's rates."""
    given = sweep.points if points is None else tuple(points)
    rates: dict[tuple[str, str], set[float]] = {}
    for point in sweep.points:
        rates.setdefault((point.model, point.method), set()).add(point.rate)
    table: dict[tuple[object, ...], list[SweepPoint]] = {}
    for point in given:
        key = (point.model, point.method, point.rank, point.targets, point.batch, point.seed)
        table.setdefault(key, []).append(point)
    whole = (found for found in table.values() if len(found) == len(rates[found[0].model, found[0].method]))
    return [RateCurve(tuple(sorted(found, key=lambda point: point.rate))) for found in whole]


# ----------------------------------------
# The run that repeats a training of the sweep.


def request_again(sweep: Sweep, point: SweepPoint) -> RunRequest:
    """Return the request of the run that repeats a training."""
    setting = sweep.settings[point.model]
    return RunRequest(
        model=point.model,
        method=point.method,
        task=point.task,
        values=knobs(sweep, point),
        steps=point.steps,
        batch=point.batch,
        seed=point.seed,
        learning_rate=point.rate,
        eval_rows=setting.eval_rows,
    )


def knobs(sweep: Sweep, point: SweepPoint) -> dict[str, Any]:
    """Return the knobs that a training sets; the others have their defaults."""
    if point.method != LORA:
        return {}
    setting = sweep.settings[point.model]
    alpha = setting.specs[LORA]["values"]["lora_alpha"]
    return {"r": point.rank, "lora_alpha": alpha, "target_modules": tuple(setting.targets[point.targets])}


def command_of(sweep: Sweep, point: SweepPoint) -> str:
    """Return the command line that repeats a training."""
    asked = request_again(sweep, point)
    names = ("model", "method", "task", "steps", "batch", "seed", "eval_rows")
    options = {name.replace("_", "-"): getattr(asked, name) for name in names}
    return command_line("train", {**options, "lr": f"{point.rate:g}"}, asked.values)
