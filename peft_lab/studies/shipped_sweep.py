"""A sweep of short trainings on the two live models, made by ``tools/sweep.py`` and shipped: what a learning rate, a
rank, targets and a batch do, measured here.

``points`` reads it, ``curves`` puts the trainings that differ in their rate together and finds each one's best rate,
``groups`` says how sure a figure over seeds is, ``landscape`` picks what a picture shows.
"""

from __future__ import annotations

import json
import math
import shlex
import statistics
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import Any, Self

from peft_lab.core import kinds
from peft_lab.core.errors import BadInput
from peft_lab.models.catalogue import get_model
from peft_lab.runs.spec import RunRequest

# ----------------------------------------
# The shipped trainings and what they have in common: ``rows.jsonl``, a training a line as ``tools/sweep.py`` writes
# them, and ``about.json``, both put here by ``python -m tools.ship_sweep``.


ROWS_FILE, ABOUT_FILE = "rows.jsonl", "about.json"
FULL, LORA = "full", "lora"
ATTENTION, MLP, ALL = "attention", "mlp", "all"
#: The feed-forward maps and one of the attention's, whose path ends alike.
MLP_AND_MORE = "mlp-and-more"


@dataclass(frozen=True)
class Point:
    """One training.

    Attributes:
        rate: peak learning rate. rank: 0 for full fine-tuning, whose targets are "all".
        batch: rows of a step. trainable: parameters, the head included.
        curve: training losses, means of neighbouring steps, in nats.
        diverged: a loss was no number; there are no scores then.
        loss: on held-out rows, in nats of a row that is classified, of a token that is written. metric: share of them.
        seconds: that it took, loading and scoring included.
    """

    model: str
    method: str
    rate: float
    rank: int
    targets: str
    batch: int
    seed: int
    task: str
    steps: int
    trainable: int
    curve: tuple[float, ...]
    diverged: bool
    seconds: float
    loss: float | None = None
    metric: float | None = None

    @property
    def name(self) -> tuple[str, str, float, int, str, int, int]:
        """What is varied: no two trainings share it."""
        return (self.model, self.method, self.rate, self.rank, self.targets, self.batch, self.seed)


@dataclass(frozen=True)
class Setting:
    """What the trainings on one model have in common.

    Attributes:
        rows: training rows that each saw. eval_rows: held-out rows it was scored on. metric: the share's name.
        targets: by the name that a point gives them, the matrices. specs: by method, the run as it was asked for.
    """

    task: str
    rows: int
    eval_rows: int
    metric: str
    targets: Mapping[str, tuple[str, ...]]
    specs: Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Sweep:
    """All trainings.

    Attributes:
        total: how many the whole grid has. created: when it was put together. note: how it was measured.
        machine: processor, cores, system and more. device, dtype: what computed, and in which precision.
        packages: versions. again: how many trainings were repeated then and gave equal figures.
        settings: by model.
    """

    points: tuple[Point, ...]
    command: str = ""
    total: int = 0
    created: str = ""
    note: str = ""
    machine: Mapping[str, Any] = field(default_factory=dict)
    device: str = ""
    dtype: str = ""
    packages: Mapping[str, str] = field(default_factory=dict)
    again: int = 0
    settings: Mapping[str, Setting] = field(default_factory=dict)

    @classmethod
    def of(cls, rows: Iterable[Mapping[str, Any]], about: Mapping[str, Any] | None = None) -> Self:
        """A sweep from its rows and what is known of them.

        Raises:
            BadInput: a row that cannot be, that is there twice, or on a model that nothing is known of.
        """
        known_of = dict(about or {})
        settings = {
            model: _setting(kinds.read(Setting, each, "A model's setting"))
            for model, each in known_of.pop("settings", {}).items()
        }
        told = kinds.read(cls, {"points": [], **known_of}, "A sweep")
        points = tuple(Point(**kinds.read(Point, row, "A training")) for row in rows)
        known: set[Any] = set()
        for point in points:
            if point.name in known:
                raise BadInput(f"The training {point.name} is there twice.", "points")
            known.add(point.name)
            _require_sense(point)
            if settings and (point.model not in settings or settings[point.model].task != point.task):
                raise BadInput(f"Nothing is known of {point.task} on {point.model}.", "settings")
        return cls(**{**told, "points": points, "settings": settings})

    @property
    def models(self) -> tuple[str, ...]:
        """Those that were trained, in their order."""
        return tuple(dict.fromkeys(point.model for point in self.points))

    def on(self, model: str) -> tuple[Point, ...]:
        """The trainings on one model."""
        return tuple(point for point in self.points if point.model == model)

    def values(self, model: str, name: str) -> tuple[Any, ...]:
        """What a field of LoRA's trainings on a model was: ``rank``, ``targets``, ``batch``, ``rate`` or ``seed``."""
        return tuple(
            sorted({getattr(point, name) for point in self.on(model) if point.method == LORA}, key=_order)
        )

    def maps(self, model: str, targets: str) -> tuple[str, ...]:
        """The paths that PEFT adapts for a name of targets, without the model's prefix, in reading order; empty where
        nothing is known of it. PEFT compares endings: BERT's ``output.dense`` also hits the attention's output."""
        known = self.settings.get(model)
        if known is None or targets not in known.targets:
            return ()
        groups = get_model(model).shape.match(known.targets[targets]).groups
        return tuple(group.path.split("{}.")[-1] for group in groups)

    def shared(self, model: str, targets: str = MLP) -> tuple[str, ...]:
        """Maps that are adapted for a name of targets although they are the attention's."""
        attention = self.maps(model, ATTENTION)
        return tuple(path for path in self.maps(model, targets) if path in attention)


