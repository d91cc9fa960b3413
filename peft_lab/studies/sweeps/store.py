"""Sweeps on disk: one folder each under ``PEFT_LAB_HOME/sweeps``. The run store has the runs, found by spec.

sweep.json     the requested runs    owner.json     the process that carries it out, or the last one that did
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import statistics
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from peft_lab.classroom import places
from peft_lab.core import disk as storage
from peft_lab.core.errors import BadInput, PeftLabError, RunError, UnreadableFile
from peft_lab.methods import get_method
from peft_lab.runs import checkpoints, owners
from peft_lab.runs.spec import RunSpec
from peft_lab.runs.store import Run
from peft_lab.runs.view import DAMAGED, RunView, Status, has_ended
from peft_lab.studies.compare.store import runs_of_comparison, status_of_comparison
from peft_lab.studies.landscape import LOSS, METRIC
from peft_lab.studies.shipped_sweep import quantile
from peft_lab.studies.sweeps.asha import Asha

_FILE, _OWNER = "sweep.json", "owner.json"


@dataclass(frozen=True)
class KeptSweep:
    """One sweep's folder."""

    id: str
    folder: Path

    @property
    def specs(self) -> tuple[RunSpec, ...]:
        """Return the requested runs, in order. Raises RunError if the file is missing or cannot be read."""
        return _specs(self.folder)

    @property
    def created(self) -> float:
        """Return when it was created, in seconds since 1970; 0 if it is gone."""
        try:
            return (self.folder / _FILE).stat().st_mtime
        except OSError:
            return 0.0

    @property
    def running(self) -> bool:
        """Return whether a living process carries it out."""
        content = storage.read_json(self.folder / _OWNER, {})
        owner = owners.read(content)
        if owner is None or not content.get("at_work"):
            return False
        # On this host the process table tells; only a process on another host needs a heartbeat.
        return not owners.gone(owner, None if owners.here(owner) else owners.heard(self.folder / owners.BEAT))

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """Claim the sweep for this process for the duration of the context.

        Raises:
            RunError: another process has claimed it, or the disk cannot be written.
        """
        lock = FileLock(self.folder / ".lock", thread_local=False)
        try:
            with storage.writing(self.folder):
                lock.acquire(timeout=0)
        except Timeout:
            raise RunError("Another command is carrying out this sweep; wait for it or end it.") from None
        me, at_work = owners.myself().to_dict(), [self.folder]
        try:
            with storage.writing(self.folder):
                storage.write_json(self.folder / _OWNER, {**me, "at_work": True})
            owners.touch(self.folder)
            owners.Heart(lambda: at_work).start()
            yield
        finally:
            at_work.clear()
            # If it cannot be written, the claim ends with this process.
            with suppress(OSError):
                storage.write_json(self.folder / _OWNER, {**me, "at_work": False})
            lock.release()


def root() -> Path:
    """Return the folder of the current person's sweeps."""
    return places.mine() / "sweeps"


def keep(specs: Sequence[RunSpec], early: Asha | None = None) -> KeptSweep:
    """Return the sweep of these runs, created if there is none: equal runs with equal early stopping are one sweep.

    Raises RunError if the disk cannot be written.
    """
    content: dict[str, Any] = {"specs": [spec.to_dict() for spec in specs]}
    if early is not None:
        content["stop"] = early.to_dict()
    kept = KeptSweep(_named(specs[0], content), root() / _named(specs[0], content))
    with storage.writing(kept.folder):
        kept.folder.mkdir(parents=True, exist_ok=True)
        if not (kept.folder / _FILE).exists():
            storage.write_json(kept.folder / _FILE, content)
    return kept


def _named(first: RunSpec, content: Mapping[str, Any]) -> str:
    told = json.dumps(content, sort_keys=True).encode()
    model = re.sub(r"[^a-z0-9]+", "-", Path(first.model).name.lower()).strip("-") or "model"
    return f"{model[:60]}-{first.task}-{hashlib.sha256(told).hexdigest()[:8]}"


