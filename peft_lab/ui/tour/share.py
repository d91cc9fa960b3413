"""Every page's "Teach with this page": a link that opens it as it is now, with settings fixed, or a stop of a path."""

from __future__ import annotations

import streamlit as st

from peft_lab.classroom import mode
from peft_lab.errors import PeftLabError
from peft_lab.tour import draft
from peft_lab.tour.path import Stop
from peft_lab.ui import pages, state
from peft_lab.ui.classroom.bar import show_button
from peft_lab.ui.foreign import plain
from peft_lab.ui.practice import learner
from peft_lab.ui.tour import links, qr
from peft_lab.ui.tour.settings import fixable, labels, lockable, of_one_person

SCOPE = "share"
_NO_STOPS = ("tour", "teach", "classroom")


def share(page: str) -> None:
    """Draw it in the side bar, after the page: only then its address is known."""
    if page in _NO_STOPS:
        return
    with st.sidebar:
        drawer = st.popover(
            "Teach with this page", icon=":material/school:", type="tertiary", key=f"share-{page}"
        )
    with drawer:
        stop = _as_it_is(page)
        projector = st.checkbox("Open in projector mode", key=state.widget_key(SCOPE, "projector", page))
        st.markdown("**Link to this page as it is set now**")
        around = {"projector": "on"} if projector else {}
        link = links.absolute(page, links.address(stop) | around)
        st.code(link, language=None, wrap_lines=True)
        if stop.settings.get("task") == "own":
            st.markdown(":orange[:material/info: Your own file is not part of the link.]")
        show_button(page, links.address(stop))
        st.button(
            "Add to my path", icon=":material/add_location:", key="add-stop", width="stretch",
            on_click=_add, args=(stop,),
        )  # fmt: skip
        added = state.remembered(SCOPE, "added", "")
        if added:
            st.markdown(added)
            st.page_link(
                pages.page("teach", pages.titles()["teach"]),
                label="Open my path",
                icon=":material/edit_road:",
            )
            state.remember(SCOPE, "added", "")
        # On request: drawing it takes 20 to 60 ms, which every move of a knob would wait for.
        if st.checkbox("Show it as a QR code", key=state.widget_key(SCOPE, "qr", page)):
            qr.show(link)


def _as_it_is(page: str) -> Stop:
    complete, settings = state.complete_address(), state.own_address()
    fixed: list[str] = []
    if lockable(page):
        names = fixable(complete)
        free = st.multiselect(
            "The class may change",
            names,
            key=state.widget_key(SCOPE, "free", page, "-".join(names)),
            format_func=lambda name: labels(page).get(name, name),
            placeholder="Nothing: all is fixed",
            help="Everything else opens locked, marked as set by the teacher.",
        )
        fixed = [name for name in names if name not in free]
    settings |= {name: complete[name] for name in fixed}
    if mode.on():
        settings = {name: text for name, text in settings.items() if name not in of_one_person(page)}
    return Stop(page=page, title=pages.titles()[page], settings=settings, fixed=tuple(fixed))


def _add(stop: Stop) -> None:
    """For ``on_click``: heard even when the page is drawn anew before it comes to the button, which is its last."""
    try:
        file = learner.learners()
        name = learner.current(file)
        path = draft.added(draft.load(file, name, pages.titles()), stop)
        draft.save(file, name, path, pages.titles())
    except PeftLabError as error:
        state.remember(SCOPE, "added", f":red[:material/error: {plain(error)}]")
        return
    state.remember(SCOPE, "added", f":material/check: Stop {len(path.stops)} of “{plain(path.title)}”.")
