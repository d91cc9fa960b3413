"""Follow-ups: each is answered or leads to a question that is there."""

from __future__ import annotations

import pytest

from peft_lab.quiz.bank import all_questions
from peft_lab.quiz.follow_up import FollowUp
from peft_lab.quiz.question import Question

FOLLOW_UPS = [
    pytest.param(question, follow_up, id=f"{question.id}-{number}")
    for question in all_questions().values()
    for number, follow_up in enumerate(question.follow_ups, 1)
]
each = pytest.mark.parametrize(("question", "follow_up"), FOLLOW_UPS)


@each
def test_a_follow_up_is_answered_or_leads_to_a_question(question: Question, follow_up: FollowUp) -> None:
    assert bool(follow_up.answer) != bool(follow_up.leads_to), follow_up.question
    if follow_up.leads_to:
        assert follow_up.leads_to in all_questions()
        assert follow_up.leads_to != question.id
    else:
        assert follow_up.sources, follow_up.question
