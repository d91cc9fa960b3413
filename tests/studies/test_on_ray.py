"""Tasks as a driver looks at them, without a cluster: tests/cluster has one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from peft_lab.core.errors import RunError
from peft_lab.runs import checkpoints, owners
from peft_lab.runs.store import Run
from peft_lab.runs.view import Status
from peft_lab.studies.on_ray import CARRIER, OnRay, carry_on_node

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

    def start(self) -> None:
        """Stand in for the heart, too."""


def test_a_task_that_returns_late_tells_nothing_of_the_run_begun_again(tmp_path: Path) -> None:
    run, ray, driver = Run(NAME, tmp_path / NAME), Ray(), OnRay.__new__(OnRay)
    driver.__dict__.update(_ray=ray, _task=ray, _heart=ray, _tasks={}, _waiting=[], _cpus=1)
    run.folder.mkdir()
    (run.folder / "spec.json").write_text("{}")
    run.log.emit("queued", owner=owners.myself().to_dict(), carrier=CARRIER)
    driver._hand_over(run)
    run.log.emit("stopped", message="its process was told to end")
    checkpoints.reopen(run, owners.myself(), anew=True, carrier=CARRIER)
    driver._hand_over(run)
    ray.ended = ray.handed_over[:1]
    driver.look()
    assert run.status() is Status.QUEUED
    ray.ended = ray.handed_over
    driver.look()
    assert run.status() is Status.LOST


def test_a_node_that_does_not_see_the_lab_folder_says_so(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=f"cannot see {tmp_path}/gone"):
        carry_on_node(f"{tmp_path}/gone", str(tmp_path), 0.0, 1)