def _order(value: Any) -> tuple[Any, ...]:
    """Numbers by size; names with the widest last."""
    return (value == ALL, value) if isinstance(value, str) else (value,)


def _setting(told: Mapping[str, Any]) -> Setting:
    targets = {name: tuple(maps) for name, maps in told["targets"].items()}
    return Setting(**{**told, "targets": targets})


def _require_sense(point: Point) -> None:
    scored = point.loss is not None and point.metric is not None
    if scored == point.diverged:
        raise BadInput(f"The training {point.name} has scores or has diverged, one of the two.", "diverged")
    if point.metric is not None and not 0 <= point.metric <= 1:
        raise BadInput(f"The training {point.name} has a metric of {point.metric:g}.", "metric")
    if point.rate <= 0 or point.batch < 1 or (point.rank > 0) == (point.method == FULL):
        raise BadInput(f"There is no training {point.name}.", "rate")


def read_points(rows: str, about: str) -> Sweep:
    """A sweep from its two files' texts. Raises as :meth:`Sweep.of`."""
    return Sweep.of((json.loads(line) for line in rows.splitlines()), json.loads(about))


@cache
def shipped_points() -> Sweep:
    """The sweep that comes with the app."""
    folder = resources.files(__package__) / "shipped_sweep"
    return read_points((folder / ROWS_FILE).read_text("utf-8"), (folder / ABOUT_FILE).read_text("utf-8"))


# ----------------------------------------
# How sure a figure of a sweep is.
#
# Trainings that share model, batch and seed share the order of the rows, the start of the head and, in differences,
# the run of full fine-tuning that they are held against: they are no independent witnesses. So each such group is
# one witness: the mean of its paired differences. The interval is that of Student's t over the groups, which keeps
# what it promises although groups vary unequally, with two of them on (Ibragimov & Müller 2010, t-Statistic Based
# Correlation and Heterogeneity Robust Inference). It is about other seeds: all trainings on a model are scored on
# the same rows, and what other rows would say is not in it.


SURE = 0.95  # of intervals, with which they hold the true figure


@dataclass(frozen=True)
class Interval:
    """A mean over groups. Without a second group there is no interval.

    Attributes:
        value, low, high: in the unit of the differences.
        groups: independent witnesses. pairs: differences in them.
    """

    value: float
    low: float | None
    high: float | None
    groups: int
    pairs: int


def interval(differences: Iterable[tuple[Hashable, float]]) -> Interval | None:
    """Mean of the groups' means with its interval; ``None`` of nothing.

    Args:
        differences: each with the group that it is of.
    """
    table: dict[Hashable, list[float]] = {}
    for group, difference in differences:
        table.setdefault(group, []).append(difference)
    if not table:
        return None
    means = [statistics.fmean(found) for found in table.values()]
    value, pairs = statistics.fmean(means), sum(map(len, table.values()))
    if len(means) < 2:
        return Interval(value, None, None, len(means), pairs)
    reach = quantile(len(means) - 1) * statistics.stdev(means) / math.sqrt(len(means))
    return Interval(value, value - reach, value + reach, len(means), pairs)


