"""Your class: all learners on one page, for the teacher. It refreshes itself, as for a second screen."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping

import plotly.graph_objects as go
import streamlit as st

from peft_lab.classroom import places
from peft_lab.core import asking, units
from peft_lab.core.asking import asker, limits
from peft_lab.core.errors import PeftLabError
from peft_lab.interview.learners import schedule
from peft_lab.interview.learners.schedule import ClassAnswers
from peft_lab.interview.predictions import Prediction, all_predictions
from peft_lab.methods import all_methods
from peft_lab.runs import queue
from peft_lab.runs.queue import QUIET, WAITING, ClassRow, PageVisit
from peft_lab.runs.view import Status
from peft_lab.ui import pages, state, web
from peft_lab.ui.components import charts, figures, frame
from peft_lab.ui.components.form import choose
from peft_lab.ui.components.frame import error_line, errors_boxed, part
from peft_lab.ui.components.qr import show_way_in
from peft_lab.ui.components.rows import Column, RowOf, rows
from peft_lab.ui.foreign import plain
from peft_lab.ui.server import sessions
from peft_lab.ui.server.door import SHOWN as SHOWN_AT
from peft_lab.ui.server.door import root as door_root
from peft_lab.ui.tour.page import root

# ----------------------------------------
# What the teacher shows, as a line over every page of a class, and the teacher's button for it.


SCOPE, TAKE_BACK = "shown-to-class", "take-back"
SHOWN_NOW = ":material/check: Every learner's browser opens this page automatically."
_mount = st.components.v2.component("peft_follow", html="<span hidden></span>", js=web.read("follow.js"))


def shown_bar(page: str) -> None:
    """Follow to a page that the teacher has shown since the session began; link to it on every other page.

    A browser asks for the version twice a second (:mod:`peft_lab.ui.server.door`), and the page is drawn again only
    where it has changed. Who has left the page that is shown is not taken back to it.
    """
    if not asking.class_is_on() or pages.teaches():
        return
    version = places.shown_version()
    before = state.remembered(SCOPE, "version", version)
    state.remember(SCOPE, "version", version)
    with st.sidebar:
        _mount(
            key="follow", height=0, data={"url": door_root() + SHOWN_AT, "version": version},
            on_version_change=lambda: None,
        )  # fmt: skip
    found = places.shown_page()
    title = pages.titles().get(found.page) if found is not None else None
    if found is None or title is None:
        return
    opened = page == found.page and all(
        st.query_params.get(name) == value for name, value in found.settings.items()
    )
    if opened:
        return
    query = {**found.settings, frame.SHOWN: "1"}
    if version != before:
        pages.go_to(found.page, query)
    with st.container(key="shown-to-class"):
        label = f"Your teacher shows: {plain(title)}"
        pages.link(found.page, label, "cast_for_education", query, width="stretch")


def show_button(page: str, settings: Mapping[str, str]) -> None:
    """Draw the teacher's button that shows this page, as it is set now, to the whole class."""
    if not pages.teaches():
        return
    st.button(
        "Show to my class", icon=":material/cast_for_education:", key="show-to-class", width="stretch",
        on_click=pressed, args=(SCOPE, places.show_page, page, settings),
    )  # fmt: skip
    refused = state.scope(SCOPE).pop("refused", None)
    if refused is not None:
        st.markdown(f":red[:material/error: {plain(refused)}]" if refused else SHOWN_NOW)


def pressed(scope: str, change: Callable[..., object], *given: object) -> None:
    """Carry out a press, and keep why it was refused, empty if it was not, for the page that is drawn then.

    As an ``on_click`` it runs even if the page is redrawn before its button.
    """
    try:
        change(*given)
    except PeftLabError as error:
        state.remember(scope, "refused", str(error))
    else:
        state.remember(scope, "refused", "")


def take_back_button() -> None:
    """Draw the page that the teacher shows now, with a button that ends it."""
    found = places.shown_page()
    if found is None:
        st.caption(
            "You are showing no page to the class. To show one, open it, set it up and choose *Teach with this "
            "page* in the sidebar."
        )
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(f"Shown to the class: **{plain(pages.titles().get(found.page, found.page))}**")
        st.button(
            "Stop showing it", key="take-back", on_click=pressed, args=(TAKE_BACK, places.take_back_page)
        )
    if refused := state.scope(TAKE_BACK).pop("refused", ""):
        error_line(refused)


FORETOLD_SCOPE = "foretold"
_WRAP = 44  # characters of an option's line


def foretold() -> None:
    """Draw the class's predictions for the teacher. Raises NotATeacher."""
    known = all_predictions()
    found = [row for row in schedule.expected_by_class() if row.id in known]
    st.markdown("## What the class predicts")
    if not found:
        st.caption(
            "No predictions yet. Learners guess on *Myths*. Their choices appear here before the experiment runs, "
            "without names."
        )
        return
    rows_of = {row.id: row for row in found}
    titles = {name: known[name].belief for name in rows_of}
    picked = choose(FORETOLD_SCOPE, "prediction", "Prediction", titles, afresh=[str(len(titles))])
    row = rows_of[picked]
    people = units.several(row.people, "answer")
    st.markdown(f"{plain(known[picked].question)} · **{people}** {figures.badge('measured')}")
    charts.draw(_bars(known[picked], row), "foretold-bars")


