"""Carry out a sweep: make every run once, whatever happened to an earlier process that carried it out.

Progress is stored in the runs alone. A sweep's run is identified by its spec, as a comparison's is; so the same
file finds the finished runs again, continues the interrupted ones and begins the missing ones.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from peft_lab.core.errors import BadInput, PeftLabError, RunError
from peft_lab.runs import checkpoints, hold, record, store
from peft_lab.runs.queue import RunQueue
from peft_lab.runs.spec import RunSpec
from peft_lab.runs.store import Run
from peft_lab.runs.view import DAMAGED, Status
from peft_lab.studies.compare.store import Comparison, runs_of_comparison, status_of_comparison
from peft_lab.studies.sweeps import store as keeping
from peft_lab.studies.sweeps.asha import Asha, Judge
from peft_lab.studies.sweeps.on_ray import OnRay

# ----------------------------------------
# Executors of a sweep's runs. Whatever the executor, runs are folders of the run store, which holds the results.


class Executor(Protocol):
    """Starts runs; their status is read from the run store."""

    @property
    def slots(self) -> int:
        """Return how many runs may be under way at once."""

    def start(self, spec: RunSpec) -> str:
        """Begin a new run and return its id. Raises PeftLabError if it cannot begin."""

    def again(self, run: Run) -> None:
        """Continue a run that ended too early, or restart it in its own folder. Raises PeftLabError."""

    def look(self) -> None:
        """End runs whose process was lost for good; called every fraction of a second."""

    def close(self) -> None:
        """Shut down: no more runs come."""


class Local:
    """This machine's queue, one run at a time. No further run waits in it, so a killed driver loses none."""

    slots = 1

    def __init__(self, queue: RunQueue) -> None:
        self._queue = queue

    def start(self, spec: RunSpec) -> str:
        """Submit a new run to the queue of this machine and return its id.

        Raises:
            PeftLabError: the run cannot be accepted.
        """
        return self._queue.submit(spec)

    def again(self, run: Run) -> None:
        """Continue a run that ended too early from its last checkpoint, or restart it in its own folder.

        Raises:
            PeftLabError: the run cannot go on.
        """
        self._queue.go_on(run.id, anew=True)

    def look(self) -> None:
        """Do nothing: the queue ends its runs itself."""

    def close(self) -> None:
        """Do nothing: the queue ends with its process."""


POLL = 0.2  # seconds
MOST_LOST = 3  # times that one command begins a run

#: Called with the number of runs that are done, the total, and the runs under way.
Watch = Callable[[int, int, Sequence[Run]], None]


class _Standing:
    """One run of the sweep: its spec, its representative run, and what this command did about it."""

    def __init__(self, spec: RunSpec, run: Run | None) -> None:
        self.spec, self.run = spec, run
        self.begun = 0
        self.problem = ""

    def status(self) -> Status | None:
        return None if self.run is None else status_of_comparison(self.run)

    def ending(self) -> bool:
        """Return whether a process of a killed command is still about to write the run's ending."""
        status = self.status()
        return self.run is not None and status is not Status.DONE and hold.is_held(self.run)

    def settled(self, judge: Judge | None) -> bool:
        """Return whether nothing more is to be done about it now."""
        status = self.status()
        if status is Status.DONE or self.problem:
            return True
        if status is None or self.run is None or not status.final:
            return False
        if judge is not None and judge.ended(self.run):
            return True
        # Without a request to stop, its process ended with the command that had begun it.
        cut_off = status is Status.LOST or (status is Status.STOPPED and not self.run.asked_to_stop())
        return self.begun >= (MOST_LOST if cut_off else 1)


def carry_out(
    specs: Sequence[RunSpec],
    executor: Executor,
    watch: Watch,
    stop: Callable[[], bool],
    ending_early: Asha | None = None,
) -> list[dict[str, Any]]:
    """Make the missing runs; return a row for each run, in order.

    Args:
        stop: whether to end: runs under way end after their current step, and continue the next time.

    Raises:
        RunError: another process carries out this sweep. BadInput: early stopping needs Ray Tune, which is missing.
    """
    kept = keeping.keep(specs, ending_early)
    judge = None if ending_early is None else Judge(ending_early, kept.id)
    with kept.claimed():
        return made(specs, executor, watch, stop, judge)


