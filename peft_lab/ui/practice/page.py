"""The Practice page: who practises, then flash cards, the mock interview or predictions."""

from __future__ import annotations

import streamlit as st

from peft_lab.core.errors import UnknownName
from peft_lab.ui import pages, state, theme
from peft_lab.ui.components.frame import errors_boxed, tabs
from peft_lab.ui.practice import learner
from peft_lab.ui.practice.cards import cards
from peft_lab.ui.practice.learner import FIRST, SCOPE
from peft_lab.ui.practice.mock import interview
from peft_lab.ui.practice.predicting import browse, fitting

TABS = ("cards", "interview", "predict")
TITLES = {"cards": "Flash cards", "interview": "Mock interview", "predict": "Predict, then run"}


def practice_page() -> None:
    pages.open_page()
    st.title("Practice")
    with errors_boxed():
        state.read_address(
            SCOPE, learner.practice_readers() | {"profile": learner.take_profile, "tab": _take_tab}
        )
        file = learner.learners()
        body = st.container(key="practice-body")
        body.html(theme.KEPT_ROOM)
        lost = state.address_problem(SCOPE, "profile") is not None  # told beside the learner's name
        with st.expander("Learner and files", expanded=lost, icon=":material/person:"):
            name = learner.learner_row(file, learner.question_pool(), learner.chosen_filters("model") or None)
        sections = {
            "cards": lambda: cards(file, name),
            "interview": lambda: interview(file, name),
            "predict": lambda: _predict(name),
        }
        start = TITLES[str(state.remembered(SCOPE, "tab", TABS[0]))]
        with body:
            title = tabs(SCOPE, {TITLES[mode]: draw for mode, draw in sections.items()}, start)
        tab = next(mode for mode in TABS if TITLES[mode] == title)
        state.remember(SCOPE, "tab", tab)
        state.write_address(learner.practice_address() | {"profile": (name, FIRST), "tab": (tab, TABS[0])})


def _take_tab(text: str) -> None:
    if text not in TABS:
        raise UnknownName("tab", text, TABS, "tab")
    state.remember(SCOPE, "tab", text)


def _predict(name: str) -> None:
    topic = learner.topic_filter(st.columns([1, 2])[0])
    browse(fitting(topic), SCOPE, learner.learners(), name)
