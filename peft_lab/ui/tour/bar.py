"""The bar on top of a page that belongs to a stop: what to read, move and see there, and the way on and back."""

from __future__ import annotations

import streamlit as st

from peft_lab.errors import PeftLabError
from peft_lab.tour import progress
from peft_lab.tour.path import Tour
from peft_lab.ui import pages, state
from peft_lab.ui.components import frame
from peft_lab.ui.foreign import plain
from peft_lab.ui.practice import learner
from peft_lab.ui.tour import links

WORDS = (("Read", "menu_book"), ("Move", "tune"), ("See", "visibility"))


def bar(page: str, arrived: bool) -> None:
    """Draw it, if the session is on a path; note the stop that has just been arrived at."""
    text = state.carried().get("stop")
    if not text or page == "tour":
        return
    try:
        file = learner.learners()
        name = learner.current(file)
        known = progress.paths(file, name, pages.titles())
        found = _find(text, known)
        if found is not None and arrived:
            progress.visit(file, name, found[0], found[2])
    except PeftLabError as error:
        st.error(plain(error))
        return
    with st.container(border=True, key="tour-bar"):
        if found is None:
            _unknown(text, known)
        elif found[1].stops[found[2]].page == page:
            _stop(*found)
        else:
            _elsewhere(*found)


def _find(text: str, known: dict[str, Tour]) -> tuple[str, Tour, int] | None:
    read = links.read_place(text)
    if read is None or read[0] not in known or not 0 <= read[1] < len(known[read[0]].stops):
        return None
    return read[0], known[read[0]], read[1]


def _stop(identity: str, path: Tour, index: int) -> None:
    stop = path.stops[index]
    with st.container(horizontal=True, vertical_alignment="center", gap="small", key="tour-way"):
        st.markdown(
            f"**Stop {index + 1} of {len(path.stops)}** · {links.filled(stop, stop.title, identity)} "
            f":gray-badge[about {stop.minutes} min]"
        )
        if index:
            before = path.stops[index - 1]
            links.page_link(before, links.place(identity, index - 1), "Back", "arrow_back")
        if index + 1 < len(path.stops):
            after = path.stops[index + 1]
            links.page_link(
                after, links.place(identity, index + 1), "Next stop", "arrow_forward", icon_position="right"
            )
        else:
            st.page_link(pages.page("tour", pages.titles()["tour"]), label="Finish", icon=":material/flag:")
        _overview()
        _leave()
    given = [
        (title, icon, text)
        for (title, icon), text in zip(WORDS, (stop.read, stop.move, stop.see), strict=True)
        if text
    ]
    if given:
        for cell, (title, icon, text) in zip(st.columns(len(given)), given, strict=True):
            cell.markdown(f":material/{icon}: **{title}**  \n{links.filled(stop, text, identity)}")


def _elsewhere(identity: str, path: Tour, index: int) -> None:
    stop = path.stops[index]
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.markdown(
            f"You have left stop {index + 1} of {len(path.stops)}, {links.filled(stop, stop.title, identity)}, "
            f"which is on the page {pages.titles()[stop.page]}."
        )
        links.page_link(stop, links.place(identity, index), "Return to the stop", "undo")
        _overview()
        _leave()


def _unknown(text: str, known: dict[str, Tour]) -> None:
    path = known.get(text.partition(".")[0])
    if path is None:
        message = (
            "This address belongs to a stop on a path that this learner has not opened. The settings below are the "
            "stop's; to read its text, open the path's own link."
        )
    else:
        message = f"This address names a stop that the path does not have; the path has stops 1 to {len(path.stops)}."
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.markdown(message)
        _overview()
        _leave()


def _overview() -> None:
    st.page_link(pages.page("tour", pages.titles()["tour"]), label="All stops", icon=":material/list:")


def _leave() -> None:
    if st.button(
        "Leave",
        icon=":material/close:",
        type="tertiary",
        key="leave-path",
        help="Ends the tour; your place on it is kept.",
    ):
        frame.leave_path()
        st.rerun()
