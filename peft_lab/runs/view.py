"""Derive a run's status and figures from its events; pure functions for page, command line and queue."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from peft_lab.core.errors import RunError
from peft_lab.runs import events as event_fields
from peft_lab.runs.events import Event, latest
from peft_lab.runs.kept import MadeForecast
from peft_lab.runs.spec import RunSpec
from peft_lab.training.evaluation import Evaluation, ModelAnswer

RECENT = 10  # latest steps whose speed gives the estimate


class Status(StrEnum):
    """Where a run stands. The last four are final."""

    QUEUED = "queued"
    STARTING = "starting"
    RUNNING = "running"
    EVALUATING = "evaluating"
    DONE = "done"
    STOPPED = "stopped"
    FAILED = "failed"
    LOST = "lost"

    @property
    def final(self) -> bool:
        return self in _FINAL


_FINAL = frozenset({Status.DONE, Status.STOPPED, Status.FAILED, Status.LOST})
_MEANS = {
    "queued": Status.QUEUED,
    "starting": Status.STARTING,
    "phase": Status.STARTING,
    "ready": Status.RUNNING,
    "step": Status.RUNNING,
    "evaluating": Status.EVALUATING,
    "evaluated": Status.EVALUATING,
    **{str(status): status for status in _FINAL},
}
#: Events that only a run which has begun emits, not one that waits or ends while it waits.
_BEGUN = frozenset(("starting", "phase", "ready", "step"))


def classify(events: Sequence[Event], gone: str) -> Status:
    """Return where a run stands; nothing else decides on a status. ``events``: the first final one decides, else the
    latest that has a meaning. A run without any event is queued: its folder is made just before its first event.
    ``gone``: why the process that held it is assumed gone, empty while it lives (:meth:`peft_lab.runs.store.Run.gone`).
    A run that nobody holds and that has not ended is lost."""
    status = Status.QUEUED
    for event in events:
        status = _MEANS.get(event["type"], status)
        if status.final:
            return status
    return Status.LOST if gone else status


def has_ended(events: Sequence[Event]) -> bool:
    """Return whether an event ends the run. A silent run, shown as lost, does not count: it may come back."""
    return classify(events, gone="").final


@dataclass(frozen=True)
class RunView:
    """Everything a page shows of a run.

    Attributes:
        seconds: of training alone: the sum of its steps.
        steps_per_second, tokens_per_second: over all steps except the one under the memory tracker, which is slower;
            tokens exclude padding. ``None`` before there is one.
        eta: seconds to the last training step at the speed of the latest ones; ``None`` when not training.
        progress: share of the steps while training, of the rows while evaluating.
        evaluating: which model is being evaluated, ``tuned`` or ``base``; empty otherwise.
        scored: held-out rows that this model has answered; right: those answered rightly, ``None`` if unknown.
        inference, unrelated_before, unrelated_after: ``{}`` unless the run was to measure them.
        memory, ready: the fields of these events (:mod:`peft_lab.runs.events`).
        message: why it failed, stopped or was lost; while starting, what it is doing.
        works: settings with which a failed run would work, by name.
        started: when it was submitted; begun: when its process began, after it had waited for its turn.
        first_loss_after: seconds from being submitted; ``None`` also if the clock was set back between the two.
    """

    status: Status
    step: int
    steps: int
    losses: tuple[float, ...]
    learning_rates: tuple[float, ...]
    seconds: float
    steps_per_second: float | None
    tokens_per_second: float | None
    eta: float | None
    progress: float
    evaluating: str
    scored: int
    right: int | None
    before: Evaluation | None
    after: Evaluation | None
    probes_before: tuple[ModelAnswer, ...]
    probes_after: tuple[ModelAnswer, ...]
    inference: dict[str, Any]
    unrelated_before: dict[str, Any]
    unrelated_after: dict[str, Any]
    memory: dict[str, Any]
    ready: dict[str, Any]
    message: str
    works: dict[str, float]
    started: float | None
    begun: float | None
    ended: float | None
    first_loss_after: float | None

    @property
    def so_far(self) -> tuple[float, float, float] | None:
        """Return the share of scored rows that are right, and the ends of its 95% interval (Wilson 1927), while rows
        are still being scored; ``None`` before the first one, and if rows are right by degrees."""
        if not self.scored or self.right is None:
            return None
        share, weight = self.right / self.scored, 1.96**2 / self.scored
        middle, reach = share + weight / 2, (weight * (share * (1 - share) + weight / 4)) ** 0.5
        return share, (middle - reach) / (1 + weight), (middle + reach) / (1 + weight)

    @property
    def took(self) -> float:
        """Return the seconds from its process's start to its end, or of training alone before it has ended."""
        return max(self.seconds, self.ended - self.begun) if self.ended and self.begun else self.seconds


