"""The foot of the knobs, always in view: Train while nothing trains, else where the run stands; on every tab."""

from __future__ import annotations

from concurrent.futures import Future
from contextlib import suppress

import streamlit as st

from peft_lab.errors import PeftLabError, RunError
from peft_lab.queue import limits
from peft_lab.queue.queue import get_queue
from peft_lab.runs import forecast, starters, store
from peft_lab.runs.forecast import Forecast
from peft_lab.runs.run_work import RunWork
from peft_lab.runs.spec import RunSpec
from peft_lab.runs.view import RunView, Status
from peft_lab.ui import state
from peft_lab.ui.components.knobs import Choice
from peft_lab.ui.components.parts import part
from peft_lab.ui.components.tabs import show_tab
from peft_lab.ui.foreign import plain
from peft_lab.ui.method.sections import duration, settings
from peft_lab.ui.runs.shown import TRAIN, show_run, shown_run
from peft_lab.ui.server.browser_mark import browser_mark
from peft_lab.units import roughly

REFRESH = 1.0  # seconds between looks at a run that is going
_BEGIN = "begin"


def begin(slug: str) -> None:
    """Let the method's page start its run as soon as it is drawn the next time."""
    state.remember(slug, _BEGIN, True)


def train_bar(choice: Choice, form_is_open: bool, work: Future[RunWork] | None) -> None:
    """Draw the foot.

    Args:
        form_is_open: what is wrong with a training setting is then said at its control.
        work: what says how long the run will take (:func:`.duration.ask_work`).
    """
    slug = choice.spec.slug
    seen = _under_way(slug)
    if seen is not None:
        state.scope(slug).pop(_BEGIN, None)
        part(lambda: _standing(slug), every=REFRESH)
        return
    try:
        spec = settings.asked(choice)
    except PeftLabError as error:
        if not form_is_open:
            st.markdown(f":red[:material/error: {plain(error)}]")
        return
    if spec is None:
        return
    refused = limits.refusal(spec)
    said = duration.expected(work, spec)
    pressed = st.button(
        f"{TRAIN} · {duration.words(said)}" if said else TRAIN,
        type="primary",
        key=f"{slug}-train",
        width="stretch",
        disabled=refused is not None,
    )
    limit = refused or limits.said()
    if limit:
        st.caption(limit)
    if pressed or state.scope(slug).get(_BEGIN):
        _start(choice, spec, said)
    duration.below(choice, said)


def _under_way(slug: str) -> RunView | None:
    """The page's run as it stands, if it has not ended."""
    run = shown_run(slug)
    try:
        seen = run.view() if run is not None else None
    except RunError:
        return None
    return seen if seen is not None and not seen.status.final else None


def _standing(slug: str) -> None:
    seen = _under_way(slug)
    if seen is None:
        st.rerun()
        return
    st.progress(min(1.0, seen.progress), text=_words(seen))
    st.caption("A knob that is moved now is for the next run.")


def _words(seen: RunView) -> str:
    if seen.status is Status.RUNNING:
        if not seen.step:
            return f"Taking the first of {seen.steps} steps"
        left = f" · {roughly(seen.eta)} left" if seen.eta else ""
        return f"Step {seen.step} of {seen.steps}{left}"
    return {Status.QUEUED: "Queued", Status.STARTING: "Starting"}.get(seen.status, "Scoring")


def _start(choice: Choice, spec: RunSpec, said: Forecast | None) -> None:
    """Train, and keep what was ``said`` of it.

    Only a run that may not fit into memory takes a moment, in which its step is simulated.
    """
    try:
        with st.spinner("Checking"):
            state.scope(choice.spec.slug).pop(_BEGIN, None)
            identity = get_queue().submit(spec)
    except PeftLabError as error:
        st.markdown(f":red[:material/error: {plain(error)}]")
        return
    starters.note(store.get(identity), browser_mark())
    if said is not None:
        with suppress(OSError):  # a run trains no worse where that cannot be written
            forecast.note(store.get(identity), said)
    show_run(choice.spec.slug, identity)
    show_tab(choice.spec.slug, TRAIN)
    st.rerun()
