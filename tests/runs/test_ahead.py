"""What a queued run waits for, from runs as they stand on disk."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest

from peft_lab.core.errors import RunError
from peft_lab.runs import owners, store
from peft_lab.runs.spec import RunSpec
from peft_lab.runs.view import Status
from peft_lab.runs.waiting import ahead, starts_in

SPEC = RunSpec(
    "minilm-l6", "lora", "sentiment", steps=10, batch=4, learning_rate=1e-3, max_length=64, eval_rows=8
)


@pytest.fixture(autouse=True)
def home(own_home: Path) -> Path:
    return own_home


def queued(spec: RunSpec = SPEC, owner: owners.Owner | None = None) -> store.Run:
    run = store.create(spec, owner or owners.myself())
    owners.touch(run.folder)
    time.sleep(0.002)  # the order is that of the clock
    return run


def at(run: store.Run, kind: str, when: float, **fields: object) -> None:
    """An event of another time than now."""
    with (run.folder / "events.jsonl").open("a") as file:
        import json

        file.write(json.dumps({"time": when, "type": kind, **fields}) + "\n")


def steps(run: store.Run, amount: int, seconds: float) -> None:
    for number in range(1, amount + 1):
        run.log.emit("step", step=number, loss=1.0, lr=0.1, grad_norm=1.0, tokens=40, seconds=seconds)


def finished(spec: RunSpec, seconds: float, beside: float) -> None:
    """A run that was done, with steps of ``seconds`` and ``beside`` around them."""
    run = store.create(spec)
    at(run, "queued", 1000.0)
    at(run, "starting", 1001.0)
    for number in range(1, spec.steps + 1):
        at(run, "step", 1001.0 + number, step=number, loss=1.0, lr=0.1, tokens=4, seconds=seconds)
    at(run, "done", 1001.0 + spec.steps * seconds + beside, message="")


def test_nothing_is_ahead_of_the_first_run() -> None:
    run = queued()
    assert ahead(run.id) == [] and starts_in([]) == 0


def test_the_run_that_trains_and_those_that_wait_in_their_order() -> None:
    first, second, third = queued(), queued(replace(SPEC, method="ia3")), queued()
    first.log.emit("starting")
    steps(first, 4, seconds=0.5)
    one, two = ahead(third.id)
    assert (one.id, one.status, one.step, one.steps) == (first.id, Status.RUNNING, 4, 10)
    assert (one.seconds_per_step, one.seconds) == (0.5, 3.0)
    assert two.spec is not None and (two.id, two.status, two.spec.method) == (second.id, Status.QUEUED, "ia3")
    # nothing like the second was ever measured
    assert two.seconds is None and starts_in([one, two]) is None
    assert [each.id for each in ahead(second.id)] == [first.id] and ahead(first.id) == []


def test_a_run_like_it_that_was_done_says_how_long_it_takes() -> None:
    finished(replace(SPEC, steps=20), seconds=0.25, beside=7.0)
    first, second = queued(), queued()
    (one,) = ahead(second.id)
    assert one.seconds_per_step == 0.25
    assert one.seconds == pytest.approx(10 * 0.25 + 7.0)
    first.log.emit("starting")
    steps(first, 10, seconds=0.5)
    (one,) = ahead(second.id)
    assert one.seconds == pytest.approx(7.0, abs=1.0)  # its evaluation


def test_runs_of_gone_processes_and_of_other_machines_hold_up_nobody() -> None:
    me = owners.myself()
    queued(owner=replace(me, pid=2**22 + 1))
    queued(owner=replace(me, host="another-machine pid:[1]"))
    other_container = queued(owner=replace(me, host=f"{owners.machine()} pid:[1]"))
    mine = queued()
    assert [each.id for each in ahead(mine.id)] == [other_container.id]


def test_a_run_that_is_not_there() -> None:
    with pytest.raises(RunError, match="no run called"):
        ahead("nope")