def view(events: Sequence[Event], steps: int, gone: str) -> RunView:
    """Return the figures of a run of ``steps`` steps from its events so far. Raises RunError if one is malformed."""
    damage = event_fields.event_damage(events, ended=has_ended(events))
    if damage:
        raise RunError(f"The run's events cannot be read: {damage}.")
    status = classify(events, gone)
    rows = [event for event in events if event["type"] == "step"]
    timed = [row for row in rows if not row.get("tracked")]
    speed = _rate(timed, "steps")
    rows_done = {which: latest(events, "evaluating", which) for which in ("tuned", "base")}
    running = [
        which for which in ("base", "tuned") if rows_done[which] and not latest(events, "evaluated", which)
    ]
    under_way = rows_done[running[0]] if running and status is Status.EVALUATING else None
    ending = next((event for event in events if _MEANS.get(event["type"], Status.QUEUED).final), None)
    times = [event["time"] for event in events]
    left = steps - len(rows)
    message = gone if status is Status.LOST else ""
    if ending is not None:
        message = str(ending.get("message", ""))
    elif status is Status.STARTING:
        message = str((latest(events, "phase") or {}).get("name", ""))
    progress = len(rows) / steps if steps else 0.0
    if status is Status.DONE:
        progress = 1.0
    elif under_way:
        progress = under_way["done"] / max(1, under_way["total"])
    recent = _rate(timed[-RECENT:], "steps")
    return RunView(
        status=status,
        step=len(rows),
        steps=steps,
        losses=tuple(row["loss"] for row in rows),
        learning_rates=tuple(row["lr"] for row in rows),
        seconds=sum(row["seconds"] for row in rows),
        steps_per_second=speed,
        tokens_per_second=_rate(timed, "tokens"),
        eta=left / recent if status is Status.RUNNING and recent else None,
        progress=progress,
        evaluating=running[0] if under_way else "",
        scored=under_way["done"] if under_way else 0,
        right=under_way.get("right") if under_way else None,
        before=_evaluation(latest(events, "evaluated", "base")),
        after=_evaluation(latest(events, "evaluated", "tuned")),
        probes_before=_answers(latest(events, "probe", "base")),
        probes_after=_answers(latest(events, "probe", "tuned")),
        inference=_fields(latest(events, "inference")),
        unrelated_before=_fields(latest(events, "unrelated", "base")),
        unrelated_after=_fields(latest(events, "unrelated", "tuned")),
        memory={key: value for e in events if e["type"] == "memory" for key, value in _fields(e).items()},
        ready=_fields(latest(events, "ready")),
        message=message,
        works=dict((ending or {}).get("works") or {}),
        started=times[0] if times else None,
        begun=next((event["time"] for event in events if event["type"] in _BEGUN), None),
        ended=ending["time"] if ending else times[-1] if status.final and times else None,
        first_loss_after=rows[0]["time"] - times[0] if rows and rows[0]["time"] >= times[0] else None,
    )


def scoring(seen: RunView) -> str:
    """Return how the scoring of a run stands, in a few words."""
    if seen.after and not seen.evaluating:
        return "Scored. The charts and files follow"
    which = " the base model" if seen.evaluating == "base" else ""
    if not seen.scored:
        return f"Scoring{which}"
    if seen.so_far is None:
        return f"Scoring{which}: {seen.scored} answers so far"
    _, low, high = seen.so_far
    return f"Scoring{which}: {seen.right} of {seen.scored} right so far ({low:.0%} to {high:.0%} of all rows)"


class Viewer:
    """Caches the view of one run; it is made again only if something has happened."""

    _made: tuple[Sequence[Event], int, str, RunView] | None = None

    def view(self, events: Sequence[Event], steps: int, gone: str) -> RunView:
        """Return :func:`view`; changed ``events`` have to be another object."""
        made = self._made
        if made is None or made[0] is not events or made[1:3] != (steps, gone):
            made = self._made = (events, steps, gone, view(events, steps, gone))
        return made[3]


def _fields(event: Event | None) -> dict[str, Any]:
    return {key: value for key, value in (event or {}).items() if key not in ("type", "time")}


def _rate(rows: Sequence[Event], unit: str) -> float | None:
    seconds = sum(row["seconds"] for row in rows)
    amount = len(rows) if unit == "steps" else sum(row[unit] for row in rows)
    return amount / seconds if seconds > 0 and amount else None  # images have no tokens


def _evaluation(event: Event | None) -> Evaluation | None:
    if event is None:
        return None
    return Evaluation(event["metrics"], event["loss"], event["rows"], event["seconds"])


def _answers(event: Event | None) -> tuple[ModelAnswer, ...]:
    return tuple(
        ModelAnswer(row["text"], row["answer"], row.get("scores", {}))
        for row in (event or {}).get("answers", ())
    )


# ----------------------------------------
# A run as one line of a list.


DAMAGED = "damaged"


@dataclass(frozen=True)
class RunSummary:
    """One line of the list of runs.

    Attributes:
        status: a :class:`Status`, or ``damaged`` for a folder that cannot be read; ``problem`` says why.
        before, after: headline metric of base and tuned model, a share; ``None`` if not evaluated.
        peak_bytes: tensor memory of one training step; seconds: from the start of its process to the end, or of
            training until now.
    """

    id: str
    status: str
    created: float
    model: str = ""
    method: str = ""
    task: str = ""
    steps: int = 0
    seed: int = 0
    metric: str = ""
    metric_title: str = ""
    before: float | None = None
    after: float | None = None
    peak_bytes: int | None = None
    trainable: int | None = None
    seconds: float | None = None
    spec: RunSpec | None = None
    problem: str = ""
    kept: MadeForecast | None = None
