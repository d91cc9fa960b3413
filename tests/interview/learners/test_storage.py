"""The plan to a date: days that fill ten minutes, turns between topics, intervals only where enough is known."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from peft_lab.core.errors import BadInput
from peft_lab.interview.computed import wilson
from peft_lab.interview.learners.schedule import Learners
from peft_lab.interview.learners.storage import (
    ENOUGH,
    KEPT_DAY,
    LONGEST,
    MINUTES,
    Review,
    due_by,
    interleaved,
    readiness,
    spread,
)

NOW = datetime(2026, 3, 2, 9, tzinfo=UTC)
TOPICS = {"a": [f"a{index}" for index in range(8)], "b": [f"b{index}" for index in range(8)]}
SECONDS = dict.fromkeys([name for names in TOPICS.values() for name in names], 120.0)
EACH = int(MINUTES * 60 // 120)


@pytest.fixture
def learners(tmp_path: Path) -> Learners:
    made = Learners(tmp_path / "learners.db", lambda: NOW)
    made.create("Ada")
    return made


def test_wilson_against_published_values() -> None:
    # Newcombe 1998, Statistics in Medicine 17, 857-872, table I: 81 of 263, 15 of 148, 0 of 20, 1 of 29.
    published = (
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    )
    for known, rated, low, high in published:
        assert wilson(known, rated) == pytest.approx((low, high), abs=5e-5)


def test_nothing_is_said_of_a_topic_with_few_ratings() -> None:
    few = [Review(name, "good", NOW, None) for name in TOPICS["a"][: ENOUGH - 1]]
    many = [Review(name, "again" if name == "b0" else "good", NOW, None) for name in TOPICS["b"][:ENOUGH]]
    a, b = readiness(TOPICS, [*few, *many])
    assert (a.rated, a.known, a.low, a.high, a.enough) == (4, 4, None, None, False)
    assert (b.rated, b.known, b.enough) == (5, 4, True)
    assert (b.low, b.high) == wilson(4, 5)


def test_topics_take_turns_and_the_weak_one_goes_first() -> None:
    topic_of = {name: topic for topic, names in TOPICS.items() for name in names}
    order = interleaved(("a0", "a1", "a2", "b0", "b1"), topic_of, {"a": 0.1, "b": 0.9})
    assert order == ("b0", "a0", "b1", "a1", "a2")


def test_days_fill_ten_minutes_up_to_the_day_before(learners: Learners) -> None:
    _, days = learners.days_to("Ada", date(2026, 3, 6), TOPICS, SECONDS)
    assert [day.on for day in days] == [date(2026, 3, 2 + number) for number in range(4)]
    assert all(len(day.questions) <= EACH for day in days)
    assert len(days[0].questions) == EACH
    assert days[0].again == 0
    assert {name[0] for name in days[0].questions[:2]} == {"a", "b"}
    new = [name for day in days for name in day.questions[day.again :]]
    assert len(new) == len(set(new)), "a question is new once"


def test_what_is_due_comes_before_what_is_new(learners: Learners) -> None:
    learners.rate("Ada", "b3", "again")
    _, days = learners.days_to("Ada", date(2026, 3, 4), TOPICS, SECONDS)
    assert days[0].questions[0] == "b3"
    assert days[0].again == 1


@pytest.mark.parametrize(
    ("day", "said"),
    [(NOW.date() - timedelta(days=1), "passed"), (NOW.date() + timedelta(days=LONGEST + 1), "365")],
)
def test_a_day_that_cannot_be_planned_for(learners: Learners, day: date, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        learners.days_to("Ada", day, TOPICS, SECONDS)


def test_nothing_is_put_off_past_the_interview(learners: Learners) -> None:
    day = NOW.date() + timedelta(days=6)
    before = learners.rate("Ada", "a0", "easy").due
    assert before.date() > day, "the case that the plan has to change"
    learners.keep("Ada", KEPT_DAY, day.isoformat())
    assert {due.date() <= day for due in learners.preview("Ada", "a1").values()} == {True}
    promised = learners.preview("Ada", "a1")["easy"]
    assert learners.rate("Ada", "a1", "easy").due == promised
    assert promised.date() == day - timedelta(days=1)
    assert {card.due.date() <= day for card in learners.cards("Ada").values()} == {True}, "rated before, too"
    eve = Learners(learners.path, lambda: NOW + timedelta(days=5))
    assert eve.due("Ada", ["a0", "a1"]) == ["a0", "a1"]
    learners.keep("Ada", KEPT_DAY, None)
    assert learners.cards("Ada")["a0"].due == before, "what py-fsrs gave is kept"
    assert learners.rate("Ada", "a2", "easy").due.date() > day


@pytest.mark.parametrize(("ahead", "due_in"), [(3, 2), (1, 1), (0, 30)])
def test_due_by(ahead: int, due_in: int) -> None:
    due = NOW + timedelta(days=30)
    assert due_by(due, NOW.date() + timedelta(days=ahead), NOW).date() == NOW.date() + timedelta(days=due_in)
    assert due_by(due, None, NOW) == due
    assert due_by(NOW, NOW.date() + timedelta(days=9), NOW) == NOW


def test_new_questions_are_of_all_topics_within_days() -> None:
    """Not the first topics of the catalogue day after day."""
    many = {f"t{index:02}": [f"t{index:02}.{each}" for each in range(20)] for index in range(18)}
    order = spread(many, dict.fromkeys(many, 0.5), dict.fromkeys(many, 0))
    assert {name[:3] for name in order[:18]} == set(many)
    assert len(set(order)) == len(order) == 18 * 20


def test_new_questions_follow_the_role_and_the_weakness() -> None:
    names = {topic: [f"{topic}{index}" for index in range(30)] for topic in "abc"}
    order = spread(names, {"a": 3.0, "b": 1.0, "c": 2.0}, {"a": 0, "b": 0, "c": 0})
    assert [sum(name[0] == topic for name in order[:12]) for topic in "abc"] == [6, 2, 4]
    caught_up = spread(names, dict.fromkeys("abc", 1.0), {"a": 4, "b": 0, "c": 0})
    assert "a0" not in caught_up[:8], "topics that were had less come first"


def test_new_questions_come_although_much_is_due(learners: Learners) -> None:
    for name in TOPICS["a"]:
        learners.rate("Ada", name, "again")
    later = Learners(learners.path, lambda: NOW + timedelta(days=1))
    _, days = later.days_to("Ada", NOW.date() + timedelta(days=4), TOPICS, SECONDS)
    assert [len(day.questions) - day.again for day in days[:2]] == [2, 2]
    assert days[-1].again == EACH, "the last day is for what is known, and was due"
