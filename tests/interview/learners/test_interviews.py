"""Interviews and cards: answers are reviews, and what was had or is known does not come again while there is other."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from peft_lab.interview.bank import get_question
from peft_lab.interview.learners.schedule import LATELY, Learners, count_as_reviews, rating_of, to_avoid
from peft_lab.interview.learners.storage import RatingName, Review
from peft_lab.interview.mock import all_roles, begin, get_role, make_plan

NOW = datetime(2026, 3, 2, 9, tzinfo=UTC)


@pytest.mark.parametrize(
    ("points", "rating"), [(1.0, "good"), (2 / 3, "hard"), (0.5, "hard"), (1 / 3, "again"), (0.0, "again")]
)
def test_points_are_a_rating(points: float, rating: RatingName) -> None:
    assert rating_of(points) == rating
    assert rating_of(sum([1 / 3] * 3)) == "good", "all of three points"


def test_answers_are_reviews_and_what_did_not_come_up_is_none(tmp_path: Path) -> None:
    file = Learners(tmp_path / "learners.db", lambda: NOW)
    file.create("Ada")
    plan = make_plan(1)
    held = begin(plan, NOW)
    for points in (1.0, 0.5, 0.0):
        held = held.answer("x", points, (held.asked or NOW) + timedelta(seconds=20))
    count_as_reviews(file, "Ada", held)
    assert [(each.question, each.rating, each.milliseconds) for each in file.reviews("Ada")] == [
        (name, rating, 20_000)
        for name, rating in zip(plan.questions, ("good", "hard", "again"), strict=False)
    ]
    assert set(file.cards("Ada")) == set(plan.questions[:3])


def test_what_was_had_or_is_known_lately_is_avoided() -> None:
    held = begin(make_plan(1), NOW)
    at = {"a": NOW - timedelta(days=1), "old": NOW - LATELY - timedelta(hours=1)}
    reviews = [
        Review(name, "good", when, None) for name, when in sorted(at.items(), key=lambda each: each[1])
    ]
    reviews += [Review("lapsed", "easy", NOW, None), Review("lapsed", "again", NOW, None)]
    assert to_avoid([held], reviews, NOW) == {*held.plan.questions, "a"}
    assert to_avoid([], [], NOW) == set()


@pytest.mark.parametrize("name", all_roles())
def test_three_interviews_of_a_role_have_no_question_twice(name: str) -> None:
    """Of the learner's hour: interviews for an ML engineer with seeds 1, 2 and 3 repeated three questions."""
    had: list[str] = []
    levels = []
    for seed in (1, 2, 3):
        earlier = [begin(make_plan(seed, about=get_role(name).topics, avoid=had), NOW)]
        had += earlier[0].plan.questions
        levels.append([get_question(each).level for each in earlier[0].plan.questions])
    assert len(set(had)) == len(had) == 30
    assert levels[0] == levels[1] == levels[2]
