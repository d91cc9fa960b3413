"""The frame of every page: the stop of a path it belongs to, the settings a teacher fixed, projector mode.

All three travel in the URL: ``stop=newcomer.3``, ``fixed=model,r``, ``projector=on``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import wraps
from typing import Any
from urllib.parse import urlencode

import streamlit as st
from streamlit.delta_generator import DeltaGenerator
from streamlit.errors import StreamlitDuplicateElementKey

from peft_lab.core import asking, units
from peft_lab.core import disk as storage
from peft_lab.core.asking import asker, limits
from peft_lab.core.errors import AssetError, PeftLabError
from peft_lab.models.assets import store as assets
from peft_lab.ui import pages, state, web
from peft_lab.ui.foreign import plain
from peft_lab.ui.server import sessions

SCOPE = "frame"
#: In the address that the line of :mod:`peft_lab.ui.classroom` opens, and gone once that was read.
SHOWN = "shown"
# The learner is not a setting of a page: opening a stop of a path must not change the learner.
_KEPT = ("profile",)
_ARRIVED = "arrived"
_IN_A_LINE, _FIRST = 5, 3  # at most this many names of fixed settings are listed; of more, only the first


def enter(page: str, lockable: bool) -> bool:
    """Read the frame's URL parameters, before the page is drawn; return whether a stop was just reached, whose progress
    must be recorded (:func:`noted`).

    A second press may end this run at any step, and the page is then drawn anew: each mark of work to do is cleared
    last. ``lockable``: whether the page shows fixed settings as locked; otherwise ``fixed`` is ignored.
    """
    state.enter(page)
    address = st.query_params.to_dict()
    # A learner who was on the page before sees what the teacher shows, not what they had set themselves.
    shown = address.pop(SHOWN, None) is not None
    if not state.remembered(SCOPE, "entered", False):
        state.carry("projector", "on" if address.get("projector") == "on" else "")
        state.remember(SCOPE, "entered", True)
    arrived = address.get("stop", "") not in ("", state.carried().get("stop"))
    names = address.get("fixed", "").split(",") if lockable else ()
    fixed = {name: address[name] for name in names if name in address}  # a name without a value fixes nothing
    if arrived or shown or (fixed and fixed != state.fixed_on(page)):
        state.begin_afresh(page, _KEPT)
        state.fix(page, fixed)
    if arrived:
        state.remember(SCOPE, _ARRIVED, True)
        state.carry("stop", address["stop"])
    if shown:
        st.query_params.pop(SHOWN, None)
    return bool(state.remembered(SCOPE, _ARRIVED, False))


def noted() -> None:
    """Record that the progress at the stop just reached is stored, or needs no storing."""
    state.remember(SCOPE, _ARRIVED, False)


def locked_note(page: str, labels: dict[str, str]) -> None:
    """Draw the page's fixed settings, with a button that unlocks them."""
    fixed = state.fixed_on(page)
    if not fixed:
        return
    more = len(fixed) - _FIRST if len(fixed) > _IN_A_LINE else 0
    with st.container(horizontal=True, vertical_alignment="center", key="locked-note"):
        line = ", ".join(labels.get(name) or plain(name) for name in [*fixed][: len(fixed) - more])
        st.markdown(f":material/lock: **Set by the teacher:** {line}{'' if more else '.'}", width="content")
        if more:
            with st.popover(f"and {more} more", type="tertiary", key="locked-names"):
                st.markdown("\n".join(f"- {labels.get(name) or plain(name)}" for name in fixed))
        if st.button("Unlock these settings", icon=":material/lock_open:", type="tertiary"):
            state.fix(page, {})
            st.query_params.pop("fixed", None)
            st.rerun()


def projecting() -> bool:
    return state.carried().get("projector") == "on"


def way_out() -> None:
    """Draw a button to sign out, or to leave for good for learners who joined with a code."""
    if not asking.class_is_on() or projecting():
        return
    who = asker()
    if who is None:
        return
    with st.sidebar:
        if who.login and st.button("Sign out", icon=":material/logout:", type="tertiary", key="sign-out"):
            st.logout()
        if not who.login and st.button("Leave", icon=":material/logout:", type="tertiary", key="leave"):
            _leave()


