"""The pool: equal questions are joined, the newest urgent one goes first, a lost process costs only its question."""

from __future__ import annotations

import queue
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any

import pytest

from peft_lab.core import inspector
from peft_lab.core.errors import RunError, Unsupported
from peft_lab.core.inspector import Pool
from tests.waits import SECONDS


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


def test_old_answers_are_dropped(desk: Desk) -> None:
    alone = Pool(1, kept=1)
    first = alone.submit(0, double, 1)
    desk.give(2)
    assert told(first) == told(alone.submit(0, double, 1)) == 2 and desk.asked == [1]
    other = alone.submit(0, double, 2)
    desk.give(4)
    assert told(other) == 4 and not alone.submit(0, double, 1).done()
    desk.give(2)


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


def test_real_processes_answer() -> None:
    both = Pool(2)
    try:
        assert [both.submit(0, double, number).result(SECONDS) for number in range(5)] == [0, 2, 4, 6, 8]
    finally:
        both.close()
