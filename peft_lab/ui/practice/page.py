"""The page Practice: who practises, then flash cards or the mock interview."""

from __future__ import annotations

import streamlit as st

from peft_lab.ui import pages, state, theme
from peft_lab.ui.components.frame import errors_boxed
from peft_lab.ui.practice import learner
from peft_lab.ui.practice.cards import cards
from peft_lab.ui.practice.learner import SCOPE, form_tabs
from peft_lab.ui.practice.mock import interview


def practice_page() -> None:
    """Draw the page."""
    pages.open_page()
    st.title("Cards and mock interview")
    with errors_boxed():
        form = learner.controls()
        form.read_address()
        body = st.container(key="practice-body")
        body.html(theme.KEPT_ROOM)
        lost = state.address_problem(SCOPE, "profile") is not None  # told beside the learner's name
        with st.expander("Learners and files", expanded=lost, icon=":material/person:"):
            file, name = learner.learner_row()
        sections = {"cards": lambda: cards(file, name), "interview": lambda: interview(file, name)}
        with body:
            form_tabs(form, learner.TABS, sections)
        state.write_address(form.address())