@st.dialog("Leave this class in this browser?")
def _leave() -> None:
    st.markdown(
        "Leave if somebody else uses this browser after you. What you trained, uploaded and answered here is stored "
        f"for your teacher for {limits().days} days, but **you cannot get back to it**. The only key to it is this "
        "browser's cookie, and leaving deletes the cookie. First download what you want to keep: runs under *Export* "
        "on a method's page, and your learner's files under *Cards and mock interview*."
    )
    yes, no = st.columns(2)
    yes.button("Leave for good", type="primary", width="stretch", key="leave-for-good", on_click=_left)
    if no.button("Stay", width="stretch", key="stay"):
        st.rerun()
    refused = state.scope(SCOPE).pop("stays", None)
    if refused is not None:
        st.error(plain(refused))


def _left() -> None:
    """Leave the class. As an ``on_click`` it runs even if the page is redrawn before its button."""
    try:
        sessions.leave()
    except PeftLabError as error:
        state.remember(SCOPE, "stays", str(error))


def foot_links() -> None:
    """Draw, at the sidebar's foot, links to the pages that belong to none of Home's doors."""
    if not projecting():
        with st.sidebar:
            for name in pages.foot():
                pages.link(name, pages.titles()[name], "menu_book", width="stretch")


def projector_switch() -> None:
    """Draw the switch in the sidebar or, in projector mode, a button that stays in the window's corner."""
    if not projecting():
        with st.sidebar:
            pressed = st.button(
                "Projector view", icon=":material/present_to_all:", type="tertiary", key="project"
            )
    else:
        pressed = st.button(
            "Leave projector view", icon=":material/close_fullscreen:", type="tertiary", key="unproject"
        )
    if pressed:
        state.carry("projector", "" if projecting() else "on")
        st.query_params.pop("projector", None)
        st.rerun()


# ----------------------------------------
# Flaws of Streamlit's own, on every page, mended in the browser: two of its side bar, one of what opens over a page,
# one of the browser's Back.
#
# With sections, Streamlit's navigation puts blocks between its list and the entries, and only a mouse can fold a
# section. So each section becomes a group named by its heading, and the heading a button for keyboards and screen
# readers. Opening a page of another section unfolds that section and folds the one before. On a phone the side bar
# covers the page and stayed open for seconds after a choice: it is closed at once. Dialogs and menus are outside the
# app's element, which alone states the theme, so their labels were dark on dark: they get the theme too. Every
# change of a page's address became a step of Back, although going back restores no control: the new address replaces
# the previous one, unless it leads to another stop of a path.


_mount = st.components.v2.component("peft_mending", html="<span></span>", js=web.read("mending.js"))


def mend(door: str) -> None:
    """Mount the browser fixes, once per run and before the page, so that a failing page has them too. ``door``: the
    section of the navigation that the page belongs to."""
    with st.sidebar:
        _mount(key="mending", height=0, data={"door": door})


# ----------------------------------------
# Sections as tabs of which only the open one is computed.


_ASKED = "tab-asked-for"


def show_tab(scope: str, title: str) -> None:
    """Open a tab the next time the page is drawn."""
    state.remember(scope, _ASKED, title)


def tabs(scope: str, sections: Mapping[str, Callable[[], None]], wanted: str) -> str:
    """Draw the open tab of ``sections`` (title → function); return its title. ``wanted``: the first one."""
    title, place = tab_list(scope, list(sections), wanted)
    with place:
        sections[title]()
    return title


def tab_list(
    scope: str, titles: Sequence[str], wanted: str, tells: bool = True
) -> tuple[str, DeltaGenerator]:
    """Draw the list of tabs; return the title of the open one, and the place for its content, which may be
    drawn later than what is below the tabs. If ``tells``, an unknown tab in the URL is reported above them.

    ``wanted`` is the first tab, when the page is opened or returned to. Streamlit identifies tabs by their
    default too: one that followed the choice would replace the tabs at each draw, and a click during a draw
    would be lost.
    """
    if tells:
        address_line(scope, "tab")
    key = state.widget_key(scope, "tabs")
    start = state.first_default(key, wanted)
    asked = state.scope(scope).get(_ASKED)
    if asked in titles:
        st.session_state[key] = asked
    state.scope(scope).pop(_ASKED, None)  # last: what ends this run in between leaves it to the next
    drawn = dict(zip(titles, st.tabs(titles, default=start, key=key, on_change="rerun"), strict=True))
    title = next((title for title, tab in drawn.items() if tab.open), start)
    return title, drawn[title]


