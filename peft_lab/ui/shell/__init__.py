"""Every run of the app: page configuration, navigation, and the chosen page with its frame."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

from peft_lab.core import asking
from peft_lab.core.asking import NobodyAsks
from peft_lab.ui import pages, state, theme
from peft_lab.ui.classroom import shown_bar
from peft_lab.ui.components import frame
from peft_lab.ui.components.frame import errors_boxed, mend
from peft_lab.ui.foreign import plain
from peft_lab.ui.server import app, guard, sessions
from peft_lab.ui.shell import dress
from peft_lab.ui.shell.dress import turning
from peft_lab.ui.tour import page as settings
from peft_lab.ui.tour.page import bar
from peft_lab.ui.tour.teach import share

# ----------------------------------------
# A page with what surrounds it: the bar of the path above, what is locked, and the side bar's own entries.


def draw_surroundings(page: str, run: Callable[[], None]) -> None:
    """Draw a page with its frame."""
    arrived = frame.enter(page, settings.lockable(page))
    if frame.projecting():
        st.html(theme.PROJECTOR)
    mend(pages.door_of(page))
    # The first of what stands above a page: it stays in view, and hides what scrolls past above it.
    notice = bar(page, arrived)
    frame.noted()
    shown_bar(page)
    frame.locked_note(page, settings.labels(page))
    with errors_boxed():
        run()
    notice()
    state.finish_address()
    frame.foot_links()
    share(page)
    if frame.projecting():
        turning(page)
    frame.projector_switch()
    frame.way_out()


_HERE = Path(__file__).parents[1]


@st.cache_resource
def _start_services() -> bool:
    """Start the services that run once per server; see :mod:`peft_lab.ui.server.app`."""
    if not app.server_begun():
        from peft_lab.core import inspector

        inspector.warm()
    if asking.class_is_on():
        from peft_lab.studies import expiry

        expiry.start()
    return True


def _begin() -> None:
    """Begin a class's run of the app: record its owner, and stop for unknown people."""
    try:
        sessions.begin()
    except NobodyAsks as nobody:
        st.error(plain(nobody))
        st.stop()


def run_app() -> None:
    """Run the app: configure it, build the navigation from the registry, draw the chosen page."""
    asked = asked_page()
    _begin()
    pages.navigating()
    st.set_page_config(
        page_title="PEFT Lab",
        page_icon=str(_HERE / "favicon.png"),
        layout="wide",
        initial_sidebar_state=dress.SIDEBAR,
    )
    st.logo(_HERE / "logo.svg", size="large")
    _start_services()
    sections = {
        pages.door_label(door): [pages.page(*entry) for entry in entries]
        for door, entries in pages.sections().items()
    }
    sections[pages.door_label("Start")] += [pages.page(name) for name in pages.foot()]
    keep_page(asked)
    chosen = st.navigation(sections, expanded=True)
    sessions.begin(chosen.url_path or "home")
    page = chosen.url_path or "home"
    with guard.drawn(page):
        draw_surroundings(page, chosen.run)


def asked_page() -> str:
    """Return the page this run requests, by Streamlit's id; empty if opened by URL. Call it first."""
    with suppress(AttributeError):
        context = get_script_run_ctx()
        if context is not None and context.page_script_hash != context.pages_manager.main_script_hash:
            return context.page_script_hash
    return ""


def keep_page(asked: str) -> None:
    """Let the navigation choose the page that this run was requested for.

    The session stores the requested page, but a run of the previous page that is about to restart (as it does
    when an answer arrives) still writes its own there: a click on a link would then lead back to the same
    page. This is internal to Streamlit; under a version without it, nothing is done.
    """
    with suppress(AttributeError):
        context = get_script_run_ctx()
        if context is not None and asked:
            context.pages_manager.set_script_intent(asked, "")
