"""The Guided tour page: the path, the learner's progress, where to continue; and teachers' paths."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote, urlencode, urljoin

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

from peft_lab.core.errors import BadInput, PeftLabError
from peft_lab.core.units import Source
from peft_lab.interview import tour
from peft_lab.interview.learners.schedule import Learners
from peft_lab.interview.tour import FIRST, Stop, Tour, fill
from peft_lab.methods import all_methods, get_method
from peft_lab.ui import pages, state, web
from peft_lab.ui.components import figures
from peft_lab.ui.components.form import choose
from peft_lab.ui.components.frame import address_line, errors_boxed
from peft_lab.ui.foreign import plain
from peft_lab.ui.method.tabs import shows_picture
from peft_lab.ui.practice import learner
from peft_lab.ui.runs.shown import finished_of, shown_run, under_way
from peft_lab.ui.sweeps.pictures import SWEEP

# ----------------------------------------
# Links into exact settings: what a stop's address says, and how a stop's words are shown.


def stop_address(stop: Stop, place: str = "") -> dict[str, str]:
    """Return the URL parameters of a stop's page; ``place`` is the stop's own name (:func:`place_of`)."""
    found = dict(stop.settings)
    if stop.fixed:
        found["fixed"] = ",".join(stop.fixed)
    if place:
        found["stop"] = place
    return found


def place_of(identity: str, index: int) -> str:
    """Return a stop's name in a URL: ``newcomer.3`` is the third one of the newcomer's path."""
    return f"{identity}.{index + 1}"


def page_link(stop: Stop, where: str, label: str, icon: str, **options: bool | str) -> None:
    """Draw a link to the stop, in this session."""
    pages.link(stop.page, label, icon, stop_address(stop, where), **options)


def absolute_address(page: str, parameters: Mapping[str, str]) -> str:
    """Return a page's complete URL, to send to others."""
    query = f"?{urlencode(parameters, quote_via=quote, safe=',')}" if parameters else ""
    return f"{root()}{'' if page == 'home' else page}{query}"


def root() -> str:
    """Return the app's base URL as the browser sees it, also behind a proxy, with a slash at the end.

    Pages lie side by side, so this is the URL up to its last slash, whichever page it names: after a click it
    still names the page before. ``st.context.url`` does not help: it cuts a page's name off the end of the
    URL's text ("lora" off "/qlora") and appends another's.
    """
    context = get_script_run_ctx()
    seen = context.context_info.url if context is not None and context.context_info is not None else ""
    return urljoin(seen, ".") if seen else "/"


def filled_words(stop: Stop, text: str, identity: str) -> str:
    """Return a stop's words as Markdown: formatted in the lab's path, as plain text in a teacher's."""
    if identity != FIRST:
        return "  \n".join(plain(line) for line in text.splitlines())
    filled = fill(stop, text)
    return filled if filled == text else f"{filled} {figures.badge(Source.COUNTED)}"


SCOPE = "tour"
GO_ON, START_OVER = 200, 120  # pixels


def tour_page() -> None:
    pages.open_page()
    st.title("Guided tour")
    st.markdown(
        "A guided lesson in short stops. Each stop tells you what to **read**, what to **change** and what to "
        "**see**. A link opens its page with the right settings; the bar at the top leads to the next stop and back "
        "here."
    )
    with errors_boxed():
        state.read_address(SCOPE, {"path": _take_path})
        file, name = learner.current_learner()
        address_line(SCOPE, "path")
        _received(file, name)
        known = tour.paths(file, name, pages.titles())
        identity = _choose(file, name, known)
        _path(file, name, identity, known[identity])
        _another(file, name)
        state.write_address({"path": (state.remembered(SCOPE, "received", ""), "")})


def _take_path(text: str) -> None:
    tour.unpack_path(text, pages.titles())
    state.remember(SCOPE, "received", text)


def _received(file: Learners, name: str) -> None:
    """Draw a path from the URL: shown first, stored on request."""
    text = state.remembered(SCOPE, "received", "")
    if not text:
        return
    path = tour.unpack_path(text, pages.titles())
    with st.container(border=True, key="received-path"):
        st.markdown("### You received a path")
        title = filled_words(path.stops[0], path.title, path.id)
        st.markdown(f"**{title}** · {path.length}, about {path.minutes} minutes")
        if st.button("Follow this path", type="primary", icon=":material/route:"):
            _follow(file, name, path)


