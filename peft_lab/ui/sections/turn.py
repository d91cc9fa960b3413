"""A queued run on screen: what trains before it, the way there, and about when its own turn comes."""

from __future__ import annotations

import streamlit as st

from peft_lab.errors import RunError
from peft_lab.methods import all_methods
from peft_lab.models import catalogue
from peft_lab.runs import store, turns
from peft_lab.runs.queue import alive
from peft_lab.runs.store import Run, RunSummary
from peft_lab.runs.turns import Left, Pace
from peft_lab.runs.view import RunView, Status
from peft_lab.ui.opening import open_run
from peft_lab.ui.runs import summaries

SHOWN = 3  # runs that are named; more are counted


def turn(run: Run, slug: str) -> None:
    """One line on when the run starts, and a button for each of the first runs before it."""
    before = ahead(run)
    if not before:
        st.markdown("**Queued** · it is next")
        return
    when = begins(starts_in(before))
    number = len(before)
    st.markdown(f"**Queued** · {number} {'run' if number == 1 else 'runs'} before this one{when}")
    for line, seen in before[:SHOWN]:
        opens = st.button(
            f"{described(line)} · {_standing(line, seen)}",
            key=f"{slug}-before-{line.id}",
            icon=":material/arrow_forward:",
            type="tertiary",
            help="Open this run on its method's page.",
        )
        if opens:
            open_run(line)
    if number > SHOWN:
        st.caption(f"and {number - SHOWN} more")


def ahead(run: Run) -> list[tuple[RunSummary, RunView]]:
    """Runs that go before, the one that trains now first."""
    events = run.events()
    own = events[0]["time"] if events else float("inf")
    rows = []
    for line in summaries():
        if line.id == run.id or line.status == store.DAMAGED or Status(line.status).final:
            continue
        if (line.created, line.id) >= (own, run.id):
            continue
        try:
            other = store.get(line.id)
            if _owned(other):
                rows.append((line, other.view()))
        except RunError:
            continue  # deleted meanwhile
    return sorted(rows, key=lambda row: (row[0].created, row[0].id))


def _owned(run: Run) -> bool:
    """Whether the process that queued the run still is there; what nobody will start is not waited for."""
    events = run.events()
    owner = events[0].get("owner") if events else None
    return isinstance(owner, dict) and {"pid", "started"} <= owner.keys() and alive(owner)


def starts_in(before: list[tuple[RunSummary, RunView]]) -> Left:
    """Until all of them have ended."""
    each = [
        turns.left(seen, line.spec, _known(line)) if line.spec else Left(0, False) for line, seen in before
    ]
    return turns.all_left(each)


def begins(waits: Left) -> str:
    """When the turn comes, as the end of a line; empty where nothing is known."""
    if waits.whole:
        return f" · starts in about {roughly(waits.seconds)}"
    return f" · starts in {roughly(waits.seconds)} at the earliest" if waits.seconds > 0 else ""


def _known(line: RunSummary) -> Pace:
    """The pace of the newest finished run of the same method, model, task and batch."""
    for other in summaries():
        if other.status != Status.DONE or other.spec is None or line.spec is None:
            continue
        same = (other.method, other.model, other.task) == (line.method, line.model, line.task)
        if same and other.spec.batch == line.spec.batch:
            return turns.pace(store.get(other.id).view())
    return Pace()


def roughly(seconds: float) -> str:
    """An estimate is not told to the second: '20 s', '3 min', '1 h 10 min'."""
    tens = max(10, 10 * round(seconds / 10))
    if tens < 120:
        return f"{tens} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def described(line: RunSummary) -> str:
    method = all_methods()[line.method].title if line.method in all_methods() else line.method
    model = catalogue()[line.model].title if line.model in catalogue() else line.model
    return f"{method} on {model}"


def _standing(line: RunSummary, seen: RunView) -> str:
    if seen.status is Status.RUNNING:
        return f"step {seen.step} of {seen.steps}"
    return {
        Status.QUEUED: "queued",
        Status.STARTING: "starting",
        Status.EVALUATING: "being scored",
    }.get(seen.status, str(seen.status))
