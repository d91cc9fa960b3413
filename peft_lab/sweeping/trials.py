"""How a sweep stands: its runs with their figures, and its settings, each with the runs of its seeds."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peft_lab.compare.found import runs_of, status_of
from peft_lab.errors import PeftLabError
from peft_lab.methods import get_method
from peft_lab.runs import early
from peft_lab.runs.spec import RunSpec
from peft_lab.runs.store import Run
from peft_lab.runs.summary import DAMAGED
from peft_lab.runs.view import RunView, Status, has_ended
from peft_lab.sweep.groups import quantile
from peft_lab.sweep.landscape import LOSS, METRIC

RATE, METHOD = "learning_rate", "method"
TO_COME, EARLY = "to come", "ended early"
#: The loss of the last step: of runs that are scored on no held-out rows.
TRAINING = "training"
#: What a run can be judged by, in the order in which it is offered.
FIGURES = (METRIC, LOSS, TRAINING)


@dataclass(frozen=True)
class Trial:
    """One run of a sweep.

    Attributes:
        run: its id; empty while nothing was begun.
        status: a :class:`Status`, ``to come``, ``ended early`` (by a sweep) or ``damaged``.
        message: why it failed or stopped. step: how many it has made. seconds: of training.
        figures: by :data:`FIGURES`; what was not measured is left out. Only of runs that are done.
    """

    spec: RunSpec
    run: str = ""
    status: str = TO_COME
    message: str = ""
    step: int = 0
    seconds: float | None = None
    figures: Mapping[str, float] | None = None

    @property
    def done(self) -> bool:
        return self.status == Status.DONE

    @property
    def under_way(self) -> bool:
        return self.status not in (TO_COME, EARLY, DAMAGED) and not Status(self.status).final

    def figure(self, name: str) -> float | None:
        return (self.figures or {}).get(name)


@dataclass(frozen=True)
class Setting:
    """What differs from seed to seed in nothing else.

    Attributes:
        values: what the sweep varies, by name (``method`` and ``learning_rate`` among them); ``None`` for a knob that
            the method does not have.
    """

    values: Mapping[str, Any]
    trials: tuple[Trial, ...]

    def found(self, figure: str) -> list[float]:
        """The figure of each seed that is done."""
        values = (trial.figure(figure) for trial in self.trials if trial.done)
        return [value for value in values if value is not None]

    def mean(self, figure: str) -> float | None:
        values = self.found(figure)
        return statistics.fmean(values) if values else None


_ended: dict[Path, tuple[int, Trial]] = {}  # with the run's stamp: one that ended too early may go on


def trials(specs: Sequence[RunSpec]) -> list[Trial]:
    """The runs of a sweep as they stand now, in order. What has its ending is read once."""
    return [_trial(spec, run) for spec, run in zip(specs, runs_of(specs), strict=True)]


def _trial(spec: RunSpec, run: Run | None) -> Trial:
    if run is None:
        return Trial(spec)
    stamp = run.stamp()
    known = _ended.get(run.folder)
    if known is not None and known[0] == stamp and known[1].spec == spec:
        return known[1]
    try:
        status = status_of(run)
        found = _read(spec, run, status, run.view())
    except PeftLabError as error:
        return Trial(spec, run.id, DAMAGED, str(error))
    if status.final and has_ended(run.events()):
        _ended[run.folder] = (stamp, found)
    return found


def _read(spec: RunSpec, run: Run, status: Status, seen: RunView) -> Trial:
    figures = {}
    if status is Status.DONE:
        after = seen.after
        held_out = (
            {} if after is None else {METRIC: after.metrics.get(spec.task_object().metric), LOSS: after.loss}
        )
        found = {**held_out, TRAINING: seen.losses[-1] if seen.losses else None}
        figures = {name: value for name, value in found.items() if value is not None and math.isfinite(value)}
    ended = EARLY if status is Status.STOPPED and early.ended_by(run) is not None else str(status)
    return Trial(spec, run.id, ended, seen.message, seen.step, seen.seconds, figures)


def varied(specs: Sequence[RunSpec]) -> list[str]:
    """What differs between runs of one method beside the seed; first ``method``, where there are several."""
    by_method: dict[str, list[RunSpec]] = {}
    for spec in specs:
        by_method.setdefault(spec.method, []).append(spec)
    # What differs by method alone is each method's own default, and says nothing that the method does not.
    others = [
        name
        for name in (RATE, *dict.fromkeys(name for spec in specs for name in spec.values))
        if any(len({str(value_of(spec, name)) for spec in group}) > 1 for group in by_method.values())
    ]
    return [METHOD, *others] if len(by_method) > 1 else others


def value_of(spec: RunSpec, name: str) -> Any:
    """A run's method, rate or knob."""
    if name == METHOD:
        return get_method(spec.method).title
    value = spec.learning_rate if name == RATE else spec.values.get(name)
    return tuple(value) if isinstance(value, list) else value


def settings(found: Sequence[Trial], names: Sequence[str]) -> list[Setting]:
    """The trials by what they were set to, in order."""
    grouped: dict[str, list[Trial]] = {}
    for trial in found:
        key = json.dumps([trial.spec.method, *(value_of(trial.spec, name) for name in names)])
        grouped.setdefault(key, []).append(trial)
    return [
        Setting({name: value_of(group[0].spec, name) for name in names}, tuple(group))
        for group in grouped.values()
    ]


def measured(found: Sequence[Trial]) -> list[str]:
    """Those of :data:`FIGURES` that at least one run has; the training's loss only where no other is there."""
    present = [name for name in FIGURES if any(trial.figure(name) is not None for trial in found)]
    return [name for name in present if name != TRAINING] or present


def kind_of(figure: str) -> str:
    """How a figure is written and read: as a share, of which more is better, or as a loss, of which less is."""
    return METRIC if figure == METRIC else LOSS


def comparable(found: Sequence[Setting], figure: str) -> list[Setting]:
    """Those with the most seeds done, the best mean first; none while nothing is done."""
    most = max((len(each.found(figure)) for each in found), default=0)
    sign = -1 if kind_of(figure) == METRIC else 1
    fitting = [each for each in found if most and len(each.found(figure)) == most]
    return sorted(fitting, key=lambda each: sign * statistics.fmean(each.found(figure)))


def best(found: Sequence[Setting], figure: str) -> Setting | None:
    """The first of those that are :func:`comparable`; ``None`` while nothing is done."""
    return next(iter(comparable(found, figure)), None)


def interval(values: Sequence[float]) -> tuple[float, float] | None:
    """Where the mean over seeds lies, by Student's t over the values themselves; ``None`` for fewer than two.

    >>> [round(value, 3) for value in interval([0.80, 0.82, 0.84])], interval([0.8])
    ([0.77, 0.87], None)
    """
    if len(values) < 2:
        return None
    reach = quantile(len(values) - 1) * statistics.stdev(values) / math.sqrt(len(values))
    mean = statistics.fmean(values)
    return mean - reach, mean + reach
