"""The Guided tour page: the path, how far the learner is, where to go on; and paths that teachers have made."""

from __future__ import annotations

import streamlit as st

from peft_lab.errors import BadInput, PeftLabError
from peft_lab.learners.schedule import Learners
from peft_lab.tour import progress, sharing
from peft_lab.tour.path import Tour
from peft_lab.ui import pages, state
from peft_lab.ui.foreign import plain
from peft_lab.ui.practice import learner
from peft_lab.ui.tour import links

SCOPE = "tour"
GO_ON, START_OVER = 200, 120  # pixels


def tour_page() -> None:
    pages.open_page()
    st.title("Guided tour")
    st.markdown(
        "Walk through the lab stop by stop: what to **read**, what to **move**, what to **see**. Every link opens "
        "its page with the right settings; the bar at the top leads to the next stop, and back here."
    )
    try:
        state.read_address(SCOPE, {"path": _take_path})
        file = learner.learners()
        name = learner.current(file)
        problem = state.address_problem(SCOPE, "path")
        if problem:
            st.markdown(f":red[:material/link_off: {plain(problem)}]")
        _received(file, name)
        known = progress.paths(file, name, pages.titles())
        identity = _choose(file, name, known)
        _path(file, name, identity, known[identity])
        _another(file, name)
    except PeftLabError as error:
        st.error(plain(error))
        return
    state.write_address({"path": (state.remembered(SCOPE, "received", ""), "")})


def _take_path(text: str) -> None:
    sharing.unpack(text, pages.titles())
    state.remember(SCOPE, "received", text)


def _received(file: Learners, name: str) -> None:
    """A path that came with the address: shown first, taken in on request."""
    text = state.remembered(SCOPE, "received", "")
    if not text:
        return
    path = sharing.unpack(text, pages.titles())
    with st.container(border=True, key="received-path"):
        st.markdown("### A path was sent to you")
        title = links.filled(path.stops[0], path.title, path.id)
        st.markdown(f"**{title}** · {path.length}, about {path.minutes} minutes")
        if st.button("Follow this path", type="primary", icon=":material/route:"):
            _follow(file, name, path)


def _follow(file: Learners, name: str, path: Tour) -> None:
    identity = progress.take_in(file, name, path, pages.titles())
    state.remember(SCOPE, "received", "")
    state.remember(SCOPE, "chosen", identity)
    state.renew(SCOPE)
    st.rerun()


def _choose(file: Learners, name: str, known: dict[str, Tour]) -> str:
    ids = list(known)
    first = progress.last(file, name)
    first = first if first in ids else progress.FIRST
    if len(ids) == 1:
        return ids[0]
    index = state.one_of(SCOPE, "chosen", ids, first)
    key = state.widget_key(SCOPE, "chosen", str(len(ids)))
    identity: str = st.selectbox("Path", ids, index, key=key, format_func=lambda each: known[each].title)
    state.remember(SCOPE, "chosen", identity)
    return identity


def _path(file: Learners, name: str, identity: str, path: Tour) -> None:
    place = progress.progress(file, name, identity)
    done = len(place.visited & set(range(len(path.stops))))
    st.markdown(f"## {links.filled(path.stops[0], path.title, identity)}")
    st.progress(
        done / len(path.stops),
        text=f"**{done}** of {path.length} visited · about {path.minutes} minutes in all · learner: {plain(name)}",
    )
    index = place.at if place.at is not None and place.at < len(path.stops) else 0
    begun = place.at is not None
    with st.container(horizontal=True):
        label = f"Continue at stop {index + 1}" if begun else "Start"
        # as wide as its words will be: they come later, and would push what stands beside it
        if st.button(label, type="primary", icon=":material/play_arrow:", key="go-on", width=GO_ON):
            state.carry("stop", "")
            links.go(path.stops[index], links.place(identity, index))
        if begun and st.button(
            "Start over", icon=":material/restart_alt:", type="tertiary", width=START_OVER
        ):
            progress.start_over(file, name, identity)
            state.carry("stop", "")
            st.rerun()
        if identity != progress.FIRST and st.button(
            "Remove this path", icon=":material/delete:", type="tertiary"
        ):
            progress.let_go(file, name, identity, pages.titles())
            state.scope(SCOPE).pop("chosen", None)
            state.carry("stop", "")
            state.renew(SCOPE)
            st.rerun()
    with st.container(gap="xxsmall", key="tour-stops"):
        for number, stop in enumerate(path.stops):
            icon = "check_circle" if number in place.visited else "radio_button_unchecked"
            title = links.filled(stop, stop.title, identity)
            where = f":small[{pages.titles()[stop.page]} · {stop.minutes} min]"
            links.page_link(stop, links.place(identity, number), f"**{number + 1}. {title}** {where}", icon)


def _another(file: Learners, name: str) -> None:
    with st.expander("Another path", icon=":material/upload_file:"):
        st.markdown("A teacher's path comes as a link or as a file; a link opens here by itself.")
        with st.form("take-path", border=False, clear_on_submit=True):
            upload = st.file_uploader("Path file", type="json")
            pressed = st.form_submit_button("Add this path")
        st.page_link(
            pages.page("teach", pages.titles()["teach"]),
            label="Make a path of your own",
            icon=":material/edit_road:",
        )
    if not pressed:
        return
    if upload is None:
        raise BadInput("Choose a path file first.", "path")
    _follow(file, name, sharing.from_file(upload.getvalue(), pages.titles()))
