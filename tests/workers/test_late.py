"""Nobody waits for a process to start, and every question gets an answer or an error, whenever what happens."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import pytest

from peft_lab.workers.inspector import LatePool, NotStarted

SOON = 30  # seconds, of a busy machine


def double(number: int) -> int:
    return 2 * number


def fail(number: int) -> int:
    raise ZeroDivisionError(number)


class Starting:
    """A start that the test lets go on, and what it made."""

    def __init__(self) -> None:
        self.go_on = threading.Event()
        self.made: list[ThreadPoolExecutor] = []
        self.attempts = 0
        self.errors: list[Exception] = []

    def __call__(self) -> Executor:
        self.attempts += 1
        assert self.go_on.wait(SOON)
        if self.errors:
            raise self.errors.pop(0)
        self.made.append(ThreadPoolExecutor(1))
        return self.made[-1]


@pytest.fixture
def starting() -> Iterator[Starting]:
    made = Starting()
    yield made
    made.go_on.set()
    _until_nothing_starts()
    for pool in made.made:
        pool.shutdown(wait=False, cancel_futures=True)


def _until_nothing_starts() -> None:
    for thread in threading.enumerate():
        if thread.name == "late-pool":
            thread.join(SOON)
            assert not thread.is_alive()


def together(number: int, do: Callable[[int], Any]) -> list[Any]:
    """What so many threads get that do it at the same moment."""
    ready, done = threading.Barrier(number), [None] * number

    def work(at: int) -> None:
        ready.wait(SOON)
        done[at] = do(at)

    threads = [threading.Thread(target=work, args=(at,)) for at in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SOON)
        assert not thread.is_alive(), "it waits for the start"
    return done


def test_many_ask_while_it_starts_and_none_waits(starting: Starting) -> None:
    late = LatePool(starting)
    asked: list[Future[int]] = together(30, lambda at: late.submit(double, at))
    assert not any(future.done() for future in asked)
    starting.go_on.set()
    assert [future.result(SOON) for future in asked] == [2 * at for at in range(30)]
    assert late.submit(double, 50).result(SOON) == 100
    assert starting.attempts == 1


def test_questions_keep_their_order_and_their_errors(starting: Starting) -> None:
    late, seen = LatePool(starting), list[int]()
    asked = [late.submit(seen.append, at) for at in range(20)]
    wrong = late.submit(fail, 3)
    starting.go_on.set()
    assert isinstance(wrong.exception(SOON), ZeroDivisionError)
    assert all(future.done() for future in asked) and seen == list(range(20))


def test_closing_while_it_starts_ends_what_was_started(starting: Starting) -> None:
    late = LatePool(starting)
    asked = late.submit(double, 1)
    late.close()
    assert asked.cancelled() and late.submit(double, 2).cancelled()
    starting.go_on.set()
    _until_nothing_starts()
    with pytest.raises(RuntimeError, match="after shutdown"):
        starting.made[0].submit(double, 3)


def test_closing_at_any_moment_leaves_no_question_open(starting: Starting) -> None:
    starting.go_on.set()
    for _ in range(50):
        late = LatePool(starting)

        def act(at: int, late: LatePool = late) -> Future[int] | None:
            if at == 3:
                late.close()
                return None
            try:
                return late.submit(double, at)
            except BrokenProcessPool:
                return None

        for future in together(6, act):
            if future is not None:
                assert future.cancelled() or future.exception(SOON) or future.result(0) % 2 == 0
    _until_nothing_starts()


def test_all_who_asked_hear_why_it_cannot_start(starting: Starting) -> None:
    starting.errors = [OSError(errno.EAGAIN, "Resource temporarily unavailable")]
    late = LatePool(starting)
    asked = together(10, lambda at: late.submit(double, at))
    starting.go_on.set()
    for future in (*asked, late.submit(double, 1)):
        error = future.exception(SOON)
        assert isinstance(error, NotStarted) and str(error) == "Resource temporarily unavailable"
    assert starting.attempts == 1


@pytest.mark.parametrize(("losses", "starts"), [(1, True), (2, False)])
def test_a_start_whose_fork_server_is_lost_is_tried_once_more(
    starting: Starting, losses: int, starts: bool
) -> None:
    starting.errors = [EOFError(), ConnectionResetError()][:losses]
    late = LatePool(starting)
    asked = late.submit(double, 4)
    starting.go_on.set()
    if starts:
        assert asked.result(SOON) == 8
    else:
        assert isinstance(asked.exception(SOON), NotStarted)
    assert starting.attempts == 2


def test_no_thread_can_be_made(starting: Starting, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", full)
    error = LatePool(starting).submit(double, 1).exception(0)
    assert isinstance(error, NotStarted) and "new thread" in str(error)


class Lost(Executor):
    """A pool that takes some questions and is then found to be broken, or closed with the app."""

    def __init__(self, takes: int, error: type[RuntimeError]) -> None:
        self._takes, self._error = takes, error

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        if not self._takes:
            raise self._error("no more")
        self._takes -= 1
        answer: Future[Any] = Future()
        answer.set_result(function(*args, **kwargs))
        return answer


def test_a_process_that_is_lost_while_it_takes_its_questions_loses_those_behind() -> None:
    gate = threading.Event()

    def start() -> Executor:
        gate.wait(SOON)
        return Lost(2, BrokenProcessPool)

    late = LatePool(start)
    asked = [late.submit(double, at) for at in range(4)]
    gate.set()
    assert [future.result(SOON) for future in asked[:2]] == [0, 2]
    assert all(isinstance(future.exception(SOON), BrokenProcessPool) for future in asked[2:])
    with pytest.raises(BrokenProcessPool):
        late.submit(double, 5)


def test_questions_asked_while_the_app_closes_are_refused() -> None:
    gate = threading.Event()

    def start() -> Executor:
        gate.wait(SOON)
        return Lost(0, RuntimeError)

    late = LatePool(start)
    waiting = late.submit(double, 1)
    gate.set()
    assert isinstance(waiting.exception(SOON), NotStarted)
    assert isinstance(late.submit(double, 2).exception(SOON), NotStarted)
