"""How far a comparison or a sweep is: its runs, Stop, and going on after an interruption."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Callable

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from peft_lab.core import units
from peft_lab.methods import all_methods
from peft_lab.runs import allowance, store
from peft_lab.runs.queue import get_queue
from peft_lab.runs.view import Status
from peft_lab.studies import carrying
from peft_lab.studies.store import Study, runs_of
from peft_lab.studies.sweeps.store import EARLY, TO_COME, KeptSweep, Trial, trials
from peft_lab.ui import state
from peft_lab.ui.components.figures import told_to
from peft_lab.ui.components.frame import errors_boxed, part
from peft_lab.ui.foreign import plain
from peft_lab.ui.runs.shown import REFRESH

LISTED = 3  # runs under way that are named
STEPS_SHARE = 0.9  # of a run's progress that its steps make up; the rest is its evaluation


def start_study(
    scope: str, label: str, runs: int, steps: int, done: int, keep: Callable[[], Study]
) -> DeltaGenerator:
    """Draw the button that keeps and starts a study, with its runs beside it; return the place beside it.

    Args:
        runs: how many runs of ``steps`` it has, ``done`` of them already.
    """
    left, right = st.columns([1, 4], vertical_alignment="center")
    refused = allowance.refusal_of_steps(steps)
    pressed = left.button(
        label, type="primary", key=f"{scope}-start", width="stretch", disabled=refused is not None
    )
    known = f"; {done} of them already done" if done else ""
    right.markdown(refused or f"{units.several(runs, 'run')} of {steps:,} steps{known}.")
    if pressed:
        with errors_boxed():
            study = keep()
            carrying.start(study, get_queue())
            state.renew(scope)
            state.remember(scope, study.NOUN, study.id)
            st.rerun()
    return right


def watch_study(study: Study) -> list[Trial]:
    """Draw the progress, redraw the page when a run has ended, and return the runs as they are now."""
    found = trials(study.specs)
    if not _going(study, found):
        _progress(study, found, going=False)
        told_to([run for run in runs_of(study.specs) if run])
        return found
    before = _ended(found)

    def progress() -> None:
        now = trials(study.specs)
        if not _going(study, now) or _ended(now) != before:
            st.rerun()
        _progress(study, now, going=True)

    part(progress, every=REFRESH)
    return found


def _going(study: Study, found: list[Trial]) -> bool:
    return study.running or carrying.at_work(study) or any(trial.under_way for trial in found)


def _ended(found: list[Trial]) -> int:
    return sum(trial.status != TO_COME and not trial.under_way for trial in found)


def _progress(study: Study, found: list[Trial], going: bool) -> None:
    done = [trial for trial in found if trial.done]
    running = [trial for trial in found if trial.under_way]
    states = Counter(trial.status for trial in found)
    early, to_come, total = states[EARLY], states[TO_COME], len(found)
    lost = total - len(done) - len(running) - to_come - early
    if going or early or len(done) < total:
        counts = {"running": len(running), "ended early": early, "without a result": lost, "to come": to_come}
        said = [
            f"**{len(done):,} of {total:,} runs done**",
            *(f"{many:,} {what}" for what, many in counts.items() if many),
        ]
        said += _left(done, total) if going else []
        share = sum(STEPS_SHARE * trial.step / trial.spec.steps for trial in running)
        st.progress(min(1.0, (len(done) + early + share) / total), text=" · ".join(said))
    if early:
        st.markdown(
            ":small[Runs that ended early had a higher training loss at a checkpoint (rung) than most others. They "
            "have no score and cannot be the best.]"
        )
    for trial in running[:LISTED]:
        at = f", step {trial.step:,} of {trial.spec.steps:,}" if trial.status == Status.RUNNING else ""
        title = all_methods()[trial.spec.method].title
        st.markdown(f":small[{title}, seed {trial.spec.seed}: {trial.status}{at} ({plain(trial.run)})]")
    if going and study.asked_to_stop():
        st.markdown("Stopping after the current step…")
    elif going:  # a callback is heard even when the page is drawn anew before it comes to this button
        st.button("Stop", key="study-stop", on_click=study.ask_to_stop)
    elif len(done) + early < total:
        _rest(study, len(done), total, states[Status.FAILED])
    failed = (Status.FAILED, Status.LOST, "damaged")
    reasons = Counter(trial.message for trial in found if trial.message and trial.status in failed)
    for message, many in list(reasons.items())[:LISTED]:
        st.markdown(f":red[:material/error: {units.several(many, 'run')}: {plain(message)}]")


def _left(done: list[Trial], total: int) -> list[str]:
    """Return how long the rest takes if each run takes as long as the first ones did; nothing while none is done."""
    views = [store.get(trial.run).view() for trial in done[:LISTED]]
    taken = [seen.ended - seen.begun for seen in views if seen.ended and seen.begun]
    return [f"about {units.roughly(statistics.fmean(taken) * (total - len(done)))} left"] if taken else []


def _rest(study: Study, done: int, total: int, failed: int) -> None:
    if isinstance(study, KeptSweep) and study.ends_early:
        st.warning("This sweep is not running. To continue it, run the same command again.")
        return
    left, right = st.columns([4, 1], vertical_alignment="center")
    label, why = "Continue", plain(study.problem) or f"The {study.NOUN} was stopped, or the app closed."
    said = f"{done:,} of {total:,} runs are done. {why} Finished runs are not repeated."
    if done + failed == total:
        label, said = "Try again", f"{done:,} of {total:,} runs are done and {failed:,} failed."
    left.warning(said)
    if right.button(label, type="primary", key=f"study-resume-{study.id}", width="stretch"):
        carrying.start(study, get_queue())
        st.rerun()
