"""Locks that let one process at a time write a run, and only the one started for its latest turn.

A killed command leaves a training process behind, which takes some seconds to notice or has not even begun, and
the next command may want the run by then. A file lock, which the system releases with its process, keeps them
apart; a child that starts late sees that the run was queued again since it was made, and leaves it alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from filelock import FileLock, Timeout

from peft_lab.core.errors import RunError
from peft_lab.runs.events import latest
from peft_lab.runs.store import Run
from peft_lab.runs.view import has_ended

HOLD_LOCK = ".training.lock"
WAIT = 30.0  # seconds: a process whose command was killed ends after its step (training.STOP_GRACE), once started


def turn_number(run: Run) -> float:
    """Return what identifies a run's latest turn: when it was queued. Raises RunError if unreadable."""
    return float((latest(run.events(), "queued") or {}).get("time", 0.0))


@contextmanager
def is_training(run: Run, wanted: float) -> Iterator[bool]:
    """Hold the run while its child writes; yield whether it is still that child's: not requeued, not ended.

    Args:
        wanted: the :func:`turn_number` for which the child was made.

    Raises:
        OSError: the folder cannot be written to, or is gone. RunError: its events cannot be read.
    """
    with FileLock(run.folder / HOLD_LOCK):
        yield turn_number(run) == wanted and not has_ended(run.events())


@contextmanager
def reopening(run: Run) -> Iterator[None]:
    """Hold the run while it is reset, so that no process that trained it before still writes.

    Raises:
        RunError: that process is still there after :data:`WAIT` seconds.
    """
    lock = FileLock(run.folder / HOLD_LOCK)
    try:
        lock.acquire(timeout=WAIT)
    except Timeout:
        raise RunError(
            f"The process that trained '{run.id}' before has not ended yet. Try again in a moment."
        ) from None
    try:
        yield
    finally:
        lock.release()


def is_held(run: Run) -> bool:
    """Return whether a process holds the run, even if whoever started that process is gone."""
    if not (run.folder / HOLD_LOCK).exists():
        return False
    lock = FileLock(run.folder / HOLD_LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    lock.release()
    return False