# ----------------------------------------
# Parts of a page that are drawn again by themselves, each in a container of its own.
#
# When a part's turn comes just after the whole page was drawn, Streamlit takes back what that part had drawn and the
# browser has not been sent yet, and sends the rest (ForwardMsgQueue.clear). Whatever followed the part in the same
# container would then reach the browser before it, at a position that does not exist, and the browser gives up on
# the whole page ("Bad delta path index"). In a container of its own nothing follows.


def open_afresh(page: str, query: Mapping[str, str]) -> None:
    """Open a page with the settings of ``query``: only a freshly opened page reads them."""
    state.begin_afresh(page)
    pages.go_to(page, query)


def open_button(
    page: str, query: Mapping[str, str], label: str, key: str, link: str = "[as a link]({})", **options: Any
) -> None:
    """Draw a button that opens a page with the settings of ``query``, and a ``link`` unless that is empty. ``options``
    are the button's."""
    if st.button(label, key=key, **{"icon": ":material/arrow_forward:", **options}):
        open_afresh(page, query)
    if link:
        st.markdown(link.format(f"{page}?{urlencode(query)}"), width="content")


@contextmanager
def errors_here() -> Iterator[None]:
    """Show an error as a red line here, in place of the rest of the block."""
    try:
        yield
    except PeftLabError as error:
        error_line(error)


def error_line(error: object, place: Any = st) -> None:
    """Draw an error, or its reason, as a red line; what has to be fetched with a button, unless the page has one."""
    asset = error.asset if isinstance(error, AssetError) else ""
    if asset and place is st:
        with suppress(StreamlitDuplicateElementKey):
            offer_fetch((asset,))
            return
    place.markdown(f":red[:material/error: {plain(error)}]")


def offer_fetch(needed: Collection[str]) -> None:
    """Draw which of the ``needed`` assets are missing or damaged, with a button that fetches them and its size."""
    wanting = [one for one in assets.status() if one.name in needed and not one.present]
    if not wanting:
        return
    titles = {one.name: one.title for one in wanting}
    size = units.size(sum(one.download_bytes for one in wanting))
    again = "again " if all(one.damaged for one in wanting) else ""
    said, box = st.container(), st.container()
    pressed = box.button(
        f"Fetch {again}· {size}", key=f"fetch-{'-'.join(titles)}", icon=":material/download:"
    )
    for one in wanting:
        if one.damaged:
            files = plain(", ".join(one.damaged))
            text = f"is damaged on this disk: {files} differs from what was fetched."
        else:
            text = f"is not on {asking.here()} yet. Counting and drawing work without it; training needs it."
        said.markdown(f":red[:material/error: **{one.title}** {text}]")
    if pressed:
        bar = box.progress(0.0)

        def progress(name: str, done: float) -> None:
            bar.progress(done, text=f"Fetching {titles[name]}")

        try:  # leaving the page ends it: Streamlit raises at the next sign of progress
            assets.fetch(titles, progress)
        except PeftLabError as error:
            bar.empty()
            box.markdown(f":red[:material/error: {plain(error)}]")
        else:
            st.rerun()


def address_line(scope: str, name: str, place: Any = st, default: bool = False) -> None:
    """Draw why a value in the URL is not used, if so, and whether the ``default`` replaces it."""
    problem = state.address_problem(scope, name)
    if problem:
        instead = " The default is used." if default else ""
        place.markdown(f":red[:material/link_off: From the address: {plain(problem)}{instead}]")


@contextmanager
def errors_boxed() -> Iterator[None]:
    """Show an error, also one of the disk or its permissions, in place of the rest of the page."""
    try:
        yield
    except PeftLabError as error:
        st.error(plain(error))
    except OSError as error:
        reason = storage.of_file(error, storage.home())
        if reason is None:
            raise
        st.error(plain(reason))


def part(draw: Callable[[], None], every: float | None = None) -> None:
    """Draw a part that is redrawn without the rest: when one of its controls is used, and every ``every``
    seconds. Do not nest parts: a part's old content is removed without the parts in it."""

    @wraps(draw)
    def drawn() -> None:
        with errors_boxed():
            draw()

    with st.container():
        st.fragment(drawn, run_every=every)()