def made(
    specs: Sequence[RunSpec],
    executor: Executor,
    watch: Watch,
    stop: Callable[[], bool],
    judge: Judge | None = None,
) -> list[dict[str, Any]]:
    """Make these runs, which the caller has claimed, as many at a time as the executor takes; return their rows."""
    rows = [_Standing(spec, run) for spec, run in zip(specs, runs_of_comparison(specs), strict=True)]
    while not stop():
        executor.look()
        if judge is not None:
            judge.look([row.run for row in rows if row.run is not None])
        going = [row for row in rows if (status := row.status()) and not status.final]
        waiting = [row for row in rows if row not in going and not row.settled(judge) and not row.ending()]
        watch(
            sum(row.status() is Status.DONE for row in rows),
            len(rows),
            [row.run for row in going if row.run],
        )
        if not going and not waiting and not any(row.ending() for row in rows):
            break
        for row in waiting[: max(0, executor.slots - len(going))]:
            _begin(row, executor)
        time.sleep(POLL)
    _end([row.run for row in rows if row.run is not None], executor)
    return [_row(row, judge) for row in rows]


def _begin(row: _Standing, executor: Executor) -> None:
    row.begun += 1
    try:
        if row.run is None:
            row.run = store.get(executor.start(row.spec))
        else:
            executor.again(row.run)
    except (RunError, BadInput) as error:
        row.problem = str(error)


def _end(runs: Sequence[Run], executor: Executor) -> None:
    """Ask the runs under way to end after their current step, and wait for them."""
    going = [run for run in runs if not status_of_comparison(run).final]
    for run in going:
        run.ask_to_stop()
    while any(not status_of_comparison(run).final for run in going):
        executor.look()
        time.sleep(POLL)


def _row(row: _Standing, judge: Judge | None) -> dict[str, Any]:
    """Return a run's row of ``sweep --json``: bytes as integers, seconds as floats."""
    spec = row.spec
    found: dict[str, Any] = {
        "method": spec.method,
        "values": {**spec.values, "learning_rate": spec.learning_rate},
        "seed": spec.seed,
        "run_id": None,
        "status": "failed" if row.problem else "missing",
        "message": row.problem,
        "loss": [],
        "metric": None,
        "seconds": None,
        "peak_bytes": None,
        "ended_early": None,
    }
    if row.run is None:
        return found
    try:
        result = record.result(row.run)
    except PeftLabError as error:
        return {**found, "run_id": row.run.id, "status": DAMAGED, "message": str(error)}
    return {
        **found,
        "run_id": row.run.id,
        "status": result["status"],
        "message": row.problem or result["message"],
        "loss": result["loss"],
        "metric": result["metric"],
        "seconds": result["seconds"],
        "peak_bytes": (result["memory"] or {}).get("peak_bytes"),
        "ended_early": _early(row.run, judge, result),
    }


def _early(run: Run, judge: Judge | None, result: dict[str, Any]) -> dict[str, Any] | None:
    """Return the rung at which the sweep ended a run, its loss and the steps made; ``None`` if it did not."""
    rung = checkpoints.ended_by(run) if judge is not None and judge.ended(run) else None
    if rung is None or result["status"] == Status.DONE:
        return None
    return {"rung": rung.step, "loss": rung.loss, "steps": result["steps"]}


# ----------------------------------------
# Carry out a comparison's runs several at a time, on an executor that has room for them.


def carry_out_comparison(comparison: Comparison, executor: OnRay, watch: Watch) -> bool:
    """Make every run that is not done, failed ones once more; return ``False`` if asked to stop before the end.

    If a node takes more than one run, their seconds are those of a shared machine: which runs share it depends on
    when each ends.

    Raises:
        RunError: the comparison is already under way. BadInput: a node cannot describe itself.
    """
    specs = [cell.spec for cell in comparison.plan.cells]

    def stop() -> bool:
        comparison.beat()
        return comparison.asked_to_stop()

    with comparison.claimed(executor.machines()):
        made(specs, executor, watch, stop)
        return not comparison.asked_to_stop()
