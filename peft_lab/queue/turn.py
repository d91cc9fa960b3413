"""One run's turn: its child process from start to end, and a final event whatever becomes of it."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from contextlib import suppress

from peft_lab.errors import PeftLabError, RunError
from peft_lab.queue import fair, minutes
from peft_lab.queue.child import Child
from peft_lab.runs import admission, going_on, hold, kept, room
from peft_lab.runs.store import Run
from peft_lab.runs.view import has_ended

LOOK = 0.1  # seconds between looks at the child
MINUTES = 2.0  # seconds between looks at what its owner may still train
PATIENCE = 6.0  # seconds a run gets to stop by itself, at the end of a step
FORCE = 2.0  # seconds after terminate, before kill


def carry_out(
    run: Run, wants_stop: Callable[[], bool], meanwhile: Callable[[], None], timed: bool = False
) -> None:
    """Train it, and come back when it has ended.

    Args:
        meanwhile: done at each look. timed: it ends with its owner's minutes, and takes of them.
    """
    problem = _refusal(run)
    if problem is not None:
        end(run, "failed", problem)
        return
    used_up = minutes.refusal() if timed else None
    if used_up is not None:
        end(run, "stopped", used_up)
        return
    fair.note_turn(run)
    run.log.emit("starting")
    try:
        child = Child(run)
    except RunError as error:
        end(run, "failed", str(error))
        return
    began = looked = time.monotonic()
    asked: float | None = None
    try:
        while child.alive():
            child.wait(LOOK)
            meanwhile()
            if timed and asked is None and time.monotonic() - looked > MINUTES:
                looked = time.monotonic()
                if minutes.refusal() is not None:
                    with suppress(OSError):
                        run.ask_to_stop(minutes.why_ended())
                    asked = _told_to_stop(run, child)
            if asked is None and wants_stop():
                asked = _told_to_stop(run, child)
            if asked is not None:
                _urge(child, time.monotonic() - asked)
    except BaseException:
        child.kill(FORCE)  # its run ends as failed: it would train on beside the next, and none could stop it
        raise
    if timed:
        with suppress(OSError):
            minutes.note(time.monotonic() - began)
    if not run.folder.exists() or hold.turn(run) != child.turn:
        return  # of another turn it is for others to tell the end
    kept.clear(run.folder)  # nobody saves any more
    if has_ended(run.events()):
        return
    if asked is not None:
        end(run, "stopped", going_on.words_of_a_stop(run))
    else:
        end(run, "failed", child.cause())


def end(run: Run, ending: str, message: str) -> None:
    """Its final event, where it was not deleted meanwhile."""
    if run.folder.exists():
        run.log.end(ending, message=message)


def end_unstarted(run: Run) -> None:
    """The end of one that was asked to stop while it waited, and why it was where it knows."""
    end(run, "stopped", f"Stopped before it started. {run.why_stopped()}".strip())


def _refusal(run: Run) -> str | None:
    """Why there is no room for a run now. Where that cannot be found out, the run itself will say what is wrong."""
    try:
        return room.refusal(run.spec) or admission.refusal(run.spec)
    except PeftLabError:
        return None


def _told_to_stop(run: Run, child: Child) -> float:
    """When it was. A child whose disk takes no Stop is told by a signal."""
    if not run.asked_to_stop():
        child.signal(signal.SIGTERM)
    return time.monotonic()


def _urge(child: Child, waited: float) -> None:
    if waited > PATIENCE + FORCE:
        child.signal(signal.SIGKILL)
    elif waited > PATIENCE:
        child.signal(signal.SIGTERM)
