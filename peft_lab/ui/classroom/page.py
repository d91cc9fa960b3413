"""Your class: everybody on one page, for the teacher. Comes back by itself: it can stay open on a second screen."""

from __future__ import annotations

from urllib.parse import urlsplit

import streamlit as st

from peft_lab import units
from peft_lab.classroom import mode, places
from peft_lab.classroom.asking import asker
from peft_lab.classroom.limits import limits
from peft_lab.errors import PeftLabError
from peft_lab.methods import all_methods
from peft_lab.runs.view import Status
from peft_lab.teaching import roll
from peft_lab.teaching.roll import QUIET, WAITING, Place, Row
from peft_lab.ui import pages, state
from peft_lab.ui.classroom.bar import take_back_button
from peft_lab.ui.classroom.foretold import foretold
from peft_lab.ui.components import figures
from peft_lab.ui.components.parts import part
from peft_lab.ui.components.rows import Column, RowOf, rows
from peft_lab.ui.foreign import plain
from peft_lab.ui.server import sessions
from peft_lab.ui.server.hosts import is_loopback

COLUMNS = ("Learner", "Page", "Last action", "Runs", "Run", "On disk", "May need help")
SCOPE = "classroom"
REFRESH = 3.0  # seconds


def class_page() -> None:
    pages.open_page()
    st.title("Your class")
    try:
        places.require_teacher()
    except PeftLabError as error:
        st.error(plain(error))
        return
    found = limits()
    st.markdown(
        f"Up to {found.people} may join, at {_where()} with the code **{plain(mode.join_code())}**. Each may have "
        f"{found.in_words()}; what is older than {found.days} days is removed."
    )
    take_back_button()
    part(_everybody, every=REFRESH)
    part(foretold, every=REFRESH)


def _where() -> str:
    """At which address, as far as it can be told from the teacher's own."""
    own = is_loopback(urlsplit(st.context.url or "").hostname or "")
    return "the address that this machine has in the network" if own else "this address"


def _everybody() -> None:
    who = asker()
    found = roll.rows(sessions.places_of_all(), but=who.owner if who else "")
    if not found:
        st.info("Nobody has joined yet.")
        return
    most = limits().learners
    if len(found) >= most:
        st.warning(
            f"The class is full: nobody else can join. Whoever runs this server lets in more by starting it again "
            f"with `--limit learners={2 * most}`; who has joined stays.",
            icon=":material/group_off:",
        )
    here = sum(row.place is not None for row in found)
    going = sum(not _ended(row) for row in found)
    stuck = sum(bool(row.stuck) for row in found)
    st.markdown(
        f"Page open: **{here} of {len(found)}** · waiting or training: **{going}** · may need help: **{stuck}** "
        f"{figures.badge('measured')}"
    )
    columns = [Column(name, numeric=name in ("Runs", "On disk")) for name in COLUMNS]
    made = [RowOf(row.learner.owner, _cells(row), _kinds(row)) for row in found]
    picked = rows(columns, made, "class-table", "Your class", state.remembered(SCOPE, "chosen", None))
    if picked:
        state.remember(SCOPE, "chosen", picked)
    chosen = state.remembered(SCOPE, "chosen", None)
    row = next((row for row in found if row.learner.owner == chosen), None)
    if row is None:
        st.caption(
            f"Choose a row to end a run. Help may be needed where the last run failed or was lost, a run has waited "
            f"{units.coarse(WAITING)}, no minutes of training are left, or nothing was done on an open page for "
            f"{units.coarse(QUIET)}."
        )
        return
    _chosen(row)


def _ended(row: Row) -> bool:
    return row.run is None or row.run.status not in set(Status) or Status(row.run.status).final


def _cells(row: Row) -> tuple[str, ...]:
    method = all_methods()[row.run.method].title if row.run and row.run.method in all_methods() else ""
    progress = "ending" if row.ending else row.progress
    return (
        row.learner.title,
        pages.titles().get(row.place.page, row.place.page) if row.place else "–",
        _ago(row.place),
        f"{row.runs}",
        " · ".join(filter(None, (method, progress, f"{row.more} more" if row.more else ""))) or "–",
        units.size(row.kept),
        row.stuck or "–",
    )


def _kinds(row: Row) -> tuple[str, ...]:
    return (*[""] * (len(COLUMNS) - 1), "trained" if row.stuck else "")


def _ago(place: Place | None) -> str:
    if place is None:
        return "–"
    return "just now" if place.since < 60 else f"{units.coarse(place.since)} ago"


def _chosen(row: Row) -> None:
    with st.container(border=True):
        st.markdown(f"**{plain(row.learner.title)}** · {plain(_cells(row)[COLUMNS.index('Run')])}")
        if row.run is None:
            return
        if row.run.problem:
            st.markdown(f":red[:material/error: {plain(row.run.problem)}]")
        if not _ended(row):
            st.button(
                "Ending…" if row.ending else "End this run", key=f"class-end-{row.run.id}", disabled=row.ending,
                help="It ends after its current step. The learner is told by whom.",
                on_click=_end, args=(row.learner.owner, row.run.id),
            )  # fmt: skip


def _end(owner: str, identity: str) -> None:
    """For ``on_click``: heard even when the page is drawn anew before it comes to the button."""
    try:
        roll.end(owner, identity)
    except PeftLabError as error:
        st.error(plain(error))
