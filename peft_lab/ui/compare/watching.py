"""A comparison under way: how far it is, Stop, and going on after an interruption."""

from __future__ import annotations

import statistics

import streamlit as st

from peft_lab import units
from peft_lab.compare import carrying
from peft_lab.compare.plan import ComparisonPlan
from peft_lab.compare.store import Comparison, Standing
from peft_lab.methods import all_methods
from peft_lab.queue.queue import get_queue
from peft_lab.runs.view import Status
from peft_lab.ui import state
from peft_lab.ui.compare.setup import SCOPE
from peft_lab.ui.components.parts import part
from peft_lab.ui.components.trackers import told_to
from peft_lab.ui.foreign import plain

REFRESH = 1.0  # seconds between looks
STEPS_SHARE = 0.7  # of a run's progress that its steps make up; the rest is its evaluation


def begin(comparison: Comparison) -> None:
    """Carry it out here, or go on with it."""
    carrying.start(comparison, get_queue())


def watch(comparison: Comparison, plan: ComparisonPlan) -> None:
    """Draw how far it is; comes back by itself while it goes on, and draws the page anew when a run is done."""
    standing = comparison.standing(plan)
    going = standing.running or carrying.at_work(comparison)
    if not going:
        if standing.status != "done":
            _rest(comparison, standing, plan)
        told_to(list(standing.runs.values()))
        return
    before = len(standing.done) + len(standing.failed)

    def progress() -> None:
        now = comparison.standing(plan)
        still = now.running or carrying.at_work(comparison)
        if not still or len(now.done) + len(now.failed) != before:
            st.rerun()
        _bar(comparison, plan, now)

    part(progress, every=REFRESH)


def _bar(comparison: Comparison, plan: ComparisonPlan, standing: Standing) -> None:
    total, done = len(plan.cells), len(standing.done)
    text, share = f"**{done} of {total} runs done**", 0.0
    for cell in standing.pending:
        run = standing.runs.get(cell)
        if run is None:
            continue
        seen = run.view()
        if seen.status.final:
            continue
        text += f" · {all_methods()[cell.method].title}, seed {cell.seed}: {seen.status}"
        share = seen.step / seen.steps
        if seen.status is Status.RUNNING and seen.losses:
            text += f", step {seen.step} of {seen.steps}, loss {seen.losses[-1]:.3f}"
        break
    left = _left(standing)
    if left:
        text += f" · about {units.roughly(left)} left at this pace"
    bar, stop = st.columns([6, 1], vertical_alignment="center")
    bar.progress(min(1.0, (done + STEPS_SHARE * share) / total), text=text)
    if comparison.asked_to_stop():
        stop.markdown("Stopping after this step…")
    else:
        # A callback is heard even when the page is drawn anew before it comes to this button.
        stop.button("Stop", key="compare-stop", width="stretch", on_click=comparison.ask_to_stop)


def _left(standing: Standing) -> float | None:
    """Seconds, from how long the finished runs took from start to end."""
    views = [standing.runs[cell].view() for cell in standing.done]
    taken = [seen.ended - seen.begun for seen in views if seen.ended and seen.begun]
    return statistics.fmean(taken) * len(standing.pending) if taken else None


def _rest(comparison: Comparison, standing: Standing, plan: ComparisonPlan) -> None:
    """Not under way and not complete: say so and offer to go on."""
    done, total = len(standing.done), len(plan.cells)
    left, right = st.columns([4, 1], vertical_alignment="center")
    if standing.status == "incomplete":
        left.warning(
            f"{done} of {total} runs are done, {len(standing.failed)} failed; the reasons are in the table."
        )
        label = "Try again"
    else:
        why = plain(comparison.problem) or "It was stopped, or the app ended before it was done."
        left.warning(f"{done} of {total} runs are done. {why} Finished runs are kept and not repeated.")
        label = "Go on"
    if right.button(label, type="primary", key=state.widget_key(SCOPE, "resume"), width="stretch"):
        begin(comparison)
        st.rerun()
