"""A queued run on screen: what trains before it, the way there, and about when its own turn comes."""

from __future__ import annotations

import streamlit as st

from peft_lab import units
from peft_lab.methods import all_methods
from peft_lab.models.catalogue import model_title
from peft_lab.queue.ahead import Before, ahead, starts_in
from peft_lab.runs.store import Run
from peft_lab.runs.view import Status
from peft_lab.ui.foreign import plain
from peft_lab.ui.runs.opening import open_run
from peft_lab.ui.runs.shown import summaries

SHOWN = 3  # runs that are named; more are counted


def turn(run: Run, slug: str) -> None:
    """One line on when the run starts, and a button for each of the first runs before it."""
    before = ahead(run.id)
    if not before:
        st.markdown("**Queued** · next in line")
        return
    seconds = starts_in(before)
    when = "" if seconds is None else f" · starts in about {units.roughly(seconds)}"
    number = len(before)
    st.markdown(f"**Queued** · {number} {'run' if number == 1 else 'runs'} before this one{when}")
    for other in before[:SHOWN]:
        if other.spec is None:
            st.caption(f"{plain(described(other))} · {_standing(other)}")
            continue
        opens = st.button(
            f"{plain(described(other))} · {_standing(other)}",
            key=f"{slug}-before-{other.id}",
            icon=":material/arrow_forward:",
            type="tertiary",
            help="Open this run on its method's page.",
            wrap=True,
        )
        line = next((line for line in summaries() if line.id == other.id), None)
        if opens and line is not None:
            open_run(line)
    if number > SHOWN:
        st.caption(f"and {number - SHOWN} more")


def described(run: Before) -> str:
    spec = run.spec
    if spec is None:
        return "A run of somebody else in this class"
    method = all_methods()[spec.method].title if spec.method in all_methods() else spec.method
    model = model_title(spec.model)
    return f"{method} on {model}"


def _standing(run: Before) -> str:
    if run.status is Status.RUNNING:
        return f"step {run.step} of {run.steps}"
    return {
        Status.QUEUED: "queued",
        Status.STARTING: "starting",
        Status.EVALUATING: "being scored",
    }.get(run.status, str(run.status))
