"""How far a sweep is; comes back by itself while it goes on."""

from __future__ import annotations

import streamlit as st

from peft_lab import units
from peft_lab.compare.found import runs_of
from peft_lab.runs.view import Status
from peft_lab.sweeping import trials
from peft_lab.sweeping.store import KeptSweep
from peft_lab.sweeping.trials import EARLY, TO_COME, Trial
from peft_lab.ui.components.parts import part
from peft_lab.ui.components.trackers import told_to
from peft_lab.ui.foreign import plain

REFRESH = 1.0  # seconds between looks
LISTED = 3  # runs under way that are named
STEPS_SHARE = 0.9  # of a run's progress that its steps make up; the rest is its evaluation


def watch(sweep: KeptSweep) -> list[Trial]:
    """Draw how far it is, and draw the page anew when a run has ended; the runs as they stand."""
    found = trials.trials(sweep.specs)
    if not _going(sweep, found):
        _bar(found, going=False)
        told_to([run for run in runs_of(sweep.specs) if run])
        return found
    before = _ended(found)

    def progress() -> None:
        now = trials.trials(sweep.specs)
        if not _going(sweep, now) or _ended(now) != before:
            st.rerun()
        _bar(now, going=True)

    part(progress, every=REFRESH)
    return found


def _going(sweep: KeptSweep, found: list[Trial]) -> bool:
    return sweep.running or any(trial.under_way for trial in found)


def _ended(found: list[Trial]) -> int:
    return sum(trial.status != TO_COME and not trial.under_way for trial in found)


def _bar(found: list[Trial], going: bool) -> None:
    total = len(found)
    done = sum(trial.done for trial in found)
    running = [trial for trial in found if trial.under_way]
    to_come = sum(trial.status == TO_COME for trial in found)
    early = sum(trial.status == EARLY for trial in found)
    ended = total - done - len(running) - to_come - early
    share = sum(STEPS_SHARE * trial.step / trial.spec.steps for trial in running)
    counts = [f"**{done:,} of {total:,} runs done**"]
    counts += [f"{len(running):,} running"] if running else []
    counts += [f"{early:,} ended early"] if early else []
    counts += [f"{ended:,} ended without a result"] if ended else []
    counts += [f"{to_come:,} to come"] if to_come else []
    st.progress(min(1.0, (done + early + share) / total), text=" · ".join(counts))
    if early:
        st.markdown(
            ":small[What ended early had a higher training loss at a rung than most that came there. It has no score, "
            "and is not among those that the best is chosen from.]"
        )
    for trial in running[:LISTED]:
        at = f", step {trial.step:,} of {trial.spec.steps:,}" if trial.status == Status.RUNNING else ""
        st.markdown(f":small[{_named(trial)}: {trial.status}{at}]")
    if not going and done + early < total:
        st.warning(
            "Nobody carries this sweep out now. Give the same command again, and it goes on where it was."
        )
    _why(found)


def _named(trial: Trial) -> str:
    return f"{plain(trial.run)}, seed {trial.spec.seed}"


def _why(found: list[Trial]) -> None:
    """Why runs failed, each reason once."""
    reasons: dict[str, int] = {}
    for trial in found:
        if trial.message and trial.status in (Status.FAILED, Status.LOST, "damaged"):
            reasons[trial.message] = reasons.get(trial.message, 0) + 1
    for message, many in list(reasons.items())[:LISTED]:
        st.markdown(f":red[:material/error: {units.in_words(many).capitalize()} of them: {plain(message)}]")
