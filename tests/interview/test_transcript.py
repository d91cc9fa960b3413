"""Roles, lengths, and what an interview leaves behind."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta

import pytest

from peft_lab.core.errors import UnknownName
from peft_lab.interview.bank import get_question
from peft_lab.interview.computed import wilson
from peft_lab.interview.mock import (
    LENGTHS,
    MOST,
    Interview,
    InterviewPlan,
    all_roles,
    begin,
    get_role,
    look_next,
    make_plan,
    role_size,
    strengths,
    ticked_points,
    transcript,
)
from peft_lab.interview.question import topics

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)


@pytest.mark.parametrize("name", all_roles())
@pytest.mark.parametrize("length", LENGTHS)
def test_every_role_and_length_makes_an_interview(name: str, length: str) -> None:
    about = get_role(name).topics
    assert set(about) <= set(topics())
    plan = make_plan(3, role_size(length), about)
    assert len(plan.questions) == LENGTHS[length]
    assert {get_question(each).topic for each in plan.questions} <= set(about or topics())


def test_an_unknown_role_or_length_is_told() -> None:
    with pytest.raises(UnknownName, match="engineer"):
        get_role("enginer")
    with pytest.raises(UnknownName, match="long"):
        role_size("lng")


def test_five_things_come_next_worst_first() -> None:
    interview = begin(make_plan(5), NOON)
    given = (1.0, 0.5, 0.0, 1.0, 0.25, 0.5, 0.0, 0.75, 1.0)
    for number, points in enumerate(given):
        name = interview.current
        assert name is not None
        text = "1" if get_question(name).kind == "choice" else "x"
        interview = interview.answer(
            text, points, NOON + timedelta(seconds=number), "a factor" if points == 0.5 else ""
        )
    ahead = look_next(interview)
    assert [each.points for each in ahead] == [0, 0, 0, 0.25, 0.5]
    assert len(ahead) == MOST
    assert ahead[-1].why == ("You forgot a factor.",)
    assert all(each.why for each in ahead)
    assert strengths(interview) == (), "one question of a topic is no strength"


def test_a_strength_needs_two_questions_and_shows_its_interval() -> None:
    plan = make_plan(3, 15, ("serving", "memory"))
    interview = begin(plan, NOON)
    for name in plan.questions:
        interview = interview.answer("1", float(get_question(name).topic == "serving"), NOON)
    assert strengths(interview) == ("serving",)
    number = sum(get_question(name).topic == "serving" for name in plan.questions)
    low, _ = wilson(number, number)
    said = f"{topics()['serving']} ({number} of {number}, 95% interval {low:.0%} to 100%)"
    assert said in transcript(interview)
    low, high = wilson(number, 15)
    assert f"{number} of 15 points (95% interval {low:.0%} to {high:.0%})" in transcript(interview)


def test_only_points_that_were_not_ticked_are_to_be_looked_at() -> None:
    first = get_question("lora-why-b-zero")
    plan = InterviewPlan(0, (first.id,))
    said = first.explain(None)  # says every point, and only the ticks count
    ticked = [first.listen_for[1]]
    interview = begin(plan, NOON).answer(said, ticked_points(first, [1]), NOON, ticked=ticked)
    (ahead,) = look_next(interview)
    assert ahead.why == (first.listen_for[0], *first.listen_for[2:])
    stored = json.loads(json.dumps(interview.to_dict()))
    assert Interview.from_dict(stored) == interview
    stored["replies"][0]["ticked"] = [1]  # an older version kept positions, and the points have changed since
    (ahead,) = look_next(Interview.from_dict(stored))
    assert ahead.why == first.listen_for


def test_the_transcript_needs_no_other_file_and_trusts_nothing_typed() -> None:
    interview = begin(make_plan(5), NOON)
    for number, name in enumerate(interview.plan.questions):
        text = "1" if get_question(name).kind == "choice" else "<script>&"
        interview = interview.answer(text, 0.5, NOON + timedelta(seconds=number))
    page = transcript(interview)
    assert "<script" not in page
    assert "&lt;script&gt;&amp;" in page
    assert not re.search(r"\bsrc=|\bhref=|url\(|@import", page)
    assert "@media print" in page
    assert page.count("<section>") == 10
    assert page.count("Model answer.") == 10
    assert "\\(" not in page