def _bars(prediction: Prediction, row: ClassAnswers) -> go.Figure:
    labels = ["<br>".join(textwrap.wrap(option, _WRAP)) for option in prediction.options]
    counts = [float(row.counts.get(place, 0)) for place in range(len(labels))]
    chart = charts.bars(labels, counts, "answers", height=80 + 56 * len(labels))
    # as large as the last row of a room needs
    chart.update_traces(text=[f"{count:.0f}" for count in counts], textfont={"size": 18}, textposition="auto")
    chart.update_yaxes(type="category", tickfont={"size": 15})
    chart.update_xaxes(dtick=max(1, round(max(counts) / 8)), rangemode="tozero")
    return chart


COLUMNS = ("Learner", "Page", "Last action", "Runs", "Current run", "On disk", "May need help")
CLASS_SCOPE = "classroom"
REFRESH = 3.0  # seconds


def class_page() -> None:
    pages.open_page()
    st.title("Your class")
    with errors_boxed():
        places.require_teacher()
        found = limits()
        st.markdown(
            f"Up to {found.people} can join. Each may have {found.in_words()}; data older than {found.days} days is "
            "deleted."
        )
        show_way_in(root(), asking.join_code())
        pages.link(
            "class_map", "One class, one landscape: each learner guesses and trains one square", "grid_on"
        )
        take_back_button()
        part(_everybody, every=REFRESH)
        part(foretold, every=REFRESH)


def _everybody() -> None:
    who = asker()
    found = queue.class_rows(sessions.places_of_all(), but=who.owner if who else "")
    if not found:
        st.info("No learner has joined yet.")
        return
    most = limits().learners
    if len(found) >= most:
        st.warning(
            f"The class is full. To let more learners join, restart the server with `--limit learners={2 * most}`; "
            "those who have joined stay.",
            icon=":material/group_off:",
        )
    here = sum(row.place is not None for row in found)
    going = sum(not _ended(row) for row in found)
    stuck = sum(bool(row.stuck) for row in found)
    st.markdown(
        f"With a page open: **{here} of {len(found)}** · waiting or training: **{going}** · may need help: "
        f"**{stuck}** {figures.badge('measured')}"
    )
    columns = [Column(name, numeric=name in ("Runs", "On disk")) for name in COLUMNS]
    made = [
        RowOf(row.learner.owner, _cells(row), (*[""] * (len(COLUMNS) - 1), "trained" if row.stuck else ""))
        for row in found
    ]
    picked = rows(columns, made, "class-table", "Your class", state.remembered(CLASS_SCOPE, "chosen", None))
    if picked:
        state.remember(CLASS_SCOPE, "chosen", picked)
    chosen = state.remembered(CLASS_SCOPE, "chosen", None)
    row = next((row for row in found if row.learner.owner == chosen), None)
    if row is None:
        st.caption(
            "Choose a row to stop a learner's run. Signs that a learner may need help: the last run failed or was "
            f"lost, a run has waited {units.coarse(WAITING)}, no training minutes are left, or an open page has "
            f"not been used for {units.coarse(QUIET)}."
        )
        return
    _chosen(row)


def _ended(row: ClassRow) -> bool:
    return row.run is None or row.run.status not in set(Status) or Status(row.run.status).final


def _cells(row: ClassRow) -> tuple[str, ...]:
    method = all_methods()[row.run.method].title if row.run and row.run.method in all_methods() else ""
    progress = "stopping" if row.ending else row.progress
    return (
        row.learner.title,
        pages.titles().get(row.place.page, row.place.page) if row.place else "–",
        _ago(row.place),
        f"{row.runs}",
        " · ".join(filter(None, (method, progress, f"{row.more} more" if row.more else ""))) or "–",
        units.size(row.kept),
        row.stuck or "–",
    )


def _ago(place: PageVisit | None) -> str:
    if place is None:
        return "–"
    return "just now" if place.since < 60 else f"{units.coarse(place.since)} ago"


def _chosen(row: ClassRow) -> None:
    with st.container(border=True):
        st.markdown(f"**{plain(row.learner.title)}** · {plain(_cells(row)[COLUMNS.index('Current run')])}")
        if row.run is None:
            return
        if row.run.problem:
            error_line(row.run.problem)
        if not _ended(row):
            st.button(
                "Stopping…" if row.ending else "Stop this run", key=f"class-end-{row.run.id}", disabled=row.ending,
                help="The run stops after its current step. The learner sees that you stopped it.",
                on_click=_end, args=(row.learner.owner, row.run.id),
            )  # fmt: skip


def _end(owner: str, identity: str) -> None:
    """End a learner's run. As an ``on_click`` it runs even if the page is redrawn before its button."""
    with errors_boxed():
        queue.end_for_teacher(owner, identity)