def _follow(file: Learners, name: str, path: Tour) -> None:
    identity = tour.take_in(file, name, path, pages.titles())
    state.remember(SCOPE, "received", "")
    state.remember(SCOPE, "chosen", identity)
    state.renew(SCOPE)
    st.rerun()


def _choose(file: Learners, name: str, known: dict[str, Tour]) -> str:
    ids = list(known)
    first = tour.last(file, name)
    first = first if first in ids else tour.FIRST
    if len(ids) == 1:
        return ids[0]
    titles = {identity: path.title for identity, path in known.items()}
    return choose(SCOPE, "chosen", "Path", titles, first, afresh=[str(len(ids))])


def _path(file: Learners, name: str, identity: str, path: Tour) -> None:
    place = tour.progress(file, name, identity)
    done = len(place.visited & set(range(len(path.stops))))
    st.markdown(f"## {filled_words(path.stops[0], path.title, identity)}")
    st.progress(
        done / len(path.stops),
        text=f"**{done}** of {path.length} visited, **{len(place.done)}** done · about {path.minutes} minutes in "
        f"total · learner: {plain(name)}",
    )
    index = place.at if place.at is not None and place.at < len(path.stops) else 0
    begun = place.at is not None
    with st.container(horizontal=True):
        label = f"Continue at stop {index + 1}" if begun else "Start"
        # as wide as its words will be: they come later, and would push what stands beside it
        if st.button(label, type="primary", icon=":material/play_arrow:", key="go-on", width=GO_ON):
            state.carry("stop", "")
            pages.go_to(path.stops[index].page, stop_address(path.stops[index], place_of(identity, index)))
        if begun and st.button(
            "Start over", icon=":material/restart_alt:", type="tertiary", width=START_OVER
        ):
            tour.start_over(file, name, identity)
            state.carry("stop", "")
            st.rerun()
        if identity != tour.FIRST and st.button(
            "Remove this path", icon=":material/delete:", type="tertiary"
        ):
            tour.let_go(file, name, identity, pages.titles())
            state.scope(SCOPE).pop("chosen", None)
            state.carry("stop", "")
            state.renew(SCOPE)
            st.rerun()
    with st.container(gap="xxsmall", key="tour-stops"):
        for number, stop in enumerate(path.stops):
            seen = "adjust" if number in place.visited else "radio_button_unchecked"
            icon = "check_circle" if number in place.done else seen
            title = filled_words(stop, stop.title, identity)
            where = f":small[{pages.titles()[stop.page]} · {stop.minutes} min]"
            page_link(stop, place_of(identity, number), f"**{number + 1}. {title}** {where}", icon)


def _another(file: Learners, name: str) -> None:
    with st.expander("Add another path", icon=":material/upload_file:"):
        st.markdown(
            "Teachers share a path as a link or a file. A link opens here automatically; upload a file below."
        )
        with st.form("take-path", border=False, clear_on_submit=True):
            upload = st.file_uploader("Path file", type="json")
            pressed = st.form_submit_button("Add this path")
        pages.link("teach", "Create your own path", "edit_road")
    if not pressed:
        return
    if upload is None:
        raise BadInput("No file is chosen. Choose a path file first.", "path")
    _follow(file, name, tour.path_from_file(upload.getvalue(), pages.titles()))


# ----------------------------------------
# Points at the control that a stop speaks of: scrolls to it once and outlines it for as long as the stop is open.


# A control's element is marked with its key, in which the setting's name is a whole word (state.widget_key).
_mount = st.components.v2.component(
    "peft_pointer", html='<span class="pointer" hidden></span>', js=web.read("tour.js")
)


def point(at: str, stop: str) -> None:
    """Point at a setting by name, or at ``train``; the page scrolls there when a ``stop`` is first seen."""
    _mount(key="tour-pointer", data={"at": at, "stop": stop})


# ----------------------------------------
# The bar on top of a page that belongs to a stop: what to read, move and see there, and the way on and back.


BAR_SCOPE = "tour-bar"
_FIRST = "first"
DONE = ":green-badge[:material/check: done]"
NO_RUN = (
    "You have no finished run of this method yet, so the drawing shows a recorded one. Press play below the "
    "drawing. You see the loss, the answers and how far each block moved. Once you have pressed **Train**, the "
    "drawing shows your own run."
)
RUNNING = "A run of this method is in progress: watch its loss fall. The result appears when it ends."
NO_WORDS = "This stop has no text. Look at the page as your teacher set it up."
WORDS = (("Read", "menu_book"), ("Change", "tune"), ("See", "visibility"))


