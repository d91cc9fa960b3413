"""An inspector whose process is still on its way: who asks, closes or forgets meanwhile."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from peft_lab.core.errors import RunError
from peft_lab.workers import inspector
from peft_lab.workers.inspector import Inspector
from peft_lab.workers.pool import Pool
from tests.workers.test_inspector import die
from tests.workers.test_late import together

SOON = 120  # seconds, of a busy machine


THREADS = 2  # of no other inspector here: whose start it was


class Gate:
    """The inspector's own start, kept waiting until the test opens. Other inspectors of this process, asked by what an
    earlier test has left running, pass through it too."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.error: Exception | None = None
        self.started = 0
        self.processes: list[Any] = []
        self._original = inspector._started

    def __call__(self, settings: Any, threads: int | None, after: int) -> ProcessPoolExecutor:
        assert self.open.wait(SOON)
        if self.error is not None:
            raise self.error
        pool = self._original(settings, threads, after)
        if threads == THREADS:
            self.started += 1
            self.processes += (pool._processes or {}).values()
        return pool


@pytest.fixture
def gate(session_home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    made = Gate()
    monkeypatch.setattr(inspector, "_started", made)
    yield made
    made.open.set()


@pytest.fixture
def slow(gate: Gate) -> Iterator[Inspector]:
    made = Inspector(THREADS)
    yield made
    made.close()


def double(number: int) -> int:
    return 2 * number


def test_thirty_ask_at_once_and_none_waits_for_the_start(slow: Inspector, gate: Gate) -> None:
    asked: list[Future[int]] = together(30, lambda at: slow.submit(double, at % 5))
    assert not any(future.done() for future in asked)
    assert len({id(future) for future in asked}) == 5, "equal questions share one answer"
    gate.open.set()
    assert [future.result(SOON) for future in asked] == [2 * (at % 5) for at in range(30)]
    assert gate.started == 1


def test_closed_while_it_starts(slow: Inspector, gate: Gate) -> None:
    asked = [slow.submit(double, at) for at in range(3)]
    slow.close()
    for future in asked:
        with pytest.raises(RunError, match="closing"):
            future.result(0)
    again = slow.submit(double, 2)  # of which nothing is kept
    assert again is not asked[2]
    gate.open.set()
    assert again.result(SOON) == 4
    for thread in threading.enumerate():
        if thread.name == "late-pool":
            thread.join(SOON)
            assert not thread.is_alive()
    slow.close()
    assert len(gate.processes) == 2
    for process in gate.processes:
        process.join(SOON)
        assert not process.is_alive()


def test_forgotten_while_it_starts(slow: Inspector, gate: Gate) -> None:
    before = slow.submit(double, 1)
    slow.forget()
    after = slow.submit(double, 1)
    assert after is not before
    gate.open.set()
    assert before.result(SOON) == after.result(SOON) == 2
    assert slow.submit(double, 1).result(0) == 2  # nobody is asked again


def test_a_process_that_cannot_start_is_an_error_for_all_and_may_start_later(
    slow: Inspector, gate: Gate
) -> None:
    gate.error = OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
    asked = together(8, lambda at: slow.submit(double, at))
    gate.open.set()
    for future in asked:
        with pytest.raises(RunError, match="Resource temp"):
            future.result(SOON)
    gate.error = None
    assert slow.ask(double, 8) == 16


def test_one_that_dies_with_its_first_question_is_replaced(slow: Inspector, gate: Gate) -> None:
    lost = [slow.submit(die, code) for code in (1, 2)]
    gate.open.set()
    for future in lost:
        with pytest.raises(RunError, match="try again"):
            future.result(SOON)
    assert slow.ask(double, 7) == 14


def test_every_question_of_a_pool_hears_that_no_process_starts(gate: Gate) -> None:
    members = [Inspector(), Inspector()]
    both = Pool(members)
    gate.error = OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
    asked = [both.submit(0, double, at) for at in range(60)]
    gate.open.set()
    for future in asked:
        with pytest.raises(RunError, match="No process"):
            future.result(SOON)
    gate.error = None
    assert both.submit(0, double, 60).result(SOON) == 120
    for member in members:
        member.close()


def test_every_question_of_a_pool_hears_that_no_thread_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", full)
    alone = Pool([Inspector()])
    asked = [alone.submit(0, double, at) for at in range(60)]
    assert all("new thread" in str(future.exception(0)) for future in asked)
