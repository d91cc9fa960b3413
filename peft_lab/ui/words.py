"""Words explained: the glossary as a page."""

from __future__ import annotations

import html

import streamlit as st

from peft_lab.interview import glossary
from peft_lab.ui import pages


def words_page() -> None:
    """Draw every word of the glossary with its explanation."""
    pages.open_page()
    st.title("Words explained")
    st.markdown("Each word is explained once, here. A dotted underline on a page shows the same explanation.")
    rows = "".join(
        f"<div><dt>{html.escape(word.term)}</dt><dd>{html.escape(word.meaning)}</dd></div>"
        for word in glossary.words().values()
    )
    st.html(f'<dl class="glossary">{rows}</dl>')
