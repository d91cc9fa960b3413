"""For teachers: arrange stops, write their texts, share the path as one link or file."""

from __future__ import annotations

from dataclasses import replace

import streamlit as st

from peft_lab.core import asking
from peft_lab.core.errors import BadInput, PeftLabError
from peft_lab.interview import tour
from peft_lab.interview.learners.schedule import Learners
from peft_lab.interview.tour import LONGEST_TEXT, LONGEST_TITLE, MOST_MINUTES, Stop, Tour
from peft_lab.ui import pages, state
from peft_lab.ui.classroom import show_button
from peft_lab.ui.components.frame import errors_boxed
from peft_lab.ui.components.qr import show_qr
from peft_lab.ui.foreign import plain
from peft_lab.ui.practice import learner
from peft_lab.ui.tour import page as links
from peft_lab.ui.tour.page import FREE, labels, lockable, of_one_person

TEACH_SCOPE = "teach"


def teach_page() -> None:
    pages.open_page()
    st.title("For teachers")
    own, room = st.columns([3, 2], gap="medium")
    with room, st.container(border=True, key="teach-class"):
        _class()
    with own, errors_boxed():
        st.markdown(
            "### A lesson of your own\n\n1. Open any page and set it up as your class should see it.\n2. In the "
            "sidebar, choose **Teach with this page** to get a link with locked settings or to add a stop to your "
            "path.\n3. Come back here and put the stops in order. For each stop, write what learners should read, "
            "what they should change and what they should see. Then share the path."
        )
        file, name = learner.current_learner()
        path = _title(file, name, tour.load_draft(file, name, pages.titles()))
        if path.stops:
            _stops(file, name, path)
            _share(file, name, path)
        else:
            st.info(
                "No stops yet. Open a page, set it up and add it from the sidebar.",
                icon=":material/add_location:",
            )


def _class() -> None:
    """Say what a class is, and how to start it, or lead to its pages where this machine serves one."""
    st.markdown(
        "### A whole class on this machine\n\nLearners join from their own browsers, without accounts: they scan a "
        "QR code or type one word. Each learner has the whole lab, with runs and answers that only this learner and "
        "you can see.\n\n- The page you show opens on every screen within a second.\n- Each learner guesses, then "
        "trains one square of a map of rank and learning rate; the map fills on your projector.\n- You see who is "
        "where, whose run failed, and who may need help."
    )
    if not asking.class_is_on():
        st.markdown(
            "**Start it** in a terminal on this machine. It prints a code for learners and one for you:"
        )
        st.code("python -m peft_lab serve --class", language=None, wrap_lines=True)
    else:
        for page in ("classroom", "class_map"):
            if page in pages.titles():
                pages.link(page, pages.titles()[page])


def _title(file: Learners, name: str, path: Tour) -> Tour:
    title = st.text_input(
        "Title of the path", path.title, max_chars=LONGEST_TITLE, key=state.widget_key(TEACH_SCOPE, "title")
    )
    if title.strip() and title != path.title:
        path = replace(path, title=title)
        tour.save_draft(file, name, path, pages.titles())
    return path


def _stops(file: Learners, name: str, path: Tour) -> None:
    st.markdown(f"## {path.length}, about {path.minutes} minutes")
    for index, stop in enumerate(path.stops):
        title = links.filled_words(stop, stop.title, path.id)
        with st.expander(f"{index + 1}. {title} · {pages.titles()[stop.page]}", key=f"stop-{index}"):
            _words(file, name, path, index)
            _order(file, name, path, index)


def _words(file: Learners, name: str, path: Tour, index: int) -> None:
    stop = path.stops[index]

    def key(entry: str) -> str:
        return state.widget_key(TEACH_SCOPE, entry, str(index))

    known = labels(stop.page)
    set_to = ", ".join(
        f"{known.get(setting, setting)} = {value or 'empty'}{' (locked)' if setting in stop.fixed else ''}"
        for setting, value in stop.settings.items()
    )
    st.caption(links.filled_words(stop, set_to or "The page with its default settings.", path.id))
    with st.form(key("form"), border=False):
        left, right = st.columns([4, 1])
        title = left.text_input(
            "Title of the stop", stop.title, max_chars=LONGEST_TITLE, key=key("stop-title")
        )
        minutes = right.number_input("Minutes", 1, MOST_MINUTES, stop.minutes, key=key("minutes"))
        read = st.text_area("Read", stop.read, max_chars=LONGEST_TEXT, height=70, key=key("read"))
        move = st.text_area("Change", stop.move, max_chars=LONGEST_TEXT, height=70, key=key("move"))
        see = st.text_area("See", stop.see, max_chars=LONGEST_TEXT, height=70, key=key("see"))
        if st.form_submit_button("Save the text", type="primary"):
            words = {"title": title, "read": read, "move": move, "see": see, "minutes": int(minutes)}
            _keep(file, name, path.replaced(index, replace(stop, **words)))  # type: ignore[arg-type]


