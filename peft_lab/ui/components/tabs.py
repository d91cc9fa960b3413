"""Sections as tabs of which only the open one is computed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from peft_lab.ui import state
from peft_lab.ui.foreign import plain

_ASKED = "tab-asked-for"


def show_tab(scope: str, title: str) -> None:
    """Open that tab when the page is drawn the next time."""
    state.remember(scope, _ASKED, title)


def tabs(scope: str, sections: Mapping[str, Callable[[], None]], wanted: str) -> str:
    """Draw the open tab of ``sections`` (title → what draws it); return its title. ``wanted``: see :func:`tab_list`."""
    title, place = tab_list(scope, list(sections), wanted)
    with place:
        sections[title]()
    return title


def tab_list(
    scope: str, titles: Sequence[str], wanted: str, tells: bool = True
) -> tuple[str, DeltaGenerator]:
    """Draw the list of tabs: the title of the open one, and the place for what it shows, which may be drawn after what
    stands below the tabs. A tab that the address names and there is none of is told above them, if it ``tells``.

    ``wanted`` is the tab to begin with, when the page is opened or returned to. Streamlit makes the default part of
    what identifies tabs: one that followed the choice would replace the tabs at each draw, and a click that arrives
    during a draw would belong to tabs that are gone.
    """
    problem = state.address_problem(scope, "tab")
    if problem and tells:
        st.markdown(f":red[:material/link_off: From the address: {plain(problem)}]")
    key = state.widget_key(scope, "tabs")
    start = state.first_default(key, wanted)
    asked = state.scope(scope).get(_ASKED)
    if asked in titles:
        st.session_state[key] = asked
    state.scope(scope).pop(_ASKED, None)  # last: what ends this run in between leaves it to the next
    drawn = dict(zip(titles, st.tabs(titles, default=start, key=key, on_change="rerun"), strict=True))
    title = next((title for title, tab in drawn.items() if tab.open), start)
    return title, drawn[title]
