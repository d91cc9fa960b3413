"""Runs that end at once, in a store of their own: comparisons without training."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from peft_lab.runs import store
from peft_lab.runs.child import end_run
from peft_lab.runs.spec import RunSpec
from peft_lab.studies import carrying
from peft_lab.studies.compare.store import ComparisonRequest
from tests.conftest import link

WISH = ComparisonRequest(
    "minilm-l6", "sentiment", ("lora", "bitfit", "prefix"), steps=2, batch=4, seeds=(0, 1, 2), eval_rows=100
)
ACCURACY = {"lora": 0.8, "bitfit": 0.7, "full": 0.82}


class FakeQueue:
    """Every run is over when it is submitted; ``endings`` says how, ``done`` where it says nothing."""

    def __init__(self) -> None:
        self.submitted: list[RunSpec] = []
        self.endings: dict[tuple[str, int], str] = {}
        self.before: Callable[[RunSpec], None] = lambda _: None

    def submit(self, spec: RunSpec) -> str:
        self.before(spec)
        self.submitted.append(spec)
        run = store.create(spec)
        run.log.emit("queued", owner={"pid": os.getpid(), "started": time.time()})
        run.log.emit("ready", trainable=10, total=100, head=2, dtype="float32", device="cpu", rows=4)
        for step in range(spec.steps):
            fields = {"lr": 1.0, "grad_norm": 1.0, "tokens": 40, "seconds": 0.5, "tracked": False}
            run.log.emit("step", step=step + 1, loss=1.0 - 0.1 * step + 0.01 * spec.seed, **fields)
        run.log.emit("memory", peak_bytes=1000 + spec.seed, parts={"weights": 1000 + spec.seed})
        for which, share in (("tuned", ACCURACY[spec.method] + 0.01 * spec.seed), ("base", 0.5)):
            run.log.emit(
                "evaluated", which=which, metrics={"accuracy": share}, loss=0.5, rows=100, seconds=0.1
            )
        timed = {"unit": "row", "amount": 1, "base_seconds": 0.01, "tuned_seconds": 0.012, "rounds": 4}
        run.log.emit("inference", **timed, added_seconds=0.002)
        ending = self.endings.get((spec.method, spec.seed), "done")
        end_run(run, ending, "" if ending == "done" else "as the test wanted")
        return run.id

    def go_on(self, identity: str, anew: bool = False) -> None:
        raise AssertionError("a comparison here makes a new run in place of one that ended too early")

    def stop(self, identity: str) -> None:
        store.get(identity).ask_to_stop()


@pytest.fixture
def runner(own_home: Path, assets_home: object, monkeypatch: pytest.MonkeyPatch) -> FakeQueue:
    link(own_home)
    monkeypatch.setattr(carrying, "POLL", 0.0)
    return FakeQueue()
