"""Sections as tabs of which only the open one is computed."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import streamlit as st

from peft_lab.ui import state
from peft_lab.ui.foreign import plain

_ASKED = "tab-asked-for"


def show_tab(scope: str, title: str) -> None:
    """Open that tab when the page is drawn the next time."""
    state.remember(scope, _ASKED, title)


def tabs(scope: str, sections: Mapping[str, Callable[[], None]], wanted: str) -> str:
    """Draw the open tab of ``sections`` (title → what draws it); return its title. A tab that the address names and
    there is none of is told above them.

    ``wanted`` is the tab to begin with, when the page is opened or returned to. Streamlit makes the default part of
    what identifies tabs: one that followed the choice would replace the tabs at each draw, and a click that arrives
    during a draw would belong to tabs that are gone.
    """
    problem = state.address_problem(scope, "tab")
    if problem:
        st.markdown(f":red[:material/link_off: From the address: {plain(problem)}]")
    key = state.widget_key(scope, "tabs")
    start = state.first_default(key, wanted)
    asked = state.scope(scope).pop(_ASKED, None)
    if asked in sections:
        st.session_state[key] = asked
    drawn = st.tabs(list(sections), default=start, key=key, on_change="rerun")
    for title, tab in zip(sections, drawn, strict=True):
        if tab.open:
            with tab:
                sections[title]()
            return title
    return start
