"""The shipped trainings and what they have in common: ``rows.jsonl``, a training a line as ``tools/sweep.py`` writes
them, and ``about.json``, both put here by ``python -m tools.ship_sweep``."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import Any, Self

from peft_lab import kinds
from peft_lab.errors import BadInput
from peft_lab.models.catalogue import get_model

ROWS, ABOUT = "rows.jsonl", "about.json"
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


def read(rows: str, about: str) -> Sweep:
    """A sweep from its two files' texts. Raises as :meth:`Sweep.of`."""
    return Sweep.of((json.loads(line) for line in rows.splitlines()), json.loads(about))


@cache
def shipped() -> Sweep:
    """The sweep that comes with the app."""
    folder = resources.files(__package__)
    return read((folder / ROWS).read_text("utf-8"), (folder / ABOUT).read_text("utf-8"))