def get(identity: str) -> KeptSweep:
    """Return a sweep by its id. Raises RunError if there is none."""
    folder = root() / identity
    if not storage.is_identity(identity) or not (folder / _FILE).is_file():
        raise RunError(f"There is no sweep called '{identity[:200]}'.")
    return KeptSweep(identity, folder)


def sweeps() -> list[KeptSweep]:
    """Return the current person's sweeps, newest first."""
    found = [KeptSweep(path.parent.name, path.parent) for path in root().glob(f"*/{_FILE}")]
    return sorted(
        (one for one in found if storage.is_identity(one.id)), key=lambda one: one.created, reverse=True
    )


# A sweep's name contains a hash of its content, which never changes.
@lru_cache(maxsize=16)
def _specs(folder: Path) -> tuple[RunSpec, ...]:
    try:
        content = storage.read_json(folder / _FILE)
        return tuple(RunSpec.from_dict(each) for each in content["specs"])
    except (BadInput, UnreadableFile, ValueError, KeyError, TypeError) as error:
        raise RunError(f"The sweep '{folder.name}' cannot be read ({error}).") from error


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
    """One run of a sweep.

    Attributes:
        run: its id; empty before it has begun.
        status: a :class:`Status`, ``to come``, ``ended early`` (by a sweep) or ``damaged``.
        message: why it failed or stopped. step: steps made. seconds: training time.
        figures: by :data:`FIGURES`, without those not measured; only for runs that are done.
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
class Setting:
    """The runs that differ only in their seeds.

    Attributes:
        values: the varied settings by name (``method`` and ``learning_rate`` among them); ``None`` for a knob that
            the method does not have.
    """

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
    return [_trial(spec, run) for spec, run in zip(specs, runs_of_comparison(specs), strict=True)]


def _trial(spec: RunSpec, run: Run | None) -> Trial:
    if run is None:
        return Trial(spec)
    stamp = run.stamp()
    known = _ended_trials.get(run.folder)
    if known is not None and known[0] == stamp and known[1].spec == spec:
        return known[1]
    try:
        status = status_of_comparison(run)
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


def settings_of(found: Sequence[Trial], names: Sequence[str]) -> list[Setting]:
    """Group the trials by their settings, in order."""
    grouped: dict[str, list[Trial]] = {}
    for trial in found:
        key = json.dumps([trial.spec.method, *(value_of(trial.spec, name) for name in names)])
        grouped.setdefault(key, []).append(trial)
    return [
        Setting({name: value_of(group[0].spec, name) for name in names}, tuple(group))
        for group in grouped.values()
    ]


def measured_figure(found: Sequence[Trial]) -> list[str]:
    """Return those of :data:`FIGURES` that at least one run has; the training loss only without any other."""
    present = [name for name in FIGURES if any(trial.figure(name) is not None for trial in found)]
    return [name for name in present if name != TRAINING] or present


def kind_of(figure: str) -> str:
    """Return how a figure is written and read: as a share (higher is better) or as a loss (lower is better)."""
    return METRIC if figure == METRIC else LOSS


def comparable(found: Sequence[Setting], figure: str) -> list[Setting]:
    """Return the settings with the most seeds done, the best mean first; empty while nothing is done."""
    most = max((len(each.found(figure)) for each in found), default=0)
    sign = -1 if kind_of(figure) == METRIC else 1
    fitting = [each for each in found if most and len(each.found(figure)) == most]
    return sorted(fitting, key=lambda each: sign * statistics.fmean(each.found(figure)))


def best_setting(found: Sequence[Setting], figure: str) -> Setting | None:
    """Return the best of the :func:`comparable` settings; ``None`` while nothing is done."""
    return next(iter(comparable(found, figure)), None)


def interval(values: Sequence[float]) -> tuple[float, float] | None:
    """Return the 95% confidence interval of the mean, by Student's t; ``None`` for fewer than two values.

    >>> [round(value, 3) for value in interval([0.80, 0.82, 0.84])], interval([0.8])
    ([0.77, 0.87], None)
    """
    if len(values) < 2:
        return None
    reach = quantile(len(values) - 1) * statistics.stdev(values) / math.sqrt(len(values))
    mean = statistics.fmean(values)
    return mean - reach, mean + reach
