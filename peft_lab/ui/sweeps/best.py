"""The best setting of a sweep, with what its seeds say about how sure that is."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlencode

import streamlit as st

from peft_lab import units
from peft_lab.runs.spec import RunSpec
from peft_lab.sweep.groups import SURE
from peft_lab.sweep.landscape import METRIC
from peft_lab.sweeping import picture, trials
from peft_lab.sweeping.trials import Setting
from peft_lab.ui.components import figures
from peft_lab.ui.foreign import plain
from peft_lab.ui.sweeps import choosing
from peft_lab.ui.sweeps.choosing import written


def section(settings: Sequence[Setting], figure: str, spec: RunSpec) -> None:
    chosen = trials.best(settings, figure)
    if chosen is None:
        return
    scores = chosen.found(figure)
    mean, title = sum(scores) / len(scores), choosing.titles(spec)[figure]
    compared = len(trials.comparable(settings, figure))
    with st.container(border=True):
        st.markdown(
            f"##### Best so far: {plain(picture.told(chosen.values))}"
            if _open(settings)
            else f"##### Best: {plain(picture.told(chosen.values))}"
        )
        st.markdown(
            f"{plain(title)}: **{written(mean, figure)}**{_interval(scores, figure)} {figures.badge('measured')}"
        )
        links = [f"[seed {trial.spec.seed}]({address(trial)})" for trial in chosen.trials if trial.done]
        st.markdown(f":small[{_how(len(scores), compared)}]")
        st.markdown(f"Open its runs: {', '.join(links)}")


def address(trial: trials.Trial) -> str:
    """Of a run, on its method's page."""
    return f"{trial.spec.method}?{urlencode({'run': trial.run, 'tab': 'train'})}"


def _open(settings: Sequence[Setting]) -> bool:
    return any(
        trial.under_way or trial.status == trials.TO_COME for each in settings for trial in each.trials
    )


def _interval(scores: Sequence[float], figure: str) -> str:
    found = trials.interval(scores)
    if found is None:
        return ", without an interval: one seed alone says nothing of how others would have done"
    low, high = found
    if figure == METRIC:
        low, high = max(0.0, low), min(1.0, high)
    return f", from {written(low, figure)} to {written(high, figure)}"


def _how(seeds: int, compared: int) -> str:
    how = (
        f"The mean of {units.in_words(seeds)} seeds; the interval is Student's t over them with {SURE:.0%}, a share "
        "cut at 0 and 1. "
        if seeds > 1
        else ""
    )
    luck = (
        f"It is the best of {compared:,} settings with as many seeds: the best of many is partly luck, and seeds "
        "that it was not chosen by would judge it worse."
        if compared > 1
        else ""
    )
    return how + luck
