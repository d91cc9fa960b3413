"""A worked example first, where a topic is new to the learner: another question of it, with its answer step by step."""

from __future__ import annotations

import streamlit as st

from peft_lab.learners.schedule import Learners
from peft_lab.quiz.bank import all_questions, get_question
from peft_lab.quiz.question import LEVELS, Question
from peft_lab.ui.components import figures
from peft_lab.ui.practice import filters
from peft_lab.ui.practice.answering import working


def example(question: Question, rated: set[str]) -> Question | None:
    """The simplest other question of the topic whose answer is worked out in steps, for who never rated one of it.

    ``rated``: the ids of those that the learner rated. ``None``: the topic is known, or has no such question.
    """
    topic = [other for other in all_questions().values() if other.topic == question.topic]
    if any(other.id in rated for other in topic):
        return None
    worked = [
        other
        for other in topic
        if other.id != question.id and other.kind == "numeric" and other.needs == "shape"
    ]
    worked = [other for other in worked if other.calculate is not question.calculate]
    return min(worked, key=lambda other: LEVELS.index(other.level), default=None)


def worked_first(file: Learners, learner: str, question: Question) -> None:
    """Offered under the question, closed: the page starts with one question and one field."""
    found = example(question, set(file.cards(learner)))
    if found is None:
        return
    with st.expander("New to you? Read one that is worked out first", icon=":material/lightbulb:"):
        model = filters.model_for(found)
        st.markdown(get_question(found.id).ask(model))
        answer = found.compute(model)
        st.markdown(f"{found.explain(answer, model)} {figures.badge(found.source)}")
        if answer is not None:
            working(answer.working)
