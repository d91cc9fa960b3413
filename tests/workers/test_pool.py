"""The pool: equal questions are joined, the newest urgent one goes first, a lost process costs only its question."""

from __future__ import annotations

import weakref
from concurrent.futures import Future
from typing import Any

import pytest

from peft_lab.core.errors import BadInput, RunError
from peft_lab.workers import inspector
from peft_lab.workers.inspector import Inspector
from peft_lab.workers.pool import WAITING, Pool, get_pool


class Member:
    """An inspector whose answers the test gives."""

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.open: Future[Any] = Future()

    def submit(self, function: Any, *args: Any) -> Future[Any]:
        self.asked.append(args[0])
        self.open = Future()
        return self.open


class Taken:
    """A process that answers at once."""

    def submit(self, function: Any, *args: Any) -> Future[Any]:
        answer: Future[Any] = Future()
        answer.set_result(function(*args))
        return answer

    def close(self) -> None:
        pass


def pool(*members: Member, **limits: int) -> Pool:
    return Pool(members, **limits)  # type: ignore[arg-type]


def double(number: int) -> int:
    return 2 * number


def test_members_work_side_by_side_and_equal_questions_are_joined() -> None:
    first, second = Member(), Member()
    both = pool(first, second)
    answers = [both.submit(0, double, number) for number in (1, 1, 2)]
    assert answers[0] is answers[1] is not answers[2]
    assert sorted(first.asked + second.asked) == [1, 2]
    first.open.set_result(2 * first.asked[0])
    second.open.set_result(2 * second.asked[0])
    assert [answer.result(0) for answer in answers] == [2, 2, 4]
    assert both.submit(1, double, 2).result(0) == 4 and sorted(first.asked + second.asked) == [1, 2]


def test_urgent_questions_first_then_the_newest() -> None:
    one = Member()
    alone = pool(one)
    alone.submit(0, double, 0)
    for urgency, number in ((1, 10), (0, 1), (1, 11), (0, 2)):
        alone.submit(urgency, double, number)
    alone.submit(0, double, 1)  # asked again: it matters now
    while not one.open.done():
        one.open.set_result(0)
    assert one.asked == [0, 1, 2, 11, 10]


def test_refusals_are_kept_and_losses_are_told_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page asks again when an answer has come: what fails each time would be begun at each of its looks."""
    one = Member()
    alone = pool(one)
    refused = alone.submit(0, double, 1)
    one.open.set_exception(BadInput("no"))
    assert alone.submit(0, double, 1) is refused
    lost = alone.submit(0, double, 2)
    one.open.set_exception(RunError("gone"))
    with pytest.raises(RunError):
        lost.result(0)
    with pytest.raises(RunError, match="gone"):
        alone.submit(0, double, 2).result(0)
    assert one.asked == [1, 2], "a page that looks again is told what happened"
    monkeypatch.setattr(inspector, "TOLD_FOR", 0)
    alone.submit(0, double, 3)
    one.open.set_exception(RunError("gone"))
    assert not alone.submit(0, double, 3).done(), "it may have been mended"
    assert one.asked == [1, 2, 3, 3]


def test_far_too_many_questions_are_cut_and_may_come_again() -> None:
    one = Member()
    alone = pool(one, waiting=2)
    alone.submit(0, double, 0)
    oldest, *_ = [alone.submit(0, double, number) for number in (1, 2, 3)]
    assert oldest.cancelled()
    again = alone.submit(0, double, 1)
    assert again is not oldest and not again.done()
    while not one.open.done():
        one.open.set_result(7)
    assert again.result(0) == 7
    assert one.asked == [0, 1, 3]


def test_old_answers_are_dropped() -> None:
    one = Member()
    alone = pool(one, kept=1)
    first = alone.submit(0, double, 1)
    one.open.set_result(2)
    assert first.done() and alone.submit(0, double, 1).result(0) == 2 and one.asked == [1]
    alone.submit(0, double, 2)
    one.open.set_result(4)
    assert not alone.submit(0, double, 1).done()


def test_answers_are_dropped_by_what_they_weigh() -> None:
    one = Member()
    alone = pool(one, kept_bytes=2500)
    for number in range(3):
        alone.submit(0, double, number)
        one.open.set_result(bytes(1000))
    assert all(alone.submit(0, double, number).done() for number in (2, 1)), "two weigh less than that"
    again = alone.submit(0, double, 0)
    assert not again.done() and len(one.asked) == 4
    one.open.set_result(b"")
    assert alone.submit(0, double, 1).done(), "a small one drove nothing out"


def _told(answer: Future[Any]) -> Any:
    return answer.result(0)


def test_who_asks_again_gets_an_answer_of_their_own() -> None:
    """It is kept as it was sent, which takes a ninth of the memory."""
    one = Member()
    alone = pool(one)
    alone.submit(0, double, 1)
    one.open.set_result({"figures": [1, 2]})
    first, second = (_told(alone.submit(0, double, 1)) for _ in range(2))
    assert first == second == {"figures": [1, 2]} and first is not second
    assert [type(kept) for kept in alone._answers.values()] == [bytes]


def test_what_the_pool_lets_go_of_stays_with_no_member() -> None:
    for member in get_pool.__wrapped__()._idle:
        member._running_pool = Taken  # type: ignore[assignment, method-assign]
        gone = weakref.ref(member.submit(double, 1))
        assert gone() is None


def test_all_that_wait_hear_of_a_member_that_takes_nothing_any_more() -> None:
    class Full(Member):
        def submit(self, function: Any, *args: Any) -> Future[Any]:
            answer = super().submit(function, *args)
            if len(self.asked) > 1:
                answer.set_exception(RunError("full"))
            return answer

    one = Full()
    alone = pool(one)
    asked = [alone.submit(0, double, number) for number in range(WAITING + 1)]
    one.open.set_result(0)
    assert asked[0].result(0) == 0
    assert all(isinstance(future.exception(0), RunError) for future in asked[1:])


def test_real_processes_answer() -> None:
    members = [Inspector(threads=1), Inspector(threads=1)]
    both = Pool(members)
    try:
        assert [both.submit(0, double, number).result(120) for number in range(5)] == [0, 2, 4, 6, 8]
    finally:
        for member in members:
            member.close()
