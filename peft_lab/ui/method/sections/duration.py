"""How long Train will take: on its button before a run, beside what it took after; and the way to have it measured."""

from __future__ import annotations

from concurrent.futures import Future

import streamlit as st

from peft_lab import units
from peft_lab.classroom import mode
from peft_lab.errors import PeftLabError
from peft_lab.queue import calibrating
from peft_lab.runs import forecast, said
from peft_lab.runs.forecast import Forecast
from peft_lab.runs.run_work import RunWork, run_work
from peft_lab.runs.said import Kept
from peft_lab.runs.spec import RunSpec
from peft_lab.timing import here
from peft_lab.ui.components import figures
from peft_lab.ui.components.knobs import Choice
from peft_lab.ui.foreign import plain
from peft_lab.ui.method.sections import settings
from peft_lab.ui.runs.shown import summaries
from peft_lab.units import Source
from peft_lab.workers.pool import get_pool

URGENCY = 2  # after the peak that the headline shows


def ask_work(choice: Choice) -> Future[RunWork] | None:
    """Ask for the work of the run that Train would start; ``None`` where nothing can be said of its seconds."""
    if not choice.valid or not _predicts(choice) or not here.complete():
        return None
    try:
        spec = settings.planned(choice)
    except PeftLabError:
        return None
    return None if spec is None else get_pool().submit(URGENCY, run_work, spec.to_dict())


def _predicts(choice: Choice) -> bool:
    return forecast.predicts(choice.entry.kind, choice.task or "")


def expected(work: Future[RunWork] | None, spec: RunSpec) -> Forecast | None:
    """What is said of the run; ``None`` while its work is traced, and where it cannot be."""
    if work is None or not work.done() or work.cancelled():
        return None
    try:
        return forecast.forecast(work.result(), spec, summaries())
    except PeftLabError:  # the headline says why a step cannot be simulated
        return None


def words(found: Forecast) -> str:
    """As the button has it."""
    return said.told(found.seconds, said.errors(line.kept for line in summaries()))


def below(choice: Choice, found: Forecast | None) -> None:
    """Under the button: what its figure is made of, or the offer to measure the machine."""
    if found is not None:
        st.caption(_made_of(found), help=_parts(found))
        return
    if not _predicts(choice) or here.complete():
        return
    asked = calibrating.under_way()
    if asked is not None and not asked.done():
        st.caption(f"Measuring {mode.machine()}: a few seconds…")
        return
    refused = calibrating.refusal()
    pressed = st.button(
        "Say how long it takes",
        key=f"{choice.spec.slug}-calibrate",
        type="tertiary",
        icon=":material/timer:",
        disabled=bool(refused),
        help=refused
        or f"Measures {mode.machine()} once, in a few seconds. The button then says how long a run takes.",
    )
    problem = asked.exception() if asked is not None else None
    if problem is not None:
        st.markdown(f":red[:material/error: {plain(problem)}]")
    if pressed:
        calibrating.begin()
        st.rerun()


def _made_of(found: Forecast) -> str:
    return f"{said.made_of(found.like)} {figures.badge(Source.SIMULATED)}"


def _parts(found: Forecast) -> str:
    share = found.seconds / found.plain
    return " · ".join(
        f"{name} {units.seconds(seconds * share)}" for name, seconds in found.parts.items() if seconds
    )


def beside(kept: Kept | None) -> str:
    """After a run: what it took beside what was said, with its source; empty where nothing was said."""
    sentence = "" if kept is None else said.beside(kept.seconds, kept.took)
    return f"{sentence} {figures.badge(Source.MEASURED)}" if sentence else ""
