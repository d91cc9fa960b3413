"""Sweeps as studies: the requested runs of each, how far they are, its settings with the runs of their seeds; how a
sweep is carried out."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

from peft_lab.core.errors import BadInput, PeftLabError, UnreadableFile
from peft_lab.methods import get_method
from peft_lab.runs import checkpoints, record
from peft_lab.runs.spec import RunSpec
from peft_lab.runs.store import Run
from peft_lab.runs.view import DAMAGED, RunView, Status, has_ended
from peft_lab.studies import shipped_sweep
from peft_lab.studies.carrying import Attempt, Executor, Watch, make_runs
from peft_lab.studies.landscape import LOSS, METRIC
from peft_lab.studies.store import Study, identity, runs_of, status_of
from peft_lab.studies.sweeps.plan import Asha, Judge


class KeptSweep(Study):
    """One sweep's folder."""

    NOUN: ClassVar[str] = "sweep"
    FOLDER: ClassVar[str] = "sweeps"
    FILE: ClassVar[str] = "sweep.json"

    @property
    def specs(self) -> tuple[RunSpec, ...]:
        return _specs(self)

    @property
    def ends_early(self) -> bool:
        """Return whether poor runs are ended early, which only the command line does."""
        return "stop" in self.content()


# A sweep's name contains a hash of its content, which never changes.
@lru_cache(maxsize=16)
def _specs(sweep: KeptSweep) -> tuple[RunSpec, ...]:
    try:
        return tuple(RunSpec.from_dict(spec) for spec in sweep.content()["specs"])
    except (BadInput, UnreadableFile, ValueError, KeyError, TypeError) as error:
        raise sweep.unreadable(error) from error


get, sweeps, root = KeptSweep.get, KeptSweep.stored, KeptSweep.root


def keep(specs: Sequence[RunSpec], early: Asha | None = None) -> KeptSweep:
    """Return the sweep of these runs, created if there is none: equal runs with equal early stopping are one sweep.
    Raises RunError if the disk cannot be written."""
    content: dict[str, Any] = {"specs": [spec.to_dict() for spec in specs]}
    if early is not None:
        content["stop"] = early.to_dict()
    return KeptSweep.create(identity(specs[0].model, specs[0].task, content), content)


# ----------------------------------------
# The state of a sweep: its runs with their figures, and its settings, each with the runs of its seeds.


RATE, METHOD = "learning_rate", "method"
TO_COME, EARLY = "to come", "ended early"
#: The loss of the last step, for runs that are not scored on held-out rows.
TRAINING = "training"
#: The figures by which a run can be judged, in the order in which they are offered.
FIGURES = (METRIC, LOSS, TRAINING)


@dataclass(frozen=True)
class Trial:
    """One run of a sweep."""

    spec: RunSpec
    run: str = ""  # its id; empty before it has begun
    status: str = TO_COME  # a :class:`Status`, ``to come``, ``ended early`` (by a sweep) or ``damaged``
    message: str = ""  # why it failed or stopped
    step: int = 0  # steps made
    seconds: float | None = None  # training time
    # by :data:`FIGURES`, without those not measured; only for runs that are done
    figures: Mapping[str, float] | None = None

    @property
    def done(self) -> bool:
        """Return whether the run has finished all its steps."""
        return self.status == Status.DONE

    @property
    def under_way(self) -> bool:
        """Return whether the run was begun and has not ended yet."""
        return self.status not in (TO_COME, EARLY, DAMAGED) and not Status(self.status).final

    def figure(self, name: str) -> float | None:
        """Return one figure of the run by its name, ``None`` if it was not measured."""
        return (self.figures or {}).get(name)


@dataclass(frozen=True)
class SweepSetting:
    """The runs that differ only in their seeds."""

    # the varied settings by name (``method`` and ``learning_rate`` among them); ``None`` for a knob that the method
    # does not have
    values: Mapping[str, Any]
    trials: tuple[Trial, ...]

    def found(self, figure: str) -> list[float]:
        """Return the figure of each seed that is done."""
        values = (trial.figure(figure) for trial in self.trials if trial.done)
        return [value for value in values if value is not None]

    def mean(self, figure: str) -> float | None:
        """Return the mean of a figure over the seeds that are done, ``None`` if no seed is."""
        values = self.found(figure)
        return statistics.fmean(values) if values else None


_ended_trials: dict[Path, tuple[int, Trial]] = {}  # with the run's stamp: one that ended too early may go on


def trials(specs: Sequence[RunSpec]) -> list[Trial]:
    """Return the runs of a sweep as they are now, in order. Ended runs are cached."""
    return [_trial(spec, run) for spec, run in zip(specs, runs_of(specs), strict=True)]


def _trial(spec: RunSpec, run: Run | None) -> Trial:
    if run is None:
        return Trial(spec)
    stamp = run.stamp()
    known = _ended_trials.get(run.folder)
    if known is not None and known[0] == stamp and known[1].spec == spec:
        return known[1]
    try:
        status = status_of(run)
        found = _read(spec, run, status, run.view())
    except PeftLabError as error:
        return Trial(spec, run.id, DAMAGED, str(error))
    if status.final and has_ended(run.events()):
        _ended_trials[run.folder] = (stamp, found)
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
    ended = EARLY if status is Status.STOPPED and checkpoints.ended_by(run) is not None else str(status)
    return Trial(spec, run.id, ended, seen.message, seen.step, seen.seconds, figures)