def bar(page: str, arrived: bool) -> Callable[[], None]:
    """Draw the bar if the session is on a path; record a stop just reached. Returns a function to call after the page
    is drawn: it checks whether the stop's control was moved."""
    text = state.carried().get("stop")
    if not text or page == "tour":
        return lambda: None
    try:
        file, name = learner.current_learner()
        known = tour.paths(file, name, pages.titles())
        found = _find(text, known)
        if found is not None and arrived:
            tour.visit(file, name, found[0], found[2])
            state.scope(BAR_SCOPE).pop(_FIRST, None)
    except PeftLabError as error:
        st.error(plain(error))
        return lambda: None
    with st.container(key="tour-bar"):
        if found is None:
            _unknown(text, known)
        elif found[1].stops[found[2]].page == page:
            done = found[2] in tour.progress(file, name, found[0]).done
            tell = _stop(*found, done, lambda: tour.visit(file, name, found[0], found[2], done=True))
            return lambda: _notice(file, name, *found, tell)
        else:
            _elsewhere(*found)
    return lambda: None


def _notice(
    file: Learners, name: str, identity: str, path: Tour, index: int, tell: Callable[[bool], None]
) -> None:
    """Record the stop's moves made so far: a control changed, or reached the move's value, or the run was
    started. The last move completes the stop."""
    stop = path.stops[index]
    if not stop.steps:
        return
    kept, now = _progress(identity, index), _standing(stop)
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
        tour.visit(file, name, identity, index, done=True)
    tell(index in tour.progress(file, name, identity).done)


def _progress(identity: str, index: int) -> dict[str, Any]:
    """Return the session's progress at a stop: the moves ``made``, and how each control last ``stood``."""
    place = place_of(identity, index)
    kept: dict[str, Any] = state.scope(BAR_SCOPE).setdefault(_FIRST, {}).setdefault(place, {"made": 0})
    return kept


def _standing(stop: Stop) -> dict[str, str]:
    """Return the values of the stop's controls, as in the URL."""
    address = state.complete_address()
    run = shown_run(stop.page) if "train" in dict(stop.steps) else None
    return {
        name: (run.id if run is not None else "") if name == "train" else address.get(name, "")
        for name, _ in stop.steps
    }


def _find(text: str, known: dict[str, Tour]) -> tuple[str, Tour, int] | None:
    """Return the path and stop that :func:`place_of` has named; ``None`` for any other text."""
    identity, _, number = text.rpartition(".")
    if identity not in known or not (number.isascii() and number.isdigit() and len(number) < 4):
        return None
    path, index = known[identity], int(number) - 1
    return (identity, path, index) if 0 <= index < len(path.stops) else None


