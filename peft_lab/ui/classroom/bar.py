"""What the teacher shows, as a line over every page of a class, and the teacher's button for it."""

from __future__ import annotations

from collections.abc import Mapping

import streamlit as st

from peft_lab.classroom import shown
from peft_lab.errors import PeftLabError
from peft_lab.ui import pages, state
from peft_lab.ui.components import frame
from peft_lab.ui.foreign import plain

SCOPE = "shown-to-class"
SHOWN_NOW = ":material/check: Everybody sees a line with this link at their next step."


def shown_bar(page: str) -> None:
    """Draw the line, where something is shown that this page is not."""
    found = shown.shown()
    title = pages.titles().get(found.page) if found is not None else None
    if found is None or title is None or pages.teaches():
        return
    opened = page == found.page and all(
        st.query_params.get(name) == value for name, value in found.settings.items()
    )
    if opened:
        return
    with st.container(key="shown-to-class"):
        st.page_link(
            pages.page(found.page, title),
            label=f"Your teacher shows: {plain(title)}",
            icon=":material/cast_for_education:",
            query_params={**found.settings, frame.SHOWN: "1"},
            width="stretch",
        )


def show_button(page: str, settings: Mapping[str, str]) -> None:
    """For the teacher of a class: show this page, as it is set now, to all."""
    if not pages.teaches():
        return
    st.button(
        "Show to my class", icon=":material/cast_for_education:", key="show-to-class", width="stretch",
        on_click=_show, args=(page, settings),
    )  # fmt: skip
    refused = state.scope(SCOPE).pop("refused", None)
    if refused is not None:
        st.markdown(f":red[:material/error: {plain(refused)}]" if refused else SHOWN_NOW)


def _show(page: str, settings: Mapping[str, str]) -> None:
    """For ``on_click``: heard even when the page is drawn anew before it comes to the button."""
    try:
        shown.show(page, settings)
    except PeftLabError as error:
        state.remember(SCOPE, "refused", str(error))
    else:
        state.remember(SCOPE, "refused", "")


def take_back_button() -> None:
    """For the teacher: what is shown now, and an end to it."""
    found = shown.shown()
    if found is None:
        st.caption(
            "Nothing is shown to all. Open a page, set it up, and choose *Teach with this page* in the sidebar."
        )
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(f"Shown to all: **{plain(pages.titles().get(found.page, found.page))}**")
        st.button("Take it back", key="take-back", on_click=_take_back)
    refused = state.scope(SCOPE).pop("kept", None)
    if refused is not None:
        st.markdown(f":red[:material/error: {plain(refused)}]")


def _take_back() -> None:
    """For ``on_click``: the page is then drawn with what is shown after it."""
    try:
        shown.take_back()
    except PeftLabError as error:
        state.remember(SCOPE, "kept", str(error))
