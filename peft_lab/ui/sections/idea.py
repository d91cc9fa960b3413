"""Idea: what the method does, in one paragraph and one formula, with its source."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from peft_lab.ui import figures
from peft_lab.ui.knobs import Choice
from peft_lab.units import Source

if TYPE_CHECKING:
    from peft_lab.ui.method_page import Words


def idea(choice: Choice, words: Words) -> None:
    left, right = st.columns([3, 2], gap="large")
    paper = choice.spec.paper
    with left:
        st.latex(words.formula)
        st.markdown(words.idea)
        source = f"{paper.authors} {paper.year}, [{paper.title}]({paper.url}), {paper.section}"
        st.markdown(f":small[{source}] {figures.badge(Source.CITED)}")
    with right:
        if words.differs:
            st.markdown("**In the library**")
            st.markdown(words.differs)
