"""What a queued run waits for: the runs before it, how far they are, and about when it starts.

An estimate is made only from what was measured: the steps of the run that trains now, and runs of the same model,
method, task and batch that have ended here. Where nothing like it was measured, there is none.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from peft_lab.classroom import places
from peft_lab.classroom.asking import asker
from peft_lab.errors import BadInput, RunError
from peft_lab.queue import unended
from peft_lab.runs import store
from peft_lab.runs.events import Event
from peft_lab.runs.spec import RunSpec
from peft_lab.runs.store import Run
from peft_lab.runs.view import RunView, Status, classify, view


@dataclass(frozen=True)
class Before:
    """One of the runs that go before another.

    Attributes:
        id: of this run, to link to it; spec: what it trains. In a class another's run has neither.
        status: ``queued`` too, or what it is busy with. step, steps: how far it is.
        seconds_per_step: measured, of its own steps or of the latest run like it; ``None`` where there is neither.
        seconds: about until it has ended; ``None`` where that cannot be told from measurements.
    """

    id: str
    spec: RunSpec | None
    status: Status
    step: int
    steps: int
    seconds_per_step: float | None
    seconds: float | None


def ahead(identity: str) -> list[Before]:
    """The runs that go before a queued one on this machine, in their order: the first is under way, or about to be.

    Empty when it is its turn, or it has had it. Reads only.

    Raises:
        RunError: no such run.
    """
    run = store.get(identity)
    if run.status() is not Status.QUEUED:
        return []
    found = []
    for other in unended.before(run):
        try:
            found.append(_before(other))
        except (RunError, BadInput):
            continue  # deleted or damaged since: it holds up nobody
    return found


def starts_in(before: list[Before]) -> float | None:
    """Seconds until a run with these before it starts, about; ``None`` where one of them was never measured."""
    seconds = [each.seconds for each in before]
    return None if None in seconds else sum(each for each in seconds if each is not None)


def _before(run: Run) -> Before:
    spec, seen = run.spec, run.view()
    like = _like(spec)
    own = 1 / seen.steps_per_second if seen.steps_per_second else None
    per_step = own or (like.per_step if like else None)
    who = asker()
    told = who is None or places.asker_of(run.folder).owner == who.owner
    return Before(
        id=run.id if told else "",
        spec=spec if told else None,
        status=seen.status,
        step=seen.step,
        steps=seen.steps,
        seconds_per_step=per_step,
        seconds=_left(seen, per_step, like, _latest(run.events(), "step")),
    )


def _left(
    seen: RunView, per_step: float | None, like: _Measured | None, stepped: float | None
) -> float | None:
    """Its remaining steps, and what a run like it took beside its steps (loading, evaluation)."""
    if per_step is None:
        return None
    training = (seen.steps - seen.step) * per_step
    if like is None:
        # While its steps last, they are nearly all there is to wait for; afterwards nothing is known.
        return training if training > 0 else None
    if training > 0 or stepped is None:
        return training + like.beside
    return max(0.0, like.beside - max(0.0, time.time() - stepped))


@dataclass(frozen=True)
class _Measured:
    """Of a run that was done: seconds of a step, and of everything beside its steps."""

    per_step: float
    beside: float


def _like(spec: RunSpec) -> _Measured | None:
    """The latest finished run of the same model, method, task, batch and held-out rows."""
    for run in store.runs():
        try:
            other = run.spec
            events = run.events() if _kind(other) == _kind(spec) else []
            if classify(events, gone="") is not Status.DONE:
                continue
            seen = view(events, other.steps, gone="")
        except (RunError, BadInput):
            continue  # damaged: it says nothing
        began = _latest(events, "starting")
        if seen.steps_per_second and seen.ended and began:
            return _Measured(1 / seen.steps_per_second, max(0.0, seen.ended - began - seen.seconds))
    return None


def _kind(spec: RunSpec) -> tuple[object, ...]:
    return spec.model, spec.method, spec.task, spec.batch, spec.eval_rows, spec.max_length


def _latest(events: Sequence[Event], kind: str) -> float | None:
    return next((event["time"] for event in reversed(events) if event["type"] == kind), None)
