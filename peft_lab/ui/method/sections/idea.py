"""Idea: what the method does, in one paragraph and one formula, with its source."""

from __future__ import annotations

from dataclasses import dataclass

import streamlit as st

from peft_lab.ui.components import figures
from peft_lab.ui.components.knobs import Choice
from peft_lab.units import Source


@dataclass(frozen=True)
class Words:
    """What a page says in its own words.

    Attributes:
        idea: Markdown, one or two short paragraphs; KaTeX between dollar signs.
        formula: KaTeX of what the method computes. A phone breaks it outside braces, or where ``allowbreak`` says.
        differs: where PEFT's implementation differs from the paper; Markdown list.
    """

    idea: str
    formula: str
    differs: str = ""


def idea(choice: Choice, words: Words) -> None:
    left, right = st.columns([3, 2], gap="large")
    paper = choice.spec.paper
    with left:
        with st.container(key="idea-formula"):
            st.latex(words.formula)
        with st.container(key="idea-text"):
            st.markdown(words.idea)
        source = f"{paper.authors} {paper.year}, [{paper.title}]({paper.url})"
        source += f", {paper.section}" if paper.section else ""
        st.markdown(f":small[{source}] {figures.badge(Source.CITED)}")
    with right:
        if words.differs:
            st.markdown("**In the library**")
            st.markdown(words.differs)
