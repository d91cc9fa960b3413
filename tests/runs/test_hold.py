"""One process writes a run at a time, and only the one that was made for its latest turn."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

from peft_lab.core import disk, processes
from peft_lab.core.errors import RunError
from peft_lab.runs import checkpoints, owners, store, training, waiting
from peft_lab.runs import child as elsewhere
from peft_lab.runs.spec import RunRequest
from peft_lab.runs.store import Run
from peft_lab.runs.view import Status
from tests.conftest import link

pytestmark = pytest.mark.weights


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


def test_a_child_that_comes_late_leaves_a_run_alone_that_has_ended(
    run: Run, child: Callable[[Run, float], bool]
) -> None:
    run.log.emit("lost", message="gone")
    assert not child(run, waiting.turn_number(run))
    assert run.status() is Status.LOST


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


def test_an_engine_leaves_a_run_alone_that_its_owner_has_queued_again(
    run: Run, child: Callable[[Run, float], bool]
) -> None:
    turn = waiting.turn_number(run)
    began(run)
    checkpoints.taken_over(run, "lost")
    run.log.emit("lost", message="gone")
    checkpoints.reopen(run, owners.myself(), anew=True)
    before = run.events()
    assert elsewhere.carry_elsewhere(str(run.folder), str(disk.home()), turn, 1) == Status.QUEUED
    assert run.events() == before


def test_who_takes_a_run_over_does_as_its_owner_decided_before(run: Run) -> None:
    began(run)
    run.ask_to_stop()
    checkpoints.note_ending(run, checkpoints.Verdicts("sweep", (checkpoints.Rung(1, 0.5, goes_on=False),)))
    checkpoints.taken_over(run, "lost")
    assert run.asked_to_stop() and checkpoints.ended_by(run) is not None
    run.log.emit("stopped", message="")
    checkpoints.reopen(run, owners.myself(), anew=True)
    assert not run.asked_to_stop() and checkpoints.ended_by(run) is None


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
