"""Who is where in a class, whose run stands how, and who may need help. Everything here asks for the teacher."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

from peft_lab import units
from peft_lab.classroom import joining, places
from peft_lab.classroom.asking import Asker, acting_for
from peft_lab.classroom.joining import Learner
from peft_lab.errors import PeftLabError
from peft_lab.queue import limits, minutes
from peft_lab.queue.queue import get_queue
from peft_lab.runs import store
from peft_lab.runs.store import Run
from peft_lab.runs.summary import RunSummary
from peft_lab.runs.view import Status

WAITING = 5 * 60.0  # seconds in the queue after which a learner may wonder
QUIET = 10 * 60.0  # seconds without an action on an open page


@dataclass(frozen=True)
class Place:
    """Where somebody is: the page's name, and seconds since anything last happened on it."""

    page: str
    since: float


@dataclass(frozen=True)
class Row:
    """One learner now.

    Attributes:
        place: ``None`` for who has no page open.
        runs: newest first. latest: the newest one, ``None`` without any; progress: how far it is, in words.
        stuck: why they may need help, in some words; empty where nothing says so.
        kept: bytes of all their runs.
    """

    learner: Learner
    place: Place | None
    runs: int
    latest: RunSummary | None
    progress: str
    stuck: str
    kept: int


def rows(where: Mapping[str, Place], but: str = "", now: float | None = None) -> list[Row]:
    """Everybody in the order in which they joined, without the owner ``but``.

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
        try:
            found = store.runs()
            latest = store.summary(found[0]) if found else None
            progress = _progress(found[0]) if found else ""
        except PeftLabError as error:
            found, latest, progress = [], None, str(error)
        return Row(
            learner,
            place,
            len(found),
            latest,
            progress,
            _stuck(latest, place, now, minutes.over(now)),
            limits.size(store.root()),
        )


def _progress(run: Run) -> str:
    seen = run.view()
    return f"step {seen.step} of {seen.steps}" if seen.status is Status.RUNNING else str(seen.status)


def _stuck(latest: RunSummary | None, place: Place | None, now: float, out_of_minutes: bool) -> str:
    if latest is not None and latest.status in (Status.FAILED, Status.LOST):
        return f"the last run {'failed' if latest.status == Status.FAILED else 'was lost'}"
    if latest is not None and latest.status == Status.QUEUED and now - latest.created > WAITING:
        return f"has waited {units.coarse(now - latest.created)} for a run"
    if out_of_minutes:
        return "no minutes of training left"
    if place is not None and place.since > QUIET:
        return f"nothing done for {units.coarse(place.since)}"
    return ""


def end(owner: str, identity: str) -> None:
    """Ask a learner's run to stop. Raises NotATeacher, or RunError where there is no such run."""
    places.require_teacher()
    with acting_for(Asker(owner)):
        get_queue().stop(identity)
