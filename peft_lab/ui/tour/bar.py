"""The bar on top of a page that belongs to a stop: what to read, move and see there, and the way on and back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from peft_lab.errors import PeftLabError
from peft_lab.learners.schedule import Learners
from peft_lab.tour import progress
from peft_lab.tour.path import Stop, Tour
from peft_lab.ui import pages, state
from peft_lab.ui.components import frame
from peft_lab.ui.foreign import plain
from peft_lab.ui.practice import learner
from peft_lab.ui.runs.shown import finished_of, shown_run
from peft_lab.ui.tour import links
from peft_lab.ui.tour.pointer import point

SCOPE = "tour-bar"
_FIRST = "first"
DONE = ":green-badge[:material/check: done]"
NO_RUN = "Nothing has been trained with this method yet. Press **Train**; when the run has ended, this stop shows it."
RUNNING = "A run of this method is under way: watch its loss fall. Its result comes when it has ended."
NO_WORDS = "This stop has no words: look at the page as it was set up."
WORDS = (("Read", "menu_book"), ("Move", "tune"), ("See", "visibility"))


def bar(page: str, arrived: bool) -> Callable[[], None]:
    """Draw it, if the session is on a path; note the stop that has just been arrived at.

    Returns:
        What is to be called once the page was drawn: it notices whether the stop's control was moved.
    """
    text = state.carried().get("stop")
    if not text or page == "tour":
        return _nothing
    try:
        file = learner.learners()
        name = learner.current(file)
        known = progress.paths(file, name, pages.titles())
        found = _find(text, known)
        if found is not None and arrived:
            progress.visit(file, name, found[0], found[2])
            state.scope(SCOPE).pop(_FIRST, None)
    except PeftLabError as error:
        st.error(plain(error))
        return _nothing
    with st.container(key="tour-bar"):
        if found is None:
            _unknown(text, known)
        elif found[1].stops[found[2]].page == page:
            done = found[2] in progress.progress(file, name, found[0]).done
            mark = _stop(*found, done)
            return lambda: _notice(file, name, *found, mark)
        else:
            _elsewhere(*found)
    return _nothing


def _nothing() -> None:
    pass


def _notice(file: Learners, name: str, identity: str, path: Tour, index: int, mark: DeltaGenerator) -> None:
    """Note how many of the stop's moves were made: a control stands elsewhere than before, or as the move says, or the
    run was started. The stop is done with the last of them."""
    stop = path.stops[index]
    if not stop.steps:
        return
    kept, now = _kept(identity, index), _standing(stop)
    stood: dict[str, str] = kept.setdefault("stood", dict(now))
    made: int = kept["made"]
    while made < len(stop.steps):
        setting, value = stop.steps[made]
        if now[setting] != value if value else now[setting] == stood[setting]:
            break
        stood[setting] = now[setting]
        made += 1
    if made == kept["made"]:
        return
    kept["made"] = made
    if made == len(stop.steps):
        progress.do(file, name, identity, index)
        mark.markdown(DONE)
    elif index not in progress.progress(file, name, identity).done:
        mark.markdown(_partly(stop, made))


def _kept(identity: str, index: int) -> dict[str, Any]:
    """How far this session is at a stop: the moves ``made``, and how each control ``stood`` when last counted."""
    place = links.place(identity, index)
    kept: dict[str, Any] = state.scope(SCOPE).setdefault(_FIRST, {}).setdefault(place, {"made": 0})
    return kept


def _partly(stop: Stop, made: int) -> str:
    return f":gray-badge[{made} of {len(stop.steps)} moves]"


def _standing(stop: Stop) -> dict[str, str]:
    """What the stop's controls say, as it would stand in the address."""
    address = state.complete_address()
    run = shown_run(stop.page) if "train" in dict(stop.steps) else None
    return {
        name: (run.id if run is not None else "") if name == "train" else address.get(name, "")
        for name, _ in stop.steps
    }


def _find(text: str, known: dict[str, Tour]) -> tuple[str, Tour, int] | None:
    read = links.read_place(text)
    if read is None or read[0] not in known or not 0 <= read[1] < len(known[read[0]].stops):
        return None
    return read[0], known[read[0]], read[1]


def _stop(identity: str, path: Tour, index: int, done: bool) -> DeltaGenerator:
    """One line: the stop, what to do, the rest of its words on request, the way on and back. Returns where its being
    done is marked."""
    stop = path.stops[index]
    given = [
        (title, icon, links.filled(stop, text, identity))
        for (title, icon), text in zip(WORDS, (stop.read, stop.move, stop.see), strict=True)
        if text
    ]
    if _of_a_run(stop) and not finished_of(stop.page):
        given = [("Read", "hourglass_top", RUNNING) if _training(stop.page) else ("Read", "info", NO_RUN)]
    elif stop.at == "train" and _training(stop.page):
        given = [("Read", "hourglass_top", RUNNING)]
    given = given or [("Read", "info", NO_WORDS)]  # as it was added, and nobody wrote any
    first = next((one for one in given if one[0] == "Move"), given[0])
    with st.container(horizontal=True, vertical_alignment="center", gap="small", key="tour-way"):
        st.markdown(
            f"**Stop {index + 1} of {len(path.stops)}** · {links.filled(stop, stop.title, identity)}",
            width="content",
        )
        with st.container(key="tour-now"):
            st.markdown(f":material/{first[1]}: {first[2]}")
        mark = st.empty()
        made: int = _kept(identity, index)["made"]
        if done:
            mark.markdown(DONE)
        elif made:
            mark.markdown(_partly(stop, made))
        with st.popover("Details", icon=":material/menu_book:", type="tertiary", key="tour-words"):
            for title, icon, text in given:
                st.markdown(f":material/{icon}: **{title}**  \n{text}")
            _overview()
            _leave()
        if index:
            before = path.stops[index - 1]
            with st.container(key="turn-back", width="content"):
                links.page_link(before, links.place(identity, index - 1), "Back", "arrow_back")
        if index + 1 < len(path.stops):
            after = path.stops[index + 1]
            with st.container(key="turn-next", width="content"):
                links.page_link(
                    after,
                    links.place(identity, index + 1),
                    "Next stop",
                    "arrow_forward",
                    icon_position="right",
                )
        else:
            st.page_link(pages.page("tour", pages.titles()["tour"]), label="Finish", icon=":material/flag:")
    steps = stop.steps
    if steps:
        # at what is to be moved next; when all is done, where it began
        at = steps[made % len(steps)][0]
        point(at, f"{links.place(identity, index)}.{at}")
    return mark


def _of_a_run(stop: Stop) -> bool:
    """Whether the stop shows what a run has left."""
    return stop.settings.get("tab") == "look inside"


def _training(page: str) -> bool:
    """Whether the run that the page shows has not ended: there is no Train to press."""
    run = shown_run(page)
    return run is not None and not run.status().final


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
