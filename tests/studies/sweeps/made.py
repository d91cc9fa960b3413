"""A sweep whose runs end at once, with scores that are known."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from peft_lab.runs import checkpoints, owners, store
from peft_lab.runs.child import end_run
from peft_lab.runs.spec import RunSpec
from peft_lab.runs.store import Run
from peft_lab.studies.sweeps import plan
from peft_lab.studies.sweeps import store as keeping
from peft_lab.studies.sweeps.store import KeptSweep

EXAMPLE: dict[str, Any] = {
    "model": "minilm-l6",
    "task": "sentiment",
    "methods": ["lora"],
    "steps": 30,
    "eval_rows": 200,
    "seeds": [0, 1],
    "grid": {"r": [2, 8], "learning_rate": [0.001, 0.003, 0.01]},
}


def accuracy(spec: RunSpec) -> float:
    """Highest at rank 8 and a rate of 0.003; seeds are 0.02 apart."""
    at = {0.001: 0.6, 0.003: 0.8, 0.01: 0.7}[spec.learning_rate]
    return at + 0.005 * spec.values["r"] + 0.02 * spec.seed


def begun(spec: RunSpec, steps: int) -> Run:
    """A run of this process that has made so many steps."""
    run = store.create(spec)
    run.log.emit("queued", owner=owners.myself().to_dict())
    run.log.emit("ready", trainable=10, total=100, head=2, dtype="float32", device="cpu", rows=4)
    for step in range(steps):
        fields = {"lr": 1.0, "grad_norm": 1.0, "tokens": 40, "seconds": 0.5, "tracked": False}
        run.log.emit("step", step=step + 1, loss=1.0 - 0.01 * step, **fields)
    return run


def ended(spec: RunSpec, how: str = "done", score: float | None = None) -> Run:
    run = begun(spec, spec.steps if how == "done" else 2)
    if how == "done" and spec.eval_rows:
        metrics = {"accuracy": accuracy(spec) if score is None else score}
        run.log.emit(
            "evaluated", which="tuned", metrics=metrics, loss=1 - metrics["accuracy"], rows=200, seconds=0.1
        )
    end_run(run, how, "" if how == "done" else "as the test wanted")
    return run


def kept(
    changes: Mapping[str, Any] | None = None, fate: Callable[[int, RunSpec], str] = lambda *_: "done"
) -> KeptSweep:
    """A sweep with its runs: ``fate`` says what becomes of each, ``""`` for one that was not begun."""
    wish = {name: value for name, value in {**EXAMPLE, **(changes or {})}.items() if value is not None}
    specs = plan.sweep_of(wish).specs
    for number, spec in enumerate(specs):
        how = fate(number, spec)
        if how == "running":
            begun(spec, 3)
        elif how:
            ended(spec, how)
    return keeping.keep(specs)


class Killed(BaseException):
    """As a kill: whoever carries out the sweep does nothing more."""


class Stand:
    """Runs that make a step a look and end as the worker ends them, until their driver is killed at some moment.

    Attributes:
        slots: how many train at once. moments: looks, starts and continuations until the kill; 0 for none.
        loss: of a run at a step.
    """

    def __init__(
        self,
        slots: int = 1,
        moments: int = 0,
        loss: Callable[[RunSpec, int], float] = lambda _, step: 1 / step,
    ) -> None:
        self.slots, self._left, self._loss = slots, moments, loss
        self._going: list[Run] = []

    def _moment(self) -> None:
        self._left -= 1
        if self._left == 0:
            raise Killed

    def start(self, spec: RunSpec) -> str:
        self._moment()
        run = store.create(spec, owners.myself())
        self._moment()
        self._going.append(run)
        return run.id

    def again(self, run: Run) -> None:
        self._moment()
        checkpoints.reopen(run, owners.myself(), anew=True)
        self._moment()
        self._going.append(run)

    def look(self) -> None:
        for run in list(self._going):
            self._moment()
            taken, all_steps, rung = run.view().step, run.spec.steps, checkpoints.ended_by(run)
            if taken == all_steps or rung is not None:
                told = "" if rung is None else checkpoints.told_to_end(rung, taken, all_steps)
                run.log.emit("done" if taken == all_steps else "stopped", message=told)
                self._going.remove(run)
            else:
                fields = {"lr": 0.1, "grad_norm": 1.0, "tokens": 4, "seconds": 0.1}
                run.log.emit("step", step=taken + 1, loss=self._loss(run.spec, taken + 1), **fields)

    def end(self, run: Run) -> None:
        run.ask_to_stop()

    def close(self) -> None: ...