def _stop(
    identity: str, path: Tour, index: int, done: bool, finish: Callable[[], None]
) -> Callable[[bool], None]:
    """Draw two rows: the stop with its links, and what to read and change; once that is done, what to see.

    Args:
        finish: records that the stop is done, where no control tells that.

    Returns:
        a function that draws the mark again, and once the stop is done what to see.
    """
    stop = path.stops[index]
    given = [
        (title, icon, filled_words(stop, text, identity))
        for (title, icon), text in zip(WORDS, (stop.read, stop.move, stop.see), strict=True)
        if text
    ]
    no_run = shows_picture(stop.settings) and not finished_of(stop.page)
    if no_run:
        given = [("Read", "hourglass_top", RUNNING) if under_way(stop.page) else ("Read", "info", NO_RUN)]
    elif stop.at == "train" and under_way(stop.page):
        given = [("Read", "hourglass_top", RUNNING)]
    given = given or [("Read", "info", NO_WORDS)]  # as it was added, and nobody wrote any
    with st.container(horizontal=True, vertical_alignment="center", gap="small", key="tour-way"):
        st.markdown(f"**Stop {index + 1} of {len(path.stops)}** · {filled_words(stop, stop.title, identity)}")
        mark = st.empty()
        if not stop.steps and not done:
            st.button("Done", icon=":material/check:", type="tertiary", key="tour-done", on_click=finish)
        with st.popover("Details", icon=":material/menu_book:", type="tertiary", key="tour-words"):
            for title, icon, text in given:
                st.markdown(f":material/{icon}: **{title}**  \n{text}")
            _ways_out()
        if index:
            with st.container(key="turn-back", width="content"):
                page_link(path.stops[index - 1], place_of(identity, index - 1), "Back", "arrow_back")
        if index + 1 < len(path.stops):
            after, where = path.stops[index + 1], place_of(identity, index + 1)
            with st.container(key="turn-next", width="content"):
                page_link(after, where, "Next stop", "arrow_forward", icon_position="right")
        else:
            pages.link("tour", "Finish", "flag")
    with st.container(key="tour-now"):
        lines = [st.container(key=f"tour-{place}").empty() for place in ("first", "last")]

    def rows(done: bool) -> None:
        # a line each: what a place held before in the same run would stay beside what it holds now
        told = [one for one in given if (one[0] == "See") is done] or given
        for place, (_, icon, text) in zip(reversed(lines), reversed(told), strict=False):
            place.markdown(f":material/{icon}: {text}")
        if len(told) == 1:
            lines[0].empty()

    def tell(now: bool) -> None:
        made: int = _progress(identity, index)["made"]
        if now or made:
            mark.markdown(DONE if now else f":gray-badge[{made} of {len(stop.steps)} changes]")
        if now and not done:
            rows(now)

    rows(done)
    tell(done)
    if no_run:
        point(stop.page, place_of(identity, index))  # the drawing
    steps = stop.steps
    if steps:
        # at what is to be moved next; when all is done, where it began
        at = steps[_progress(identity, index)["made"] % len(steps)][0]
        point(at, f"{place_of(identity, index)}.{at}")
    return tell


def _elsewhere(identity: str, path: Tour, index: int) -> None:
    stop = path.stops[index]
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.markdown(
            f"You left stop {index + 1} of {len(path.stops)}, {filled_words(stop, stop.title, identity)}, on the "
            f"page {pages.titles()[stop.page]}."
        )
        page_link(stop, place_of(identity, index), "Return to the stop", "undo")
        _ways_out()


def _unknown(text: str, known: dict[str, Tour]) -> None:
    path = known.get(text.partition(".")[0])
    if path is None:
        message = (
            "This address leads to a stop of a path that you have not added. The page has the stop's settings. To "
            "read the stop's text, open the path's link."
        )
    else:
        message = f"The path has no such stop. Choose a stop from 1 to {len(path.stops)}."
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.markdown(message)
        _ways_out()


def _ways_out() -> None:
    pages.link("tour", "All stops", "list")
    if st.button(
        "Leave the tour",
        icon=":material/close:",
        type="tertiary",
        key="leave-path",
        help="Closes the tour and remembers your place.",
    ):
        state.carry("stop", "")
        st.query_params.pop("stop", None)
        st.rerun()


# ----------------------------------------
# Which settings of a page a teacher can fix, and what they are called.


# Pages whose controls are shown locked when they are fixed. The others open with the settings and can be moved.
_OTHER_PAGES = ("memory", "practice")
# Where one looks, which run is shown and who practises are no settings of an experiment.
FREE = frozenset({"tab", "part", "run", "profile", "method"})
_LABELS = {
    "model": "Model", "task": "Task", "steps": "Steps", "batch": "Batch size", "lr": "Learning rate", "seed": "Seed",
    "rows": "Held-out rows", "seq": "Tokens per row", "device": "Device", "dtype": "The base is stored in",
    "optimizer": "Optimizer", "checkpointing": "Gradient checkpointing", "offload": "Offloading",
    "targets": "LoRA and QLoRA adapt", "row": "Published run", "topic": "Topic", "level": "Level",
}  # fmt: skip


def of_one_person(page: str) -> frozenset[str]:
    """Return the URL parameters whose value belongs to one person: a run, a learner, a sweep."""
    if page in pages.method_pages():
        return frozenset({"run"})
    return frozenset({"practice": {"profile"}, "sweeps": {SWEEP}}.get(page, set()))


def lockable(page: str) -> bool:
    return page in pages.method_pages() or page in _OTHER_PAGES


def labels(page: str) -> dict[str, str]:
    """Return the controls' labels by setting."""
    if page not in all_methods():
        return _LABELS
    return _LABELS | {knob.name: knob.label for knob in get_method(page).knobs}
