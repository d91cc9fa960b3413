"""A free answer beside the points of its question, for the learner to tick; nothing here grades it."""

from __future__ import annotations

import streamlit as st

from peft_lab.errors import PeftLabError
from peft_lab.quiz.question import Question
from peft_lab.quiz.reading.opinion import Endpoint, endpoint, second_opinion
from peft_lab.ui import state
from peft_lab.ui.foreign import plain
from peft_lab.ui.practice.learner import SCOPE

_OPINION = "opinion"
SELF_CHECK = "PEFT Lab does not grade free answers. Tick the points that you made."


def shown_answer(question: Question, answer: str, model: str | None = None) -> None:
    """Show the answer as it was typed, and offer a second opinion where an endpoint is set."""
    st.markdown("**You wrote**")
    st.text(answer)
    _opinion(question, answer, model)


def checklist(question: Question, key: str) -> tuple[int, ...]:
    """Show the points of a free question as checkboxes, and return the indices of those ticked.

    Args:
        key: start of the checkboxes' keys; the question's id and the point's index follow.
    """
    st.caption(SELF_CHECK)
    ticks = [
        st.checkbox(point, key=f"{key}.{question.id}.{index}")
        for index, point in enumerate(question.listen_for)
    ]
    return tuple(index for index, ticked in enumerate(ticks) if ticked)


def _opinion(question: Question, answer: str, model: str | None) -> None:
    """Show the button for a second opinion, where the environment names an endpoint, and what it said."""
    try:
        where = endpoint()
    except PeftLabError as error:
        st.caption(plain(error))
        return
    if where is None:
        return
    kept = state.remembered(SCOPE, _OPINION, None, question.id)
    if kept is not None and kept[0] == answer:
        _said(where, kept[1])
    elif st.button(f"Send it to {plain(where.host)} for a second opinion", icon=":material/forum:"):
        try:
            said = second_opinion(where, question.ask(model), question.listen_for, answer)
        except PeftLabError as error:
            st.error(plain(error))
            return
        state.remember(SCOPE, _OPINION, (answer, said), question.id)
        st.rerun()


def _said(where: Endpoint, said: str) -> None:
    st.markdown(
        f"**Second opinion** by {plain(where.model)} at {plain(where.host)}, a language model; unchecked"
    )
    st.text(said)
