"""Sections as tabs of which only the open one is computed."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import streamlit as st

from peft_lab.ui import state


def tabs(scope: str, sections: Mapping[str, Callable[[], None]], wanted: str) -> str:
    """Draw the open tab of ``sections`` (title → what draws it); return its title.

    ``wanted`` is the tab to begin with, when the page is opened or returned to. Streamlit makes the default part of
    what identifies tabs: one that followed the choice would replace the tabs at each draw, and a click that arrives
    during a draw would belong to tabs that are gone.
    """
    key = state.widget_key(scope, "tabs")
    start = state.first_default(key, wanted)
    drawn = st.tabs(list(sections), default=start, key=key, on_change="rerun")
    for title, tab in zip(sections, drawn, strict=True):
        if tab.open:
            with tab:
                sections[title]()
            return title
    return start
