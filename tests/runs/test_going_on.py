"""Runs that go on: killed, stopped or failed, they end with the very losses of one that nothing interrupted."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from filelock import FileLock

from peft_lab.core import disk, processes
from peft_lab.core.errors import BadInput, RunError
from peft_lab.methods import all_methods
from peft_lab.methods.recording import trained_tokens as attention
from peft_lab.runs import checkpoints, owners, store, training, waiting
from peft_lab.runs import child as elsewhere
from peft_lab.runs import child as ending
from peft_lab.runs.queue import get_queue
from peft_lab.runs.spec import RunRequest, RunSpec
from peft_lab.runs.store import Run
from peft_lab.runs.view import Status
from peft_lab.training import tasks
from peft_lab.training.step import Made
from tests.conftest import link

pytestmark = pytest.mark.weights
DROPPED = {"lora_dropout": 0.3}  # random numbers in every step
SPEC = RunRequest("minilm-l6", "lora", "sentiment", values=DROPPED, steps=8, batch=4, eval_rows=8)
_made: list[Run] = []


class Killed(BaseException):
    """As a kill: nothing is tidied up."""


@pytest.fixture
def every_third(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "EVERY", 3)
    monkeypatch.setattr(checkpoints, "SHARE", 1000)


def new(spec: RunRequest) -> Run:
    run = store.create(spec.complete(), owners.myself())
    _made.append(run)
    run.log.emit("starting")
    return run


def carry_on(run: Run) -> Run:
    ending.end_run(run, *training.train(run))
    return run


def broken(spec: RunRequest, at: int, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A run that is cut off after ``at`` steps and goes on."""
    run = new(spec)
    with monkeypatch.context() as patch:
        real = training.report_step

        def report(run: Run, made: Made, measured: dict[str, Any] | None) -> None:
            real(run, made, measured)
            if made.step + 1 == at:
                raise Killed

        patch.setattr(training, "report_step", report)
        with pytest.raises(Killed):
            training.train(run)
    run.log.emit("lost", message="gone")
    checkpoints.reopen(run, owners.myself())
    return carry_on(run)


def left_behind(run: Run) -> tuple[object, ...]:
    seen = run.view()
    assert seen.before and seen.after
    weights = (run.adapter / "adapter_model.safetensors").read_bytes()
    return (
        seen.losses,
        seen.learning_rates,
        [event["grad_norm"] for event in run.events() if event["type"] == "step"],
        seen.before.loss,
        seen.after.loss,
        weights,
        json.dumps({name: value for name, value in run.insight().items() if name != "latency"}),  # seconds
    )


@pytest.fixture(scope="module")
def unbroken(assets_home: Path) -> Run:
    return carry_on(new(SPEC))


