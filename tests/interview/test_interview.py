"""The mock interview: mix, time, replies, report."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peft_lab.core.errors import BadInput, UnknownName
from peft_lab.interview.answers import judge
from peft_lab.interview.bank import all_questions, get_question
from peft_lab.interview.mock import SECONDS, Interview, begin, make_plan, report, ticked_points
from peft_lab.interview.question import LEVELS, common_topics, topics

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


def test_the_model_is_used_where_it_fits() -> None:
    plan = make_plan(3, model="gpt2")
    for name in plan.questions:
        question, model = get_question(name), plan.model_for(name)
        assert model in (None, "gpt2")
        assert (model == "gpt2") == ("gpt2" in question.models())
        assert question.ask(model)
    assert make_plan(3).model_for(plan.questions[0]) is None


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
    assert found.unanswered == 1
    assert {spot.topic for spot in found.weak} == {weak_topic, last}
    assert found.forgotten == ("GQA",)
    assert found.slowest == plan.questions[4]
    assert found.seconds == sum(reply.seconds for reply in interview.replies)
    spot = next(spot for spot in found.weak if spot.topic == weak_topic)
    assert plan.questions[0] in spot.missed
    assert spot.pages
    assert sum(tally.questions for tally in found.levels.values()) == 10
    json.dumps(found.to_dict())


def test_the_weakest_topic_comes_first() -> None:
    """By the share of points; of two with the same share the one with more questions."""
    plan = next(
        plan for plan in map(make_plan, range(50)) if len({get_question(n).topic for n in plan.questions}) > 4
    )
    order = list(dict.fromkeys(get_question(name).topic for name in plan.questions))
    points = {topic: (len(order) - place) / (2 * len(order)) for place, topic in enumerate(order)}
    interview = begin(plan, NOON)
    for name in plan.questions:
        asked = interview.asked or NOON
        interview = interview.answer("x", points[get_question(name).topic], asked + timedelta(seconds=5), "")
    found = report(interview).weak
    assert [spot.topic for spot in found] == order[
        ::-1
    ]  # the later a topic was asked, the fewer points it got
    shares = [spot.tally.share for spot in found]
    assert shares == sorted(shares) and shares[0] < shares[-1]
    nothing = report(begin(plan, NOON)).weak
    assert [spot.tally.questions for spot in nothing] == sorted(
        (spot.tally.questions for spot in nothing), reverse=True
    )


def test_a_perfect_interview_has_no_weak_spots() -> None:
    interview = begin(make_plan(2), NOON)
    now = NOON
    for name in interview.plan.questions:
        question = get_question(name)
        now += timedelta(seconds=20)
        if question.kind == "free":
            interview = interview.answer("", ticked_points(question, range(len(question.listen_for))), now)
            continue
        answer = question.compute()
        text = chr(97 + question.right_option(answer)) if question.kind == "choice" else answer.shown  # type: ignore[union-attr]
        interview = interview.judged(text, judge(question, answer, text.split(" (")[0]), now)
    found = report(interview)
    assert found.total.share == 1
    assert found.weak == ()


def test_the_fixed_pages_of_topics_are_planned_ones() -> None:
    from peft_lab.methods import all_methods

    known = {*all_methods(), "memory", "compare", "choose", "runs"}
    for topic in common_topics().values():
        assert topic.pages and set(topic.pages) <= known
