"""Follow one run's events in a separate process until it has ended, so that no tracker can delay or break the
training. Started by start.py as ``python -m peft_lab.runs.tracking FOLDER HOME TRACKER...``."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from filelock import FileLock

from peft_lab.core import disk
from peft_lab.core.errors import PeftLabError, RunError, in_short
from peft_lab.runs import owners
from peft_lab.runs.events import Event
from peft_lab.runs.store import Run
from peft_lab.runs.tracking import start
from peft_lab.runs.tracking.start import Told
from peft_lab.runs.tracking.trackers import Opens, ToMlflow, ToTrackio, Tracker, run_parameters, run_points
from peft_lab.runs.view import Status, classify, has_ended

OPENS: Mapping[str, Opens] = {"mlflow": ToMlflow, "trackio": ToTrackio}
EVERY = 1.0  # seconds between looks at a run's events
LOCK = ".tracking.lock"
Read = TypeVar("Read")


@dataclass
class _Telling:
    """One tracker and its progress; ``tracker`` is ``None`` before the first sending and after a failure."""

    told: Told
    tracker: Tracker | None = None

    @property
    def over(self) -> bool:
        return self.told.complete or bool(self.told.problem)


def follow(run: Run, home: Path, trackers: Sequence[str], as_it_stands: bool = False) -> None:
    """Send the run to the trackers until it has ended, or all of them have failed. An error that ends this earlier is
    stored with the run, as the problem of each of its trackers, and raised.

    Args:
        home: folder for stores of the trackers.
        as_it_stands: treat a run that is only silent as ended, as its status shows; otherwise wait as long as
            the process that holds it lives, as on a machine that slept.
    """
    try:
        _followed(run, home, trackers, as_it_stands)
    except Exception as error:
        with suppress(OSError):  # the run may have been deleted
            for name in trackers:
                if run.folder.is_dir() and not start.read_tracking(run.folder).get(name, Told(name)).complete:
                    start.failed_trackers(run.folder, name, _reason(run, error))
        raise  # for the traceback in this process's log


def _followed(run: Run, home: Path, trackers: Sequence[str], as_it_stands: bool) -> None:
    home.mkdir(parents=True, exist_ok=True)
    with FileLock(run.folder / LOCK):  # the follower of an earlier turn may not have ended yet
        known = start.read_tracking(run.folder)
        going = [
            _Telling(replace(known.get(name, Told(name)), complete=False, problem="")) for name in trackers
        ]
        while run.folder.is_dir() and not all(each.over for each in going):
            events = run.events()
            gone = run.gone(events)
            if gone and not as_it_stands and not has_ended(events) and owners.lives(run.owner(events)):
                gone = ""  # only silent: it may come back
            status = classify(events, gone)
            if status.final or any(event["type"] == "ready" for event in events):
                for each in going:
                    if not each.over:
                        _tell(each, run, home, events, status, gone)
                        if run.folder.is_dir():
                            start.write_tracking(run.folder, each.told)
            if not status.final:
                time.sleep(EVERY)


def _tell(each: _Telling, run: Run, home: Path, events: Sequence[Event], status: Status, gone: str) -> None:
    """Send one tracker what it has not got; if that fails, record why."""
    try:
        if each.tracker is None:
            parameters = _read(run, lambda: run_parameters(run.spec, events))
            each.tracker = OPENS[each.told.tracker](run.id, parameters, home, each.told.identity)
            found = each.tracker
            each.told = replace(each.told, address=found.address, identity=found.identity)
        sent = dict(each.told.sent)
        points = _read(run, lambda: run_points(events))
        fresh = [point for point in points if point.step > sent.get(point.name, -1)]
        if fresh:
            each.tracker.points(fresh)
            sent |= {point.name: point.step for point in fresh}
            each.told = replace(each.told, sent=sent)
        if status.final:
            if run.adapter.is_dir():
                each.tracker.folder(run.adapter)
            each.tracker.end(status, _message(events) or gone)
            each.told = replace(each.told, complete=True)
    except Exception as error:  # noqa: BLE001  whatever a tracker's library raises is told on the run, once
        each.tracker = None
        reason = in_short(error)
        each.told = replace(each.told, problem=reason if reason.endswith(".") else f"{reason}.")


def _read(run: Run, of: Callable[[], Read]) -> Read:
    """Return what ``of`` reads from a run. Raises RunError, with the run's name, if its files are damaged."""
    try:
        return of()
    except PeftLabError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise RunError(
            f"what '{run.id}' holds is damaged ({type(error).__name__}: {in_short(error)})."
        ) from error


def _reason(run: Run, error: Exception) -> str:
    """Return why a run cannot be followed: this package's own message, else one with the run's name."""
    if isinstance(error, PeftLabError):
        return str(error)
    code = disk.number(error)
    why = disk.why(code) if code is not None else f"{type(error).__name__}: {in_short(error)}"
    return f"'{run.id}' cannot be followed ({why})."


def _message(events: Sequence[Event]) -> str:
    ends = {str(status) for status in Status if status.final}
    return next((str(event.get("message", "")) for event in events if event["type"] in ends), "")
