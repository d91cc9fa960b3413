"""Carry out a study: make every run of its plan once, whatever happened to an earlier process that carried it out.

Progress is stored in the runs alone, which are found by their specs; so the same plan finds its finished runs again,
continues or repeats the interrupted ones and begins the missing ones. Whatever the executor, runs are folders of the
run store, which holds the results.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from peft_lab.core.asking import carried
from peft_lab.core.errors import BadInput, PeftLabError, RunError
from peft_lab.core.machine import describe_machine
from peft_lab.runs import store, waiting
from peft_lab.runs.spec import RunSpec
from peft_lab.runs.store import Run
from peft_lab.runs.view import Status
from peft_lab.studies.store import Study, runs_of, status_of
from peft_lab.studies.sweeps.plan import Judge

# ----------------------------------------
# Executors of a study's runs.


class Executor(Protocol):
    """Starts runs; their status is read from the run store."""

    @property
    def slots(self) -> int:
        """Return how many runs may be under way at once."""

    def start(self, spec: RunSpec) -> str:
        """Begin a new run and return its id. Raises PeftLabError if it cannot begin."""

    def again(self, run: Run) -> None:
        """Continue a run that ended too early, or restart it in its own folder. Raises PeftLabError."""

    def end(self, run: Run) -> None:
        """Ask a run under way to end after its current step."""

    def look(self) -> None:
        """End runs whose process was lost for good; called every fraction of a second."""

    def close(self) -> None:
        """Shut down: no more runs come."""


class Queue(Protocol):
    """The methods of :class:`~peft_lab.runs.queue.RunQueue` that are needed here."""

    def submit(self, spec: RunSpec) -> str:
        """Submit a run to the queue and return its id."""

    def go_on(self, identity: str, anew: bool = False) -> None:
        """Queue a run that ended too early once more."""

    def stop(self, identity: str) -> None:
        """Ask a run to stop."""


class Local(Executor):
    """This machine's queue, one run at a time. No further run waits in it, so a killed driver loses none."""

    slots = 1

    def __init__(self, queue: Queue) -> None:
        self._queue = queue

    def start(self, spec: RunSpec) -> str:
        return self._queue.submit(spec)

    def again(self, run: Run) -> None:
        self._queue.go_on(run.id, anew=True)

    def end(self, run: Run) -> None:
        self._queue.stop(run.id)

    def look(self) -> None:
        """Do nothing: the queue ends its runs itself."""

    def close(self) -> None:
        """Do nothing: the queue ends with its process."""


# ----------------------------------------
# Making the runs.


POLL = 0.2  # seconds
MOST_LOST = 3  # times that one command begins a run

#: Called with the number of runs that are done, the total, and the runs under way.
Watch = Callable[[int, int, Sequence[Run]], None]


class Attempt:
    """One planned run: its spec, its representative run, and what this command did about it."""

    def __init__(self, spec: RunSpec, run: Run | None) -> None:
        self.spec, self.run = spec, run
        self.begun = 0  # times, by this command
        self.problem = ""  # why it could not begin

    def status(self) -> Status | None:
        """Return the run's status; ``None`` while there is no run."""
        return None if self.run is None else status_of(self.run)

    def ending(self) -> bool:
        """Return whether a process of a killed command is still about to write the run's ending."""
        return self.run is not None and self.status() is not Status.DONE and waiting.is_held(self.run)

    def settled(self, judge: Judge | None, most_lost: int) -> bool:
        """Return whether the run needs nothing more now."""
        status = self.status()
        if status is Status.DONE or self.problem:
            return True
        if status is None or self.run is None or not status.final:
            return False
        if judge is not None and judge.ended(self.run):
            return True
        # Without a request to stop, its process ended with the command that had begun it.
        cut_off = status is Status.LOST or (status is Status.STOPPED and not self.run.asked_to_stop())
        return self.begun >= (most_lost if cut_off else 1)

    def begin(self, executor: Executor, afresh: bool) -> None:
        """Begin or continue the run. Take one that another page or command has begun meanwhile."""
        if self.run is None or afresh:
            (self.run,) = runs_of([self.spec])
            if self.run is not None and (self.status() is Status.DONE or not status_of(self.run).final):
                return
        self.begun += 1
        try:
            if self.run is None or afresh:
                self.run = store.get(executor.start(self.spec))
            else:
                executor.again(self.run)
        except (RunError, BadInput) as error:
            self.problem = str(error)


