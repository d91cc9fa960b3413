"""Carry out a sweep, and give its rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from peft_lab.core.errors import PeftLabError
from peft_lab.runs import checkpoints, record
from peft_lab.runs.spec import RunSpec
from peft_lab.runs.store import Run
from peft_lab.runs.view import DAMAGED, Status
from peft_lab.studies.carrying import Attempt, Executor, Watch, make_runs
from peft_lab.studies.sweeps import store
from peft_lab.studies.sweeps.asha import Asha, Judge


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
    sweep = store.keep(specs, ending_early)
    judge = None if ending_early is None else Judge(ending_early, sweep.id)
    with sweep.claimed():
        return [_row(one, judge) for one in make_runs(specs, executor, watch, stop, judge)]


def _row(attempt: Attempt, judge: Judge | None) -> dict[str, Any]:
    """Return a run's row of ``sweep --json``: bytes as integers, seconds as floats."""
    spec = attempt.spec
    found: dict[str, Any] = {
        "method": spec.method,
        "values": {**spec.values, "learning_rate": spec.learning_rate},
        "seed": spec.seed,
        "run_id": None,
        "status": "failed" if attempt.problem else "missing",
        "message": attempt.problem,
        "loss": [],
        "metric": None,
        "seconds": None,
        "peak_bytes": None,
        "ended_early": None,
    }
    if attempt.run is None:
        return found
    try:
        result = record.result(attempt.run)
    except PeftLabError as error:
        return {**found, "run_id": attempt.run.id, "status": DAMAGED, "message": str(error)}
    return {
        **found,
        "run_id": attempt.run.id,
        "status": result["status"],
        "message": attempt.problem or result["message"],
        "loss": result["loss"],
        "metric": result["metric"],
        "seconds": result["seconds"],
        "peak_bytes": (result["memory"] or {}).get("peak_bytes"),
        "ended_early": _early(attempt.run, judge, result),
    }


def _early(run: Run, judge: Judge | None, result: dict[str, Any]) -> dict[str, Any] | None:
    """Return the rung at which the sweep ended a run, its loss and the steps made; ``None`` if it did not."""
    rung = checkpoints.ended_by(run) if judge is not None and judge.ended(run) else None
    if rung is None or result["status"] == Status.DONE:
        return None
    return {"rung": rung.step, "loss": rung.loss, "steps": result["steps"]}
