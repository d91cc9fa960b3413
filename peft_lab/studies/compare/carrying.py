"""Carrying a comparison out: its runs one after another, those that are done left as they are."""

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
    """What is needed of :class:`~peft_lab.runs.queue.RunQueue`."""

    def submit(self, spec: RunSpec) -> str:
        """Puts a run into the queue and gives its id."""

    def stop(self, identity: str) -> None:
        """Asks a run to stop."""


@dataclass(frozen=True)
class Notice:
    """The run that is being made: ``done`` of ``total`` are finished."""

    cell: Cell
    run: Run
    seen: RunView
    done: int
    total: int


def carry_out(
    comparison: Comparison, runner: Queue, notice: Callable[[Notice], None] = lambda _: None
) -> bool:
    """Make every run that is not done yet, failed ones once more; ``False`` when asked to stop before the end.

    A run that fails is left behind and the next one is made. ``notice`` is called as a run goes on; what it raises
    ends the comparison and, by way of the queue, its run.

    Raises:
        RunError: the comparison is under way already. AssetError: weights or data are gone.
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
    """A run of this very spec that another page or command of a living process has begun."""
    (run,) = runs_of_comparison([spec])
    return run if run is not None and not status_of_comparison(run).final else None


def _see_through(comparison: Comparison, run: Run, runner: Queue, notice: Callable[[RunView], None]) -> bool:
    """Wait for a run's end; ``False`` when the comparison was asked to stop meanwhile, which stops the run too."""
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
    """Whether a thread of this process has it in hand; right after :func:`start` the disk does not say so yet."""
    thread = _threads.get(comparison.folder)
    return thread is not None and thread.is_alive()


def start(comparison: Comparison, runner: Queue) -> None:
    """Carry it out in a thread of this process; does nothing when one already does.

    What ends it early is kept with the comparison (:attr:`Comparison.problem`).
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
