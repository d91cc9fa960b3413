"""Tasks as a driver looks at them, without a cluster: tests/cluster has one."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from peft_lab.runs import checkpoints, owners, waiting
from peft_lab.runs.store import Run
from peft_lab.runs.view import Status
from peft_lab.studies import by_url
from peft_lab.studies.by_url import RemoteFolder, RemoteRuns
from peft_lab.studies.on_ray import CARRIER, OnRay

URL = "memory://driver/runs"
NAME = "20261127-180000-lora-minilm-sentiment-abcd"


class Ray:
    """Ends those tasks that it is told to."""

    def __init__(self) -> None:
        self.handed_over: list[str] = []
        self.ended: list[str] = []

    def remote(self, *_: object) -> str:
        self.handed_over.append(f"task {len(self.handed_over)}")
        return self.handed_over[-1]

    def wait(self, tasks: Sequence[str], **_: object) -> tuple[list[str], list[str]]:
        return [task for task in tasks if task in self.ended], []

    def get(self, task: str) -> str:
        return f"{task} returned"


class Heart:
    def start(self) -> None: ...


@pytest.fixture
def at() -> Iterator[RemoteFolder]:
    found = by_url.place(URL)
    yield found
    found.remove()


@pytest.fixture
def ray() -> Ray:
    return Ray()


@pytest.fixture
def driver(at: RemoteFolder, ray: Ray) -> OnRay:
    made = OnRay.__new__(OnRay)
    made.__dict__.update(_ray=ray, _task=ray, _heart=Heart(), _tasks={}, _waiting=[], _cpus=1)
    made._store = RemoteRuns(URL)
    return made


@pytest.fixture
def run(tmp_path: Path) -> Run:
    made = Run(NAME, tmp_path / NAME)
    made.folder.mkdir()
    (made.folder / "spec.json").write_text("{}")
    made.log.emit("queued", owner=owners.myself().to_dict(), carrier=CARRIER)
    return made


def test_a_task_that_returns_late_tells_nothing_of_the_run_begun_again(
    at: RemoteFolder, ray: Ray, driver: OnRay, run: Run
) -> None:
    driver._hand_over(run)
    run.log.emit("stopped", message="its process was told to end")
    checkpoints.reopen(run, owners.myself(), anew=True, carrier=CARRIER)
    driver._hand_over(run)
    ray.ended = ray.handed_over[:1]
    driver.look()
    assert run.status() is Status.QUEUED
    assert by_url.holders(by_url.turn_of(at, NAME, waiting.turn_number(run))) == [0], (
        "its node finds it there"
    )
    ray.ended = ray.handed_over
    driver.look()
    assert run.status() is Status.LOST and at.below(NAME).names() == []


def test_what_a_node_had_done_for_a_killed_driver_is_not_begun_again(
    at: RemoteFolder, ray: Ray, driver: OnRay, run: Run, tmp_path: Path
) -> None:
    turn = waiting.turn_number(run)
    RemoteRuns(URL).hand_over(run, turn)
    carried = by_url.take_over(by_url.turn_of(at, NAME, turn), tmp_path / "node" / NAME)
    with carried.exchanging():
        Run(NAME, carried.folder).log.emit("done", message="")
    run.log.emit("lost", message="its command was killed")
    driver.again(run)
    assert run.status() is Status.DONE and ray.handed_over == [] and at.below(NAME).names() == []


def test_a_run_that_took_long_to_hand_over_is_not_taken_for_lost(
    driver: OnRay, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = RemoteRuns.hand_over

    def slow(store: RemoteRuns, run: Run, turn: float) -> None:
        real(store, run, turn)
        before = time.time() - 2 * owners.SILENT
        os.utime(run.folder / owners.BEAT, (before, before))

    monkeypatch.setattr(RemoteRuns, "hand_over", slow)
    driver._hand_over(run)
    assert run.status() is Status.QUEUED
