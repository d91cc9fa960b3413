"""Processes that answer: equal questions are joined, and no start, loss or end leaves a question open."""

from __future__ import annotations

import errno
import importlib.util
import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import pytest

from peft_lab.core import asking, disk, inspector, processes
from peft_lab.core.errors import BadInput, PeftLabError, RunError, UnknownName, Unsupported
from peft_lab.core.inspector import Inspector, Pool, question_key
from peft_lab.methods.counting.count import count
from tests.waits import SECONDS


def process_id() -> int:
    return os.getpid()


def main_file() -> str | None:
    return getattr(sys.modules["__main__"], "__file__", None)


def note(path: str) -> int:
    with Path(path).open("a") as file:
        file.write("x")
    return Path(path).stat().st_size


def die(code: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def refuse(kind: str) -> None:
    raise {
        "unknown": UnknownName("method", "laura", ["lora"], "method"),
        "bad": BadInput("Rank must be from 1.", "r"),
        "bug": ZeroDivisionError("a bug"),
    }[kind]


@pytest.fixture(scope="module")
def asked(session_home: Path) -> Iterator[Inspector]:
    made = Inspector()
    yield made
    made.close()


def test_answers_come_from_another_process(asked: Inspector) -> None:
    assert asked.ask(process_id) != os.getpid()
    assert asked.ask(disk.home) == disk.home()


def test_the_child_does_not_take_over_the_parents_main(
    asked: Inspector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever that is here: a worker of the test runner has a module without a file there."""
    script = tmp_path / "parent.py"
    script.write_text("raise RuntimeError('the script was run again')")
    monkeypatch.setattr(sys.modules["__main__"], "__file__", str(script), raising=False)
    assert asked.ask(main_file) != str(script)


def test_a_process_of_a_class_answers_nobody_else(asked: Inspector) -> None:
    """Nor does one of nobody's a class."""
    without, known = asked.ask(asking.class_is_on), asked.ask(process_id)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(asking.CLASS_VARIABLE, "blue-whale")
        within, other = asked.ask(asking.class_is_on), asked.ask(process_id)
        assert asked.ask(process_id) == other
    assert (without, within, asked.ask(asking.class_is_on)) == (False, True, False)
    assert len({known, other, asked.ask(process_id)}) == 3


def test_who_asks_in_another_lab_folder_is_answered_from_there(asked: Inspector, tmp_path: Path) -> None:
    before = asked.ask(disk.home)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PEFT_LAB_HOME", str(tmp_path))
        assert asked.ask(disk.home) == tmp_path != before
    assert asked.ask(disk.home) == before


def test_equal_questions_are_asked_once(asked: Inspector, tmp_path: Path) -> None:
    path = str(tmp_path / "marks")
    first, second = asked.submit(note, path), asked.submit(note, path)
    assert first is second
    assert first.result() == asked.ask(note, path) == 1
    asked.forget()
    assert asked.ask(note, path) == 2


def test_errors_come_back_as_themselves(asked: Inspector) -> None:
    with pytest.raises(UnknownName, match="lora") as unknown:
        asked.ask(refuse, "unknown")
    assert unknown.value.field == "method"
    with pytest.raises(BadInput, match="from 1") as bad:
        asked.ask(refuse, "bad")
    assert bad.value.field == "r"
    with pytest.raises(BadInput):
        asked.ask(count, "gpt2", "lora", {"r": 0})
    with pytest.raises(ZeroDivisionError):
        asked.ask(refuse, "bug")


def test_a_dead_worker_fails_its_question_and_no_other(asked: Inspector) -> None:
    before = asked.ask(process_id)
    with pytest.raises(RunError, match="try again"):
        asked.ask(die, 1)
    asked.forget()
    assert asked.ask(process_id) != before


def test_questions_are_compared_by_value() -> None:
    assert question_key(count, ("a",), {"x": 1, "y": (2,)}) == question_key(count, ("a",), {"y": [2], "x": 1})
    assert question_key(count, ("a",), {}) != question_key(process_id, ("a",), {})
    with pytest.raises(TypeError):
        question_key(count, (object(),), {})
    lengths = tuple(range(1, 100_000))
    key = question_key(count, (lengths, 512), {})
    assert len(key) < 200 and key == question_key(count, (list(lengths), 512), {})
    assert key not in (
        question_key(count, ((*lengths[:-1], 1), 512), {}),
        question_key(count, (lengths, 511), {}),
    )


def test_errors_survive_pickling() -> None:
    for error in (UnknownName("a", "b", ["c"], "f"), BadInput("x", "f"), RunError("y"), PeftLabError("z")):
        back = pickle.loads(pickle.dumps(error))
        assert type(back) is type(error) and str(back) == str(error) and back.__dict__ == error.__dict__


_ASKS = """
from peft_lab.core import inspector
from tests.core.asking_another import there
print(*inspector.ask(there))
"""


@pytest.mark.further
@pytest.mark.slow
def test_a_worker_that_asked_another_ends_with_its_app_and_so_does_the_other() -> None:
    """They waited for each other for ever, and a server that was asked to end never did."""
    done = subprocess.run(
        [sys.executable, "-c", _ASKS], capture_output=True, text=True, check=True, timeout=SECONDS
    )
    first, second = map(int, done.stdout.split())
    assert first != second
    until = time.monotonic() + 30
    while any(Path(f"/proc/{one}").exists() for one in (first, second)) and time.monotonic() < until:
        time.sleep(0.2)
    assert not any(Path(f"/proc/{one}").exists() for one in (first, second))


# -- What the fork server has done once is there in its children, and what it is told to import exists.


def made_before() -> bool:
    """Whether this process has the table of parameters' names without having asked for it."""
    from transformers import conversion_mapping

    return conversion_mapping._checkpoint_conversion_mapping_cache is not None


@pytest.mark.parametrize("name", processes.PRELOADED)
def test_what_is_imported_ahead_exists(name: str) -> None:
    assert importlib.util.find_spec(name) is not None  # the fork server says nothing of what it does not find


@pytest.mark.skipif(sys.platform != "linux", reason="children are spawned there, and have nothing done ahead")
def test_children_have_the_table_of_names(asked: Inspector) -> None:
    assert asked.ask(made_before)


# -- The pool: equal questions are joined, the newest urgent one goes first, a lost process costs only its question


class Desk(Executor):
    """Every process at once: the test takes what it is asked and gives the answers."""

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self._open: queue.Queue[Future[Any]] = queue.Queue()

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        answer: Future[Any] = Future()
        self.asked.append(args[0])
        self._open.put(answer)
        return answer

    def give(self, answer: Any, times: int = 1) -> None:
        """Answer the question that waits longest, or so many of them; an error is raised."""
        for _ in range(times):
            asked = self._open.get(timeout=SECONDS)
            asked.set_exception(answer) if isinstance(answer, Exception) else asked.set_result(answer)


@pytest.fixture
def desk(monkeypatch: pytest.MonkeyPatch) -> Desk:
    made = Desk()
    monkeypatch.setattr(inspector, "_started", lambda *_: made)
    return made


def double(number: int) -> int:
    return 2 * number


def told(answer: Future[Any]) -> Any:
    return answer.result(SECONDS)


def test_members_work_side_by_side_and_equal_questions_are_joined(desk: Desk) -> None:
    both = Pool(2)
    answers = [both.submit(0, double, number) for number in (1, 1, 2)]
    assert answers[0] is answers[1] is not answers[2]
    first, second = (desk._open.get(timeout=SECONDS) for _ in range(2))
    assert sorted(desk.asked) == [1, 2], "none waits for the other"
    first.set_result(2 * desk.asked[0])
    second.set_result(2 * desk.asked[1])
    assert [told(answer) for answer in answers] == [2, 2, 4]
    assert told(both.submit(1, double, 2)) == 4 and sorted(desk.asked) == [1, 2]


def test_urgent_questions_first_then_the_newest(desk: Desk) -> None:
    alone = Pool(1)
    answers = [alone.submit(0, double, 0)]
    answers += [alone.submit(urgency, double, at) for urgency, at in ((1, 10), (0, 1), (1, 11), (0, 2))]
    alone.submit(0, double, 1)  # asked again: it matters now
    desk.give(0, times=5)
    assert all(told(answer) == 0 for answer in answers)
    assert desk.asked == [0, 1, 2, 11, 10]


def test_refusals_are_kept_and_losses_are_told_for_a_while(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page asks again when an answer has come: what fails each time would be begun at each of its looks."""
    alone = Pool(1)
    refused = alone.submit(0, double, 1)
    desk.give(Unsupported("no"))
    assert isinstance(refused.exception(SECONDS), Unsupported) and alone.submit(0, double, 1) is refused
    lost = alone.submit(0, double, 2)
    desk.give(RunError("gone"))
    assert isinstance(lost.exception(SECONDS), RunError)
    with pytest.raises(RunError, match="gone"):
        told(alone.submit(0, double, 2))
    assert desk.asked == [1, 2], "a page that looks again is told what happened"
    monkeypatch.setattr(inspector, "TOLD_FOR", 0)
    lost = alone.submit(0, double, 3)
    desk.give(RunError("gone"))
    assert isinstance(lost.exception(SECONDS), RunError)
    again = alone.submit(0, double, 3)
    desk.give(6)
    assert told(again) == 6, "it may have been mended"
    assert desk.asked == [1, 2, 3, 3]


def test_far_too_many_questions_are_cut_and_may_come_again(desk: Desk) -> None:
    alone = Pool(1, waiting=2)
    alone.submit(0, double, 0)
    oldest, *_ = [alone.submit(0, double, number) for number in (1, 2, 3)]
    assert oldest.cancelled()
    again = alone.submit(0, double, 1)
    assert again is not oldest and not again.done()
    desk.give(7, times=3)
    assert told(again) == 7
    assert desk.asked[:2] == [0, 1]


def test_answers_are_dropped_by_what_they_weigh(desk: Desk) -> None:
    alone = Pool(1, kept_bytes=2500)
    for number in range(3):
        asked = alone.submit(0, double, number)
        desk.give(bytes(1000))
        told(asked)
    assert all(alone.submit(0, double, number).done() for number in (2, 1)), "two weigh less than that"
    again = alone.submit(0, double, 0)
    assert not again.done()
    desk.give(b"")
    assert told(again) == b"" and len(desk.asked) == 4
    assert alone.submit(0, double, 1).done(), "a small one drove nothing out"


def test_who_asks_again_gets_an_answer_of_their_own(desk: Desk) -> None:
    """It is kept as it was sent, which takes a ninth of the memory."""
    alone = Pool(1)
    asked = alone.submit(0, double, 1)
    desk.give({"figures": [1, 2]})
    told(asked)
    first, second = (told(alone.submit(0, double, 1)) for _ in range(2))
    assert first == second == {"figures": [1, 2]} and first is not second
    assert [type(kept) for kept in alone._answers.values()] == [bytes]


# -- An inspector whose process is still on its way: who asks, closes or forgets meanwhile.

THREADS = 2  # of no other inspector here: whose start it was


def together(number: int, do: Callable[[int], Any]) -> list[Any]:
    """What so many threads get that do it at the same moment."""
    ready, done = threading.Barrier(number), [None] * number

    def work(at: int) -> None:
        ready.wait(SECONDS)
        done[at] = do(at)

    threads = [threading.Thread(target=work, args=(at,)) for at in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS)
        assert not thread.is_alive(), "it waits for the start"
    return done


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
        assert self.open.wait(SECONDS)
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


def test_thirty_ask_at_once_and_none_waits_for_the_start(slow: Inspector, gate: Gate) -> None:
    asked: list[Future[int]] = together(30, lambda at: slow.submit(double, at % 5))
    assert not any(future.done() for future in asked)
    assert len({id(future) for future in asked}) == 5, "equal questions share one answer"
    gate.open.set()
    assert [future.result(SECONDS) for future in asked] == [2 * (at % 5) for at in range(30)]
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
    assert again.result(SECONDS) == 4
    for thread in threading.enumerate():
        if thread.name == "workers":
            thread.join(SECONDS)
            assert not thread.is_alive()
    slow.close()
    assert len(gate.processes) == 2
    for process in gate.processes:
        process.join(SECONDS)
        assert not process.is_alive()


def test_a_process_that_cannot_start_is_an_error_for_all_and_may_start_later(
    slow: Inspector, gate: Gate
) -> None:
    gate.error = OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
    asked = together(8, lambda at: slow.submit(double, at))
    gate.open.set()
    for future in asked:
        with pytest.raises(RunError, match="Resource temp"):
            future.result(SECONDS)
    gate.error = None
    assert slow.ask(double, 8) == 16


def test_every_question_of_a_pool_hears_that_no_thread_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", full)
    alone = Pool(1)
    asked = [alone.submit(0, double, at) for at in range(60)]
    assert all("can't start new thread" in str(future.exception(0)) for future in asked)


class Here(Executor):
    """A process that answers at once, here, until it is lost or closed with the app."""

    def __init__(self, takes: int = 1000, error: type[RuntimeError] = BrokenProcessPool) -> None:
        self._takes, self._error = takes, error

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        if not self._takes:
            raise self._error("no more")
        self._takes -= 1
        answer: Future[Any] = Future()
        answer.set_result(function(*args, **kwargs))
        return answer


@pytest.mark.parametrize(("losses", "starts"), [(1, True), (2, False)])
def test_a_start_whose_fork_server_is_lost_is_tried_once_more(
    monkeypatch: pytest.MonkeyPatch, losses: int, starts: bool
) -> None:
    errors, attempts = [EOFError(), ConnectionResetError("reset")][:losses], []

    def start(*_: Any) -> Executor:
        attempts.append(1)
        if errors:
            raise errors.pop(0)
        return Here()

    monkeypatch.setattr(inspector, "_started", start)
    asked = Inspector().submit(double, 4)
    if starts:
        assert asked.result(SECONDS) == 8
    else:
        assert isinstance(asked.exception(SECONDS), RunError)
    assert len(attempts) == 2


def test_a_process_that_was_lost_since_its_last_question_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    made = [Here(takes=1), Here()]
    monkeypatch.setattr(inspector, "_started", lambda *_: made.pop(0))
    alone = Inspector()
    assert [alone.ask(double, at) for at in range(3)] == [0, 2, 4] and not made


@pytest.mark.parametrize("members", [1, 3])
def test_closing_at_any_moment_leaves_no_question_open(monkeypatch: pytest.MonkeyPatch, members: int) -> None:
    monkeypatch.setattr(inspector, "_started", lambda *_: Here())
    for _ in range(50):
        some = Pool(members)

        def act(at: int, some: Pool = some) -> list[Future[int]]:
            if at == 3:
                some.close()
                return []
            return [some.submit(0, double, 10 * at + number) for number in range(5)]

        for future in (one for answers in together(6, act) for one in answers):
            assert future.cancelled() or future.exception(SECONDS) or future.result(0) % 2 == 0
        assert not some._waiting and all(member.question is None for member in some._members)


@pytest.mark.parametrize(
    ("given", "of_class", "spins", "waits"),
    [
        ({}, False, "10000", "passive"),
        ({}, True, None, "passive"),
        ({"OMP_WAIT_POLICY": "active"}, False, None, "active"),
        ({"GOMP_SPINCOUNT": "7"}, False, "7", "passive"),
    ],
)
def test_threads_of_one_learner_spin_for_a_moment_and_those_of_a_class_sleep(
    given: dict[str, str], of_class: bool, spins: str | None, waits: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(asking, "class_is_on", lambda: of_class)
    with monkeypatch.context() as patch:
        patch.setattr(os, "environ", dict(os.environ))
        processes._prepare_environment()
        assert (os.environ.get("GOMP_SPINCOUNT"), os.environ["OMP_WAIT_POLICY"]) == (spins, waits)
