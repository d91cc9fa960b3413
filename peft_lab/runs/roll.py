"""The teacher's view of a class: each learner's page and run, and who may need help. For teachers only."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

from peft_lab.classroom import joining, places
from peft_lab.classroom.joining import Learner
from peft_lab.core import units
from peft_lab.core.asking import Asker, acting_for
from peft_lab.core.errors import PeftLabError
from peft_lab.runs import allowance, store, waiting
from peft_lab.runs.queue import get_queue
from peft_lab.runs.store import Run
from peft_lab.runs.view import RunSummary, Status

WAITING = 5 * 60.0  # seconds in the queue after which a learner may need help
ENDED = "Your teacher ended it."  # shown to the learner
QUIET = 10 * 60.0  # seconds without an action on an open page


@dataclass(frozen=True)
class Place:
    """Where a learner is: the page's name, and seconds since the last action on it."""

    page: str
    since: float


@dataclass(frozen=True)
class Row:
    """One learner's current state.

    Attributes:
        place: ``None`` if they have no page open.
        runs: their number. run: the one that trains, or waits first, or is the newest; ``None`` without any.
        progress: in words. more: how many others of theirs have not ended. ending: whether it was asked to stop.
        stuck: why they may need help, in some words; empty if nothing indicates it.
        kept: bytes of all their runs.
    """

    learner: Learner
    place: Place | None
    runs: int
    run: RunSummary | None
    progress: str
    more: int
    ending: bool
    stuck: str
    kept: int


def rows(where: Mapping[str, Place], but: str = "", now: float | None = None) -> list[Row]:
    """Return all learners in the order in which they joined, without the owner ``but``.

    Raises:
        NotATeacher.
    """
    places.require_teacher()
    at = time.time() if now is None else now
    return [
        _row(learner, where.get(learner.owner), at) for learner in joining.learners() if learner.owner != but
    ]


def _row(learner: Learner, place: Place | None, now: float) -> Row:
    with acting_for(Asker(learner.owner)):
        line, progress, more, ending = None, "", 0, False
        try:
            found = store.runs()
            going = waiting.runs_going(found)
            if found:
                run = (*going, *found)[0]
                line, progress, more = store.summary(run), _progress(run), max(0, len(going) - 1)
                ending = bool(going) and run.asked_to_stop()
        except PeftLabError as error:
            found, line, progress = [], None, str(error)
        return Row(
            learner,
            place,
            len(found),
            line,
            progress,
            more,
            ending,
            _stuck(line, place, now, allowance.minutes_over(now)),
            allowance.size_taken(store.root()),
        )


def _progress(run: Run) -> str:
    seen = run.view()
    return f"step {seen.step} of {seen.steps}" if seen.status is Status.RUNNING else str(seen.status)


def _stuck(run: RunSummary | None, place: Place | None, now: float, out_of_minutes: bool) -> str:
    if run is not None and run.status in (Status.FAILED, Status.LOST):
        return f"the last run {'failed' if run.status == Status.FAILED else 'was lost'}"
    if run is not None and run.status == Status.QUEUED and now - run.created > WAITING:
        return f"has waited {units.coarse(now - run.created)} for a run"
    if out_of_minutes:
        return "no minutes of training left"
    if place is not None and place.since > QUIET:
        return f"nothing done for {units.coarse(place.since)}"
    return ""


def end(owner: str, identity: str) -> None:
    """Ask a learner's run to stop, with a message that the teacher ended it. Raises NotATeacher, or RunError
    if there is no such run."""
    places.require_teacher()
    with acting_for(Asker(owner)):
        get_queue().stop(identity, ENDED)