def varied(specs: Sequence[RunSpec]) -> list[str]:
    """Return what differs between runs of one method, except the seed; first ``method`` if there are several."""
    by_method: dict[str, list[RunSpec]] = {}
    for spec in specs:
        by_method.setdefault(spec.method, []).append(spec)
    # What differs between methods alone is a default of each method and adds nothing.
    others = [
        name
        for name in (RATE, *dict.fromkeys(name for spec in specs for name in spec.values))
        if any(len({str(value_of(spec, name)) for spec in group}) > 1 for group in by_method.values())
    ]
    return [METHOD, *others] if len(by_method) > 1 else others


def value_of(spec: RunSpec, name: str) -> Any:
    """Return a run's method title, learning rate or knob."""
    if name == METHOD:
        return get_method(spec.method).title
    value = spec.learning_rate if name == RATE else spec.values.get(name)
    return tuple(value) if isinstance(value, list) else value


def settings_of(found: Sequence[Trial], names: Sequence[str]) -> list[SweepSetting]:
    """Group the trials by their settings, in order."""
    grouped: dict[str, list[Trial]] = {}
    for trial in found:
        key = json.dumps([trial.spec.method, *(value_of(trial.spec, name) for name in names)])
        grouped.setdefault(key, []).append(trial)
    return [
        SweepSetting({name: value_of(group[0].spec, name) for name in names}, tuple(group))
        for group in grouped.values()
    ]


def measured_figure(found: Sequence[Trial]) -> list[str]:
    """Return those of :data:`FIGURES` that at least one run has; the training loss only without any other."""
    present = [name for name in FIGURES if any(trial.figure(name) is not None for trial in found)]
    return [name for name in present if name != TRAINING] or present


def kind_of(figure: str) -> str:
    """Return how a figure is written and read: as a share (higher is better) or as a loss (lower is better)."""
    return METRIC if figure == METRIC else LOSS


def comparable(found: Sequence[SweepSetting], figure: str) -> list[SweepSetting]:
    """Return the settings with the most seeds done, the best mean first; empty while nothing is done."""
    most = max((len(each.found(figure)) for each in found), default=0)
    sign = -1 if kind_of(figure) == METRIC else 1
    fitting = [each for each in found if most and len(each.found(figure)) == most]
    return sorted(fitting, key=lambda each: sign * statistics.fmean(each.found(figure)))


def best_setting(found: Sequence[SweepSetting], figure: str) -> SweepSetting | None:
    """Return the best of the :func:`comparable` settings; ``None`` while nothing is done."""
    return next(iter(comparable(found, figure)), None)


def interval(values: Sequence[float]) -> tuple[float, float] | None:
    """Return the 95% confidence interval of the mean, by Student's t; ``None`` for fewer than two values.

    >>> [round(value, 3) for value in interval([0.80, 0.82, 0.84])], interval([0.8])
    ([0.77, 0.87], None)
    """
    found = shipped_sweep.interval(enumerate(values))
    return None if found is None or found.low is None or found.high is None else (found.low, found.high)


def carry_out_sweep(
    specs: Sequence[RunSpec],
    executor: Executor,
    watch: Watch,
    stop: Callable[[], bool],
    ending_early: Asha | None = None,
) -> list[dict[str, Any]]:
    """Make the missing runs; return a row for each run, in order. ``stop``: whether to end: runs under way end after
    their current step, and continue the next time; the page's Stop ends them likewise. Raises RunError if another
    process carries out this sweep, BadInput if early stopping needs Ray Tune, which is missing."""
    sweep = keep(specs, ending_early)
    judge = None if ending_early is None else Judge(ending_early, sweep.id)
    with sweep.claimed():
        attempts = make_runs(specs, executor, watch, lambda: stop() or sweep.asked_to_stop(), judge)
        return [_row(one, judge) for one in attempts]


def _row(attempt: Attempt, judge: Judge | None) -> dict[str, Any]:
    """Return a run's row of ``sweep --json``: bytes as integers, seconds as floats."""
    spec = attempt.spec
    found: dict[str, Any] = {
        "method": spec.method,
        "values": {**spec.values, "learning_rate": spec.learning_rate},
        "seed": spec.seed,
        "run_id": None,
        "status": "failed" if attempt.problem else "missing",
        "message": attempt.problem,
        "loss": [],
        "metric": None,
        "seconds": None,
        "peak_bytes": None,
        "ended_early": None,
    }
    if attempt.run is None:
        return found
    try:
        result = record.result(attempt.run)
    except PeftLabError as error:
        return {**found, "run_id": attempt.run.id, "status": DAMAGED, "message": str(error)}
    return {
        **found,
        **{name: result[name] for name in ("run_id", "status", "loss", "metric", "seconds")},
        "message": attempt.problem or result["message"],
        "peak_bytes": (result["memory"] or {}).get("peak_bytes"),
        "ended_early": _early(attempt.run, judge, result),
    }


def _early(run: Run, judge: Judge | None, result: dict[str, Any]) -> dict[str, Any] | None:
    """Return the rung at which the sweep ended a run, its loss and the steps made; ``None`` if it did not."""
    rung = checkpoints.ended_by(run) if judge is not None and judge.ended(run) else None
    if rung is None or result["status"] == Status.DONE:
        return None
    return {"rung": rung.step, "loss": rung.loss, "steps": result["steps"]}