def quantile(freedom: int) -> float:
    """How many standard errors an interval reaches to either side.

    >>> round(quantile(1), 2), round(quantile(5), 2)
    (12.71, 2.57)
    """
    from scipy.special import stdtrit

    return float(stdtrit(freedom, (1 + SURE) / 2))


# ----------------------------------------
# Trainings that differ in their learning rate alone, and the best rate of each such curve.


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


# ----------------------------------------
# The best learning rate of every method, batch and rank, with what seeds and targets moved it.


@dataclass(frozen=True)
class Best:
    """Curves of one model, method, batch and rank: one of each seed and choice of targets.

    Attributes:
        rate: geometric mean of their best rates, with the lowest and the highest; ``None`` where none lies between the
            ends of the sweep.
        loss: mean of their lowest held-out losses, with the lowest and the highest. metric: the same of the shares at
            those rates.
        curves: how many. seeds: how many of them differ.
    """

    model: str
    method: str
    batch: int
    rank: int
    rate: tuple[float, float, float] | None
    loss: tuple[float, float, float]
    metric: tuple[float, float, float]
    curves: int
    seeds: int


def best_rate(sweep: Sweep) -> list[Best]:
    """By model, full fine-tuning first, then by batch and rank; whole curves only."""
    table: dict[tuple[str, bool, int, int], list[Curve]] = {}
    for curve in curves(sweep):
        at = curve.at
        if curve.best is not None:
            table.setdefault((at.model, at.method != FULL, at.batch, at.rank), []).append(curve)
    order = sorted(table, key=lambda key: (sweep.models.index(key[0]), *key[1:]))
    return [_best(table[key]) for key in order]


def _best(found: Sequence[Curve]) -> Best:
    at = found[0].at
    scored = [curve.best for curve in found if curve.best is not None]
    logs = [math.log(curve.rate) for curve in found if curve.rate is not None]
    rate = (math.exp(statistics.fmean(logs)), math.exp(min(logs)), math.exp(max(logs))) if logs else None
    losses, shares = (
        [value for point in scored if (value := getattr(point, name)) is not None]
        for name in ("loss", "metric")
    )
    return Best(
        at.model, at.method, at.batch, at.rank, rate, _three(losses), _three(shares), len(found),
        len({curve.at.seed for curve in found}),
    )  # fmt: skip


def _three(values: Sequence[float]) -> tuple[float, float, float]:
    return statistics.fmean(values), min(values), max(values)


def rate_table(sweep: Sweep) -> str:
    """The same as a table in Markdown."""
    lines = [
        "| model | method | batch | rank | best rate (lowest to highest) | loss there | metric there | curves, seeds |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    for each in best_rate(sweep):
        rate = "at an end" if each.rate is None else _span(each.rate, "{:.1e}")
        rank = "–" if each.method == FULL else str(each.rank)
        lines.append(
            f"| {get_model(each.model).title} | {each.method} | {each.batch} | {rank} | {rate} | "
            f"{_span(each.loss, '{:.3f}')} | {_span(each.metric, '{:.1%}')} | {each.curves}, {each.seeds} |"
        )
    return "\n".join(lines)


def _span(values: tuple[float, float, float], form: str) -> str:
    mean, low, high = (form.format(value) for value in values)
    return f"{mean} ({low} to {high})"


# ----------------------------------------
# A training of the sweep as the run that repeats it.


def request_again(sweep: Sweep, point: Point) -> RunRequest:
    """The run that repeats a training."""
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


def knobs(sweep: Sweep, point: Point) -> dict[str, Any]:
    """What a training sets of its method's knobs; the others are at their defaults."""
    if point.method != LORA:
        return {}
    setting = sweep.settings[point.model]
    alpha = setting.specs[LORA]["values"]["lora_alpha"]
    return {"r": point.rank, "lora_alpha": alpha, "target_modules": tuple(setting.targets[point.targets])}


def command_of(sweep: Sweep, point: Point) -> str:
    """The same as a command line."""
    asked = request_again(sweep, point)
    parts = ["python", "-m", "peft_lab", "train", "--model", asked.model, "--method", asked.method]
    parts += ["--task", asked.task, "--steps", str(asked.steps), "--batch", str(asked.batch)]
    parts += ["--lr", f"{point.rate:g}", "--seed", str(asked.seed), "--eval-rows", str(asked.eval_rows)]
    for name, value in asked.values.items():
        parts += ["--set", f"{name}={','.join(value) if isinstance(value, tuple) else value}"]
    return shlex.join(parts)
