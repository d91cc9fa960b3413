"""The Practice page: who practises, then flash cards, the mock interview or predictions."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from peft_lab.errors import PeftLabError, UnknownName
from peft_lab.ui import shell, state
from peft_lab.ui.practice import filters, learner
from peft_lab.ui.practice.cards import cards
from peft_lab.ui.practice.learner import FIRST, SCOPE
from peft_lab.ui.practice.mock import interview
from peft_lab.ui.practice.predicting import browse, fitting

TABS = ("cards", "interview", "predict")
TITLES = {"cards": "Flash cards", "interview": "Mock interview", "predict": "Predict, then run"}


def practice_page() -> None:
    shell.open_page()
    st.title("Practice")
    st.markdown(
        "Interview questions on every method. Numbers are **computed for the model you choose**, and a near miss says "
        "what was forgotten."
    )
    try:
        state.read_address(SCOPE, filters.readers() | {"profile": learner.take_profile, "tab": _take_tab})
        file = learner.learners()
        name = learner.learner_row(file, filters.pool(), filters.chosen("model") or None)
        tab = _tabs(
            {
                "cards": lambda: cards(file, name),
                "interview": lambda: interview(file, name),
                "predict": lambda: _predict(name),
            }
        )
    except PeftLabError as error:
        st.error(str(error))
        return
    state.write_address(filters.address() | {"profile": (name, FIRST), "tab": (tab, TABS[0])})


def _take_tab(text: str) -> None:
    if text not in TABS:
        raise UnknownName("tab", text, TABS, "tab")
    state.remember(SCOPE, "tab", text)


def _tabs(sections: dict[str, Callable[[], None]]) -> str:
    """The modes as tabs; only the open one is computed."""
    start = str(state.remembered(SCOPE, "tab", TABS[0]))
    key = state.widget_key(SCOPE, "tabs")
    tabs = st.tabs(list(TITLES.values()), default=TITLES[start], key=key, on_change="rerun")
    for name, tab in zip(TABS, tabs, strict=True):
        if not tab.open:
            continue
        state.remember(SCOPE, "tab", name)
        with tab:
            sections[name]()
        return name
    return start


def _predict(name: str) -> None:
    topic = filters.topic_filter(st.columns([1, 2])[0])
    browse(fitting(topic), SCOPE, learner.learners(), name)
