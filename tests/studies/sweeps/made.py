"""A sweep whose runs end at once, with scores that are known."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from peft_lab.runs import owners, store
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