@pytest.mark.slow
@pytest.mark.parametrize("at", [4, 8])
@pytest.mark.usefixtures("every_third")
def test_a_run_that_was_cut_off_ends_as_an_unbroken_one(
    unbroken: Run, at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = broken(SPEC, at, monkeypatch)
    assert run.view().status is Status.DONE
    assert left_behind(run) == left_behind(unbroken)
    recorded, whole = run.trajectory(), unbroken.trajectory()
    assert recorded is not None and whole is not None
    assert (
        recorded.curve.loss == whole.curve.loss
        and recorded.steps[0] == 0
        and recorded.steps[-1] == SPEC.steps
    )
    assert recorded.ended and {len(part.change) for part in recorded.parts} == {len(recorded.steps)}
    assert (
        recorded.stream.moved[0] == whole.stream.moved[0]
        and recorded.stream.moved[-1] == whole.stream.moved[-1]
    )
    assert checkpoints.latest(run.folder) is None  # one that is done needs none
    again = [event.get("continued") for event in run.events() if event["type"] == "queued"]
    assert again == [None, 3 * (at // 3)]


@pytest.mark.slow
@pytest.mark.usefixtures("every_third")
def test_a_run_that_was_stopped_goes_on_from_that_very_step(
    unbroken: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = new(SPEC)
    with monkeypatch.context() as patch:
        patch.setattr(training, "stop_asked", lambda run: run.view().step == 5)
        carry_on(run)
    assert (run.view().status, checkpoints.step_of(run)) == (Status.STOPPED, 5)
    checkpoints.reopen(run, owners.myself())
    assert run.view().status is Status.QUEUED and not run.record()
    assert left_behind(carry_on(run)) == left_behind(unbroken)


@pytest.mark.slow
@pytest.mark.sampled(3)
@pytest.mark.parametrize("slug", [slug for slug in all_methods() if slug != "lora"])
@pytest.mark.usefixtures("every_third")
def test_every_method_goes_on_to_the_last_digit(slug: str, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = replace(SPEC, method=slug, values={}, steps=7, batch=2, eval_rows=2)
    if slug == "prefix":  # not on encoders
        spec = replace(spec, model="smollm2-135m", task="json", max_length=48)
        # whole answers, and writing timed again and again, would take most of the time
        monkeypatch.setattr(attention, "ROUNDS", 1)
        short = replace(tasks.get_task("json"), max_new_tokens=3)
        monkeypatch.setattr(RunSpec, "task_object", lambda self: short)
    whole = carry_on(new(spec))
    assert left_behind(broken(spec, 5, monkeypatch)) == left_behind(whole)


def test_what_cannot_go_on_is_told_in_one_sentence() -> None:
    finished = new(SPEC)
    finished.log.emit("done", message="")
    with pytest.raises(BadInput, match="is done"):
        get_queue().go_on(finished.id)
    with pytest.raises(RunError, match="no run called"):
        get_queue().go_on("nothing")
    dead = store.create(SPEC.complete(), replace(owners.myself(), pid=2**22 + 1))
    assert dead.view().status is Status.LOST
    with pytest.raises(BadInput, match="no checkpoint"):
        get_queue().go_on(dead.id)
    with pytest.raises(BadInput, match="has not ended"):
        get_queue().go_on(new(SPEC).id)


def test_a_state_of_other_releases_is_not_gone_on_with(
    every_third: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = checkpoints._made_by()
    versions = iter([{**real, "torch": "0.1"}, real])
    monkeypatch.setattr(checkpoints, "_made_by", lambda: next(versions))
    with pytest.raises(RunError, match=r"torch 0\.1"):
        broken(SPEC, 4, monkeypatch)


def test_a_disk_without_room_ends_no_run(every_third: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk, "free", lambda folder: 1000)
    run = carry_on(new(replace(SPEC, steps=4, eval_rows=0)))
    assert run.view().status is Status.DONE
    assert not [event for event in run.events() if event["type"] == "checkpoint"]


def test_a_loss_that_is_no_number_leaves_nothing_to_go_on_from(every_third: None) -> None:
    run = new(replace(SPEC, learning_rate=10.0, method="full", values={}, steps=30, eval_rows=0))
    real = checkpoints.Keeper.made

    def poisoned(self: checkpoints.Keeper, step: int) -> None:
        real(self, step)
        with torch.no_grad():
            self.masters.parameters[-1].fill_(float("nan"))
            self.masters.publish()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoints.Keeper, "made", poisoned)
        with pytest.raises(RunError, match="a number"):
            training.train(run)
    assert checkpoints.latest(run.folder) is None


@pytest.fixture(autouse=True)
def _nothing_left() -> Iterator[None]:
    """No stop, and no run without an ending, for which the queue would wait."""
    yield
    training._stop_asked.clear()
    while _made:
        run = _made.pop()
        if run.folder.exists() and not run.status().final:
            run.log.emit("stopped", message="left by a test")


# ----------------------------------------
# One process writes a run at a time, and only the one that was made for its latest turn.


@pytest.fixture
def run(assets_home: Path, own_home: Path) -> Run:
    link(own_home)  # a run that is left queued would hold up those of other tests
    spec = RunRequest("minilm-l6", "lora", "sentiment", steps=2, batch=4, eval_rows=8)
    return store.create(spec.complete(), owners.myself())


@pytest.fixture
def child(monkeypatch: pytest.MonkeyPatch) -> Callable[[Run, float], bool]:
    """A run's child without a process of its own; whether it trained."""
    trained: list[Run] = []

    def train(run: Run) -> tuple[str, str]:
        assert waiting.is_held(run)
        trained.append(run)
        return "done", ""

    def call(run: Run, turn: float) -> bool:
        trained.clear()
        elsewhere.main(str(run.folder), str(disk.home()), turn)
        return trained == [run]

    monkeypatch.setattr(training, "train", train)
    monkeypatch.setattr(elsewhere, "_print_to", lambda path: None)
    monkeypatch.setattr(training, "listen_for_stop", lambda: None)
    monkeypatch.setattr(processes, "settle_child", lambda *_, **__: None)
    return call


def test_a_child_trains_the_turn_it_was_made_for(run: Run, child: Callable[[Run, float], bool]) -> None:
    assert child(run, waiting.turn_number(run))
    assert run.status() is Status.DONE
    assert not waiting.is_held(run)


def test_a_child_that_comes_late_leaves_a_run_alone_that_was_queued_again(
    run: Run, child: Callable[[Run, float], bool]
) -> None:
    late = waiting.turn_number(run)
    run.log.emit("lost", message="gone")
    checkpoints.reopen(run, owners.myself(), anew=True)
    before = run.events()
    assert not child(run, late)
    assert run.events() == before
    assert child(run, waiting.turn_number(run))


def began(run: Run) -> None:
    """As a process that an engine started, and that was lost."""
    run.log.emit("worker", owner=owners.myself().to_dict(), niceness=0)


def test_an_engine_that_loses_a_run_again_and_again_takes_it_over_each_time(
    run: Run, child: Callable[[Run, float], bool]
) -> None:
    turn = waiting.turn_number(run)
    began(run)
    assert checkpoints.taken_over(run, "lost") > turn
    began(run)
    checkpoints.taken_over(run, "lost once more")  # and lost before it has begun
    assert elsewhere.carry_elsewhere(str(run.folder), str(disk.home()), turn, 1) == Status.DONE


def test_a_run_is_not_opened_again_while_a_process_writes_it(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "WAIT", 0.1)
    run.log.emit("lost", message="gone")
    with FileLock(run.folder / waiting.HOLD_LOCK):
        assert waiting.is_held(run)
        with pytest.raises(RunError, match="not ended"):
            checkpoints.reopen(run, owners.myself(), anew=True)
    assert run.status() is Status.LOST
    checkpoints.reopen(run, owners.myself(), anew=True)
    assert run.status() is Status.QUEUED
