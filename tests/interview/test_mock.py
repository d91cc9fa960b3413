"""The mock interview: mix, time, replies, report, transcript."""

from __future__ import annotations

import json
import re
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peft_lab.core.errors import BadInput, UnknownName
from peft_lab.interview.bank import all_questions, get_question
from peft_lab.interview.mock import (
    LENGTHS,
    MOST,
    SECONDS,
    Interview,
    InterviewPlan,
    all_roles,
    begin,
    get_role,
    look_next,
    make_plan,
    pages_on,
    report,
    ticked_points,
    transcript,
)
from peft_lab.interview.question import LEVELS, topics

NOON = datetime(2025, 3, 3, 12, 0, tzinfo=UTC)


def test_ten_questions_in_the_usual_mix() -> None:
    for seed in range(20):
        plan = make_plan(seed)
        questions = [get_question(name) for name in plan.questions]
        assert len(set(plan.questions)) == 10
        assert Counter(question.level for question in questions) == {"basic": 3, "medium": 4, "hard": 3}
        assert max(Counter(question.topic for question in questions).values()) == 1, "ten topics of thirteen"
        kinds = Counter(question.kind for question in questions)
        assert kinds["numeric"] >= 3
        assert kinds["free"] >= 3
        order = [LEVELS.index(question.level) for question in questions]
        assert order == sorted(order)
        assert plan.seconds == 3 * SECONDS["basic"] + 4 * SECONDS["medium"] + 3 * SECONDS["hard"]


def test_seeds() -> None:
    assert make_plan(7) == make_plan(7)
    assert len({make_plan(seed).questions for seed in range(10)}) == 10
    first = make_plan(1)
    again = make_plan(1, avoid=first.questions)
    assert not set(first.questions) & set(again.questions)


@given(st.integers(0, 10**6), st.integers(1, 40), st.sets(st.sampled_from(sorted(topics())), max_size=4))
def test_any_plan_is_made_of_its_topics(seed: int, size: int, about: set[str]) -> None:
    room = sum(q.needs == "shape" for q in all_questions().values() if not about or q.topic in about)
    if size > room:
        with pytest.raises(BadInput, match="Ask for 1 to"):
            make_plan(seed, size, about)
        return
    plan = make_plan(seed, size, about)
    assert len(set(plan.questions)) == size
    assert {get_question(name).topic for name in plan.questions} <= (about or set(topics()))


def test_unknown_topics_and_sizes() -> None:
    with pytest.raises(UnknownName):
        make_plan(0, about=["lorra"])
    with pytest.raises(BadInput):
        make_plan(0, size=0)


def test_time() -> None:
    interview = begin(make_plan(0, size=2), NOON)
    total = interview.plan.seconds
    assert interview.left(NOON) == total
    interview = interview.answer("first", 1.0, NOON + timedelta(seconds=40))
    assert not interview.over(NOON + timedelta(seconds=total - 1))
    late = NOON + timedelta(seconds=total + 5)
    assert interview.over(late)
    assert interview.left(late) == 0
    interview = interview.answer("second", 1.0, late)
    assert [reply.points for reply in interview.replies] == [1.0, 0.0], "too late counts nothing"
    assert [reply.seconds for reply in interview.replies] == [40, total + 5 - 40]
    assert interview.current is None
    assert interview.over(NOON)
    with pytest.raises(BadInput, match="no more questions"):
        interview.answer("third", 1.0, NOON)


def test_points_are_between_zero_and_one() -> None:
    interview = begin(make_plan(0), NOON)
    for points in (-0.1, 1.1):
        with pytest.raises(BadInput, match="from 0 to 1"):
            interview.answer("", points, NOON)
    question = get_question("lora-why-b-zero")
    assert ticked_points(question, []) == 0
    assert ticked_points(question, range(len(question.listen_for))) == 1
    assert ticked_points(question, [0, 0]) == 1 / len(question.listen_for)
    with pytest.raises(BadInput, match="points to tick"):
        ticked_points(question, [99])


def test_an_interview_survives_a_reload() -> None:
    interview = begin(make_plan(5), NOON)
    for step in range(4):
        interview = interview.answer(
            f"answer {step}", step / 4, NOON + timedelta(seconds=30 * (step + 1)), "α/r"
        )
        assert Interview.from_dict(json.loads(json.dumps(interview.to_dict()))) == interview
    for broken in (
        {},
        {"plan": 3},
        {**interview.to_dict(), "started": "soon"},
        {**interview.to_dict(), "replies": [{}]},
    ):
        with pytest.raises(BadInput, match="not an interview"):
            Interview.from_dict(broken)


def test_report_names_weak_spots_with_pages() -> None:
    plan = make_plan(11)
    interview = begin(plan, NOON)
    weak_topic = get_question(plan.questions[0]).topic
    for index, name in enumerate(plan.questions[:9]):
        points = 0.0 if get_question(name).topic == weak_topic else 1.0
        seconds = 200 if index == 4 else 10 * (index + 1)
        asked = interview.asked or NOON
        interview = interview.answer(
            "x", points, asked + timedelta(seconds=seconds), "GQA" if points == 0 else ""
        )
    found = report(interview)
    last = get_question(plan.questions[9]).topic
    assert found.total.questions == 10
    assert found.total.points == 8
    assert set(found.weak) == {weak_topic, last}
    assert found.forgotten == ("GQA",)
    assert found.seconds == sum(reply.seconds for reply in interview.replies)
    assert pages_on(weak_topic)
    assert sum(tally.questions for tally in found.levels.values()) == 10


@pytest.mark.parametrize("name", all_roles())
@pytest.mark.parametrize("length", LENGTHS)
def test_every_role_and_length_makes_an_interview(name: str, length: str) -> None:
    about = get_role(name).topics
    assert set(about) <= set(topics())
    plan = make_plan(3, LENGTHS[length], about)
    assert len(plan.questions) == LENGTHS[length]
    assert {get_question(each).topic for each in plan.questions} <= set(about or topics())


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
    assert [interview.answered[name].points for name in ahead] == [0, 0, 0, 0.25, 0.5]
    assert len(ahead) == MOST
    assert list(ahead.values())[-1] == ("You forgot a factor.",)
    assert all(ahead.values())


def test_only_points_that_were_not_ticked_are_to_be_looked_at() -> None:
    first = get_question("lora-why-b-zero")
    plan = InterviewPlan(0, (first.id,))
    said = first.explain(None)  # says every point, and only the ticks count
    ticked = [first.listen_for[1]]
    interview = begin(plan, NOON).answer(said, ticked_points(first, [1]), NOON, ticked=ticked)
    (why,) = look_next(interview).values()
    assert why == (first.listen_for[0], *first.listen_for[2:])
    stored = json.loads(json.dumps(interview.to_dict()))
    assert Interview.from_dict(stored) == interview
    stored["replies"][0]["ticked"] = [1]  # an older version kept positions, and the points have changed since
    (why,) = look_next(Interview.from_dict(stored)).values()
    assert why == first.listen_for


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
