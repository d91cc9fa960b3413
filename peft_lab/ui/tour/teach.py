"""For teachers: put stops in order, give them words, share the path as one link or file."""

from __future__ import annotations

import json
from dataclasses import replace

import streamlit as st

from peft_lab.errors import BadInput, PeftLabError
from peft_lab.learners.schedule import Learners
from peft_lab.tour import draft, progress, sharing
from peft_lab.tour.path import LONGEST_TEXT, LONGEST_TITLE, MOST_MINUTES, Stop, Tour
from peft_lab.ui import pages, state
from peft_lab.ui.foreign import plain
from peft_lab.ui.practice import learner
from peft_lab.ui.tour import links, qr
from peft_lab.ui.tour.settings import labels

SCOPE = "teach"


def teach_page() -> None:
    pages.open_page()
    st.title("For teachers")
    st.markdown(
        "1. Open any page and set it up as your class should see it.\n2. In the sidebar choose **Teach with this "
        "page**: it makes a link with everything fixed, or adds a stop to your path.\n3. Back here, put the "
        "stops in order, write what to read, move and see, and share the path."
    )
    try:
        file = learner.learners()
        name = learner.current(file)
        path = _title(file, name, draft.load(file, name, pages.titles()))
        if path.stops:
            _stops(file, name, path)
            _share(file, name, path)
        else:
            st.info(
                "No stops yet. Open a page, set it up, and add it from the sidebar.",
                icon=":material/add_location:",
            )
        _edit_file(file, name)
    except PeftLabError as error:
        st.error(plain(error))


def _title(file: Learners, name: str, path: Tour) -> Tour:
    title = st.text_input(
        "Title of the path", path.title, max_chars=LONGEST_TITLE, key=state.widget_key(SCOPE, "title")
    )
    if title.strip() and title != path.title:
        path = replace(path, title=title)
        draft.save(file, name, path, pages.titles())
    return path


def _stops(file: Learners, name: str, path: Tour) -> None:
    st.markdown(f"## {path.length}, about {path.minutes} minutes")
    for index, stop in enumerate(path.stops):
        title = links.filled(stop, stop.title, path.id)
        with st.expander(f"{index + 1}. {title} · {pages.titles()[stop.page]}", key=f"stop-{index}"):
            _words(file, name, path, index)
            _order(file, name, path, index)


def _words(file: Learners, name: str, path: Tour, index: int) -> None:
    stop = path.stops[index]

    def key(entry: str) -> str:
        return state.widget_key(SCOPE, entry, str(index))

    known = labels(stop.page)
    set_to = ", ".join(
        f"{known.get(setting, setting)} = {value or 'empty'}{' (fixed)' if setting in stop.fixed else ''}"
        for setting, value in stop.settings.items()
    )
    st.caption(links.filled(stop, set_to or "The page at its defaults.", path.id))
    with st.form(key("form"), border=False):
        left, right = st.columns([4, 1])
        title = left.text_input(
            "Title of the stop", stop.title, max_chars=LONGEST_TITLE, key=key("stop-title")
        )
        minutes = right.number_input("Minutes", 1, MOST_MINUTES, stop.minutes, key=key("minutes"))
        read = st.text_area("Read", stop.read, max_chars=LONGEST_TEXT, height=70, key=key("read"))
        move = st.text_area("Move", stop.move, max_chars=LONGEST_TEXT, height=70, key=key("move"))
        see = st.text_area("See", stop.see, max_chars=LONGEST_TEXT, height=70, key=key("see"))
        if st.form_submit_button("Save the text", type="primary"):
            words = {"title": title, "read": read, "move": move, "see": see, "minutes": int(minutes)}
            _keep(file, name, draft.changed(path, index, replace(stop, **words)))  # type: ignore[arg-type]


def _order(file: Learners, name: str, path: Tour, index: int) -> None:
    stop: Stop = path.stops[index]
    with st.container(horizontal=True, vertical_alignment="center"):
        links.page_link(stop, "", "Open as the class sees it", "open_in_new")
        last = len(path.stops) - 1
        if st.button("Up", icon=":material/arrow_upward:", key=f"up-{index}", disabled=index == 0):
            _keep(file, name, draft.moved(path, index, -1))
        if st.button("Down", icon=":material/arrow_downward:", key=f"down-{index}", disabled=index == last):
            _keep(file, name, draft.moved(path, index, 1))
        if st.button("Remove", icon=":material/delete:", key=f"remove-{index}"):
            _keep(file, name, draft.removed(path, index))


def _keep(file: Learners, name: str, path: Tour) -> None:
    draft.save(file, name, path, pages.titles())
    state.renew(SCOPE)
    st.rerun()


def _share(file: Learners, name: str, path: Tour) -> None:
    st.markdown("## Share it")
    try:
        link = links.absolute("tour", {"path": sharing.pack(path)})
        st.code(link, language=None, wrap_lines=True)
        st.caption("One link: it opens the Guided tour page with this path. The path itself is in the link.")
        qr.show(link)
    except BadInput as error:
        st.markdown(f":orange[:material/info: {plain(error)}]")
    with st.container(horizontal=True):
        st.download_button(
            "Path as a file",
            json.dumps(sharing.to_document(path), indent=1, ensure_ascii=False),
            "peft-lab-path.json",
            "application/json",
            icon=":material/download:",
            on_click="ignore",
        )
        if st.button("Try it myself", icon=":material/play_arrow:"):
            identity = progress.take_in(file, name, path, pages.titles())
            links.go(path.stops[0], links.place(identity, 0))
        with st.popover("Start over", icon=":material/delete:"):
            st.markdown("The stops and words above are deleted.")
            if st.button("Delete them", type="primary"):
                draft.discard(file, name)
                state.renew(SCOPE)
                st.rerun()


def _edit_file(file: Learners, name: str) -> None:
    with (
        st.expander("Continue from a saved path file", icon=":material/upload_file:"),
        st.form("edit-path", border=False),
    ):
        upload = st.file_uploader("Path file", type="json")
        pressed = st.form_submit_button("Replace the path above by this file")
    if not pressed:
        return
    if upload is None:
        raise BadInput("Choose a path file first.", "path")
    _keep(file, name, sharing.from_file(upload.getvalue(), pages.titles()))
