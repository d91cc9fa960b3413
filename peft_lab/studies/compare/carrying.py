"""Carry out a comparison: make its runs one after another, skipping those that are done."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from peft_lab.core.asking import carried
from peft_lab.core.errors import PeftLabError
from peft_lab.runs import store
from peft_lab.runs.spec import RunSpec
from peft_lab.runs.store import Run
from peft_lab.runs.view import RunView
from peft_lab.studies.compare.plan import Cell
from peft_lab.studies.compare.store import Comparison, runs_of_comparison, status_of_comparison

POLL = 0.2


class Queue(Protocol):
    """The part of :class:`~peft_lab.runs.queue.RunQueue` that is needed."""

    def submit(self, spec: RunSpec) -> str:
        """Submit a run to the queue and return its id."""

    def stop(self, identity: str) -> None:
        """Ask a run to stop."""


@dataclass(frozen=True)
class Notice:
    """Progress of the run under way: ``done`` of ``total`` runs are finished."""

    cell: Cell
    run: Run
    seen: RunView
    done: int
    total: int


def carry_out(
    comparison: Comparison, runner: Queue, notice: Callable[[Notice], None] = lambda _: None
) -> bool:
    """Make every run that is not done, failed ones once more; return ``False`` if asked to stop before the end.

    After a failed run the next one is made. ``notice`` is called as a run progresses; an exception from it stops
    the run and ends the comparison.

    Raises:
        RunError: the comparison is already under way. AssetError: weights or data are missing.
    """
    plan = comparison.plan
    with comparison.claimed():
        for cell in comparison.standing(plan).pending:
            if comparison.asked_to_stop():
                return False
            run = _under_way(cell.spec) or store.get(runner.submit(cell.spec))
            done = len(comparison.standing(plan).done)
            tell = partial(_tell, notice, cell, run, done, len(plan.cells))
            if not _see_through(comparison, run, runner, tell):
                return False
    return True


def _tell(
    notice: Callable[[Notice], None], cell: Cell, run: Run, done: int, total: int, seen: RunView
) -> None:
    notice(Notice(cell, run, seen, done, total))


def _under_way(spec: RunSpec) -> Run | None:
    """Return the unfinished run of this spec that another page or command has begun; ``None`` without one."""
    (run,) = runs_of_comparison([spec])
    return run if run is not None and not status_of_comparison(run).final else None


def _see_through(comparison: Comparison, run: Run, runner: Queue, notice: Callable[[RunView], None]) -> bool:
    """Wait for a run to end; on a request to stop the comparison, stop the run and return ``False``."""
    latest: RunView | None = None
    asked = False
    try:
        while True:
            comparison.beat()
            if not run.folder.exists():
                return not asked
            seen = run.view()
            if seen is not latest:
                latest = seen
                notice(seen)
            if seen.status.final:
                return not asked
            if not asked and comparison.asked_to_stop():
                asked = True
                runner.stop(run.id)
            time.sleep(POLL)
    except BaseException:
        runner.stop(run.id)
        raise


_threads: dict[Path, threading.Thread] = {}


def at_work(comparison: Comparison) -> bool:
    """Return whether a thread of this process carries it out; the disk shows that only a little later."""
    thread = _threads.get(comparison.folder)
    return thread is not None and thread.is_alive()


def start(comparison: Comparison, runner: Queue) -> None:
    """Carry it out in a thread of this process, unless one already does.

    An error that ends it early is kept with the comparison (:attr:`Comparison.problem`).
    """
    if at_work(comparison):
        return
    comparison.begin_afresh()

    def work() -> None:
        try:
            carry_out(comparison, runner)
        except PeftLabError as error:
            comparison.note_problem(str(error))

    thread = threading.Thread(target=carried(work), name=f"comparison-{comparison.id}", daemon=True)
    _threads[comparison.folder] = thread
    thread.start()
