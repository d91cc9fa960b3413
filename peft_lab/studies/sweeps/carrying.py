"""A sweep carried out: every run once, whatever happened to whoever carried it out before.

Of how far it is nothing is written down but the runs themselves. A sweep's run is known by what it trains, as a
comparison's is; so the same file again finds what is done, goes on with what was cut off, and begins what is missing.
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
# Who carries out a sweep's runs. They are folders of the run store, whoever does: that is how results come back.


class Executor(Protocol):
    """Starts runs; where they stand is read from the run store."""

    @property
    def slots(self) -> int:
        """How many may be under way at once."""

    def start(self, spec: RunSpec) -> str:
        """Begin a new run; its id. Raises PeftLabError where it cannot be."""

    def again(self, run: Run) -> None:
        """Let a run that ended too early go on, or begin once more in its own folder. Raises PeftLabError."""

    def look(self) -> None:
        """Called now and then: give runs whose process was lost for good their ending."""

    def close(self) -> None:
        """No more runs come."""


class Local:
    """This machine's queue, where one run trains at a time. No other waits in it: a killed driver loses none."""

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
        """Let a run that ended too early go on from its last checkpoint, or begin anew in its own folder.

        Raises:
            PeftLabError: the run cannot go on.
        """
        self._queue.go_on(run.id, anew=True)

    def look(self) -> None:
        """The queue ends its runs itself."""

    def close(self) -> None:
        """The queue ends with its process."""


POLL = 0.2  # seconds
MOST_LOST = 3  # times that a run is begun again in one command

#: Told how many runs are done, of how many, and those under way.
Watch = Callable[[int, int, Sequence[Run]], None]


class _Standing:
    """One run of the sweep: what is asked for, the run that speaks for it, and what this command did about it."""

    def __init__(self, spec: RunSpec, run: Run | None) -> None:
        self.spec, self.run = spec, run
        self.begun = 0
        self.problem = ""

    def status(self) -> Status | None:
        return None if self.run is None else status_of_comparison(self.run)

    def ending(self) -> bool:
        """Whether a process of a command that was killed is still about to write the run's ending."""
        status = self.status()
        return self.run is not None and status is not Status.DONE and hold.is_held(self.run)

    def settled(self, judge: Judge | None) -> bool:
        """Whether there is nothing more to do about it now."""
        status = self.status()
        if status is Status.DONE or self.problem:
            return True
        if status is None or self.run is None or not status.final:
            return False
        if judge is not None and judge.ended(self.run):
            return True
        # Nobody asked it to stop: its process ended with the command that had begun it.
        cut_off = status is Status.LOST or (status is Status.STOPPED and not self.run.asked_to_stop())
        return self.begun >= (MOST_LOST if cut_off else 1)


def carry_out(
    specs: Sequence[RunSpec],
    executor: Executor,
    watch: Watch,
    stop: Callable[[], bool],
    ending_early: Asha | None = None,
) -> list[dict[str, Any]]:
    """Make the runs that are missing; a row for each, in order.

    Args:
        stop: whether to end: the runs under way end after their step, and go on when the sweep is carried out again.

    Raises:
        RunError: another process carries out this sweep. BadInput: runs are to be ended early, and Ray Tune is not
            there.
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
    """The same for whoever has claimed these runs: as many at a time as the executor takes."""
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
    """Let what is still under way end after its step."""
    going = [run for run in runs if not status_of_comparison(run).final]
    for run in going:
        run.ask_to_stop()
    while any(not status_of_comparison(run).final for run in going):
        executor.look()
        time.sleep(POLL)


def _row(row: _Standing, judge: Judge | None) -> dict[str, Any]:
    """As ``sweep --json`` has it: bytes as integers, seconds as floats."""
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
    """By which rung the sweep has ended a run, and after how many steps; ``None`` where it has not."""
    rung = checkpoints.ended_by(run) if judge is not None and judge.ended(run) else None
    if rung is None or result["status"] == Status.DONE:
        return None
    return {"rung": rung.step, "loss": rung.loss, "steps": result["steps"]}


# ----------------------------------------
# A comparison's runs carried out several at a time, by an executor that has room for them.


def carry_out_comparison(comparison: Comparison, executor: OnRay, watch: Watch) -> bool:
    """Make every run that is not done yet, failed ones once more; ``False`` when asked to stop before the end.

    Which methods run beside each other on a node depends on when each ends: their seconds are those of a shared machine
    where a node takes more than one.

    Raises:
        RunError: the comparison is under way already. BadInput: a node cannot say what it is.
    """
    specs = [cell.spec for cell in comparison.plan.cells]

    def stop() -> bool:
        comparison.beat()
        return comparison.asked_to_stop()

    with comparison.claimed(executor.machines()):
        made(specs, executor, watch, stop)
        return not comparison.asked_to_stop()