def _order(file: Learners, name: str, path: Tour, index: int) -> None:
    stop: Stop = path.stops[index]
    with st.container(horizontal=True, vertical_alignment="center"):
        links.page_link(stop, "", "Preview as your class", "open_in_new")
        last = len(path.stops) - 1
        if st.button("Up", icon=":material/arrow_upward:", key=f"up-{index}", disabled=index == 0):
            _keep(file, name, path.swapped(index - 1))
        if st.button("Down", icon=":material/arrow_downward:", key=f"down-{index}", disabled=index == last):
            _keep(file, name, path.swapped(index))
        if st.button("Remove", icon=":material/delete:", key=f"remove-{index}"):
            _keep(file, name, path.replaced(index))


def _keep(file: Learners, name: str, path: Tour) -> None:
    tour.save_draft(file, name, path, pages.titles())
    state.renew(TEACH_SCOPE)
    st.rerun()


def _share(file: Learners, name: str, path: Tour) -> None:
    st.markdown("## Share the path")
    try:
        link = links.absolute_address("tour", {"path": tour.pack_path(path)})
        st.code(link, language=None, wrap_lines=True)
        st.caption("The link contains the whole path and opens it on the page Guided tour.")
        show_qr(link)
    except BadInput as error:
        st.markdown(f":orange[:material/info: {plain(error)}]")
    with st.container(horizontal=True):
        st.download_button(
            "Download the path",
            tour.path_to_file(path),
            "peft-lab-path.json",
            "application/json",
            icon=":material/download:",
            on_click="ignore",
        )
        if st.button("Try the path", icon=":material/play_arrow:"):
            identity = tour.take_in(file, name, path, pages.titles())
            pages.go_to(path.stops[0].page, links.stop_address(path.stops[0], links.place_of(identity, 0)))
        with st.popover("Start over", icon=":material/delete:"):
            st.markdown("This deletes all stops and their texts.")
            if st.button("Delete the path", type="primary"):
                tour.save_draft(file, name, Tour(tour.UNTITLED, ()), pages.titles())
                state.renew(TEACH_SCOPE)
                st.rerun()


# ----------------------------------------
# Every page's "Teach with this page": a link that opens it as it is now, with settings fixed, or a stop of a path.


SCOPE = "share"
_NO_STOPS = ("tour", "teach", "classroom", "class_map")


def share(page: str) -> None:
    """Draw the sharing menu in the sidebar, after the page: only then is its URL known."""
    if page in _NO_STOPS:
        return
    with st.sidebar:
        drawer = st.popover(
            "Teach with this page", icon=":material/school:", type="tertiary", key=f"share-{page}"
        )
    with drawer:
        stop = _as_it_is(page)
        projector = st.checkbox("Open in projector view", key=state.widget_key(SCOPE, "projector", page))
        st.markdown("**Link to this page with its current settings**")
        around = {"projector": "on"} if projector else {}
        link = links.absolute_address(page, links.stop_address(stop) | around)
        st.code(link, language=None, wrap_lines=True)
        if stop.settings.get("task") == "own":
            st.markdown(":orange[:material/info: The link does not include your own data file.]")
        show_button(page, links.stop_address(stop))
        st.button(
            "Add to my path", icon=":material/add_location:", key="add-stop", width="stretch",
            on_click=_add, args=(stop,),
        )  # fmt: skip
        added = state.remembered(SCOPE, "added", "")
        if added:
            st.markdown(added)
            pages.link("teach", "Open my path", "edit_road")
            state.remember(SCOPE, "added", "")
        # On request: drawing it takes 20 to 60 ms, which every move of a knob would wait for.
        if st.checkbox("Show a QR code", key=state.widget_key(SCOPE, "qr", page)):
            show_qr(link)


def _as_it_is(page: str) -> Stop:
    complete, settings = state.complete_address(), state.own_address()
    fixed: list[str] = []
    if lockable(page):
        names = [name for name in complete if name not in FREE]
        free = st.multiselect(
            "The class may change",
            names,
            key=state.widget_key(SCOPE, "free", page, "-".join(names)),
            format_func=lambda name: labels(page).get(name, name),
            placeholder="Nothing; all settings are locked",
            help="All other settings are locked and marked as set by the teacher.",
        )
        fixed = [name for name in names if name not in free]
    settings |= {name: complete[name] for name in fixed}
    if asking.class_is_on():
        settings = {name: text for name, text in settings.items() if name not in of_one_person(page)}
    return Stop(page=page, title=pages.titles()[page], settings=settings, fixed=tuple(fixed))


def _add(stop: Stop) -> None:
    """Add the stop. As an ``on_click`` it runs even if the page is redrawn before this last button."""
    try:
        file, name = learner.current_learner()
        path = tour.load_draft(file, name, pages.titles())
        path = replace(path, stops=(*path.stops, stop))
        tour.save_draft(file, name, path, pages.titles())
    except PeftLabError as error:
        state.remember(SCOPE, "added", f":red[:material/error: {plain(error)}]")
        return
    state.remember(
        SCOPE, "added", f":material/check: Added as stop {len(path.stops)} of “{plain(path.title)}”."
    )