def make_runs(
    specs: Sequence[RunSpec],
    executor: Executor,
    watch: Watch,
    stop: Callable[[], bool],
    judge: Judge | None = None,
    afresh: bool = False,
) -> list[Attempt]:
    """Make the missing runs of a study, which the caller has claimed, as many at a time as the executor takes.

    Args:
        watch: called several times a second. An exception from it stops the runs under way and is passed on.
        stop: whether to end: runs under way end after their current step, and continue the next time.
        judge: ends runs early.
        afresh: make a new run in place of one that ended too early, once, instead of continuing it.

    Raises:
        AssetError: weights or data are missing.
    """
    attempts = [Attempt(spec, run) for spec, run in zip(specs, runs_of(specs), strict=True)]
    try:
        while not stop():
            executor.look()
            if judge is not None:
                judge.look([one.run for one in attempts if one.run is not None])
            going = [one for one in attempts if (status := one.status()) and not status.final]
            waiting = [
                one
                for one in attempts
                if one not in going
                and not one.settled(judge, 1 if afresh else MOST_LOST)
                and not one.ending()
            ]
            done = sum(one.status() is Status.DONE for one in attempts)
            watch(done, len(attempts), [one.run for one in going if one.run])
            if not going and not waiting and not any(one.ending() for one in attempts):
                break
            for one in waiting[: max(0, executor.slots - len(going))]:
                one.begin(executor, afresh)
            time.sleep(POLL)
    except BaseException:
        _end(attempts, executor)
        raise
    left = _end(attempts, executor)
    while any(not status_of(run).final for run in left):
        executor.look()
        time.sleep(POLL)
    return attempts


def _end(attempts: Sequence[Attempt], executor: Executor) -> list[Run]:
    """Ask the runs under way to end after their current step, and return them."""
    going = [one.run for one in attempts if one.run is not None and not status_of(one.run).final]
    for run in going:
        executor.end(run)
    return going


def carry_out(
    study: Study,
    executor: Executor,
    machines: Sequence[Mapping[str, Any]],
    watch: Watch = lambda *_: None,
    afresh: bool = False,
) -> bool:
    """Make every run that is not done, failed ones once more; return ``False`` if asked to stop before the end.
    ``machines``: those that train, as :func:`peft_lab.core.machine.describe_machine` returns them. Raises RunError
    if the study is under way already, or a run was refused, AssetError if weights or data are missing."""
    with study.claimed(machines):
        attempts = make_runs(study.specs, executor, watch, study.asked_to_stop, afresh=afresh)
        stopped = study.asked_to_stop()
    refusal = next((one.problem for one in attempts if one.problem), "")
    if refusal and not stopped:
        raise RunError(refusal)
    return not stopped


def carry_out_here(study: Study, queue: Queue, watch: Watch = lambda *_: None) -> bool:
    """Do :func:`carry_out` in this machine's queue, with a new run in place of one that ended too early."""
    return carry_out(study, Local(queue), [describe_machine()], watch, afresh=True)


_threads: dict[Path, threading.Thread] = {}


def at_work(study: Study) -> bool:
    """Return whether a thread of this process carries it out; the disk shows that only a little later."""
    thread = _threads.get(study.folder)
    return thread is not None and thread.is_alive()


def start(study: Study, queue: Queue) -> None:
    """Do :func:`carry_out_here` in a thread of this process, unless one already does. An error that ends it early is
    stored with the study (:attr:`Study.problem`)."""
    if at_work(study):
        return
    study.begin_afresh()

    def work() -> None:
        try:
            carry_out_here(study, queue)
        except PeftLabError as error:
            study.note_problem(str(error))

    thread = threading.Thread(target=carried(work), name=f"{study.NOUN}-{study.id}", daemon=True)
    _threads[study.folder] = thread
    thread.start()
