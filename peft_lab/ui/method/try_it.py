"""Try it: a method's experiments. One click queues the runs; the figures and what they say stand here afterwards."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from peft_lab.core import units
from peft_lab.core.errors import PeftLabError
from peft_lab.core.units import Source
from peft_lab.methods import get_method
from peft_lab.runs import store
from peft_lab.runs.queue import get_queue
from peft_lab.runs.view import Status
from peft_lab.studies.experiments import results
from peft_lab.studies.experiments.base import Experiment, ExperimentOutcome
from peft_lab.studies.experiments.results import PlannedRun
from peft_lab.ui.components import charts, figures
from peft_lab.ui.components.frame import errors_boxed, part
from peft_lab.ui.foreign import plain
from peft_lab.ui.runs.page import open_run
from peft_lab.ui.runs.shown import stop, summaries

PLACES = {"train": "Train", "look inside": "Look inside"}  # tabs by what the address calls them
REFRESH = 0.7  # seconds between looks at runs that are going


def try_it(experiments: Sequence[Experiment]) -> None:
    st.markdown(
        "Guess first, then run it. One click trains each variant as an ordinary run with all other settings at "
        "their defaults; a finished run with the same settings is reused."
    )
    for experiment in experiments:
        with st.container(border=True):
            st.markdown(f"#### {experiment.title}")
            experiment_card(experiment)


def experiment_card(experiment: Experiment) -> None:
    """Draw one experiment below its title: the question, its runs, and what they say."""
    st.markdown(experiment.question)
    try:
        complete = [request.complete() for request in experiment.requests()]
    except PeftLabError as error:
        st.markdown(f":orange[:material/info: This cannot run here: {plain(error)}]")
        return
    specs = {arm.label: spec for arm, spec in zip(experiment.arms, complete, strict=True)}
    found = results.planned(specs, summaries())
    going = any(item.under_way for item in found)

    def standing() -> None:
        now = results.planned(specs, summaries())
        if any(item.line for item in now):
            _arms(experiment, now)
        else:
            st.markdown(f":small[{_planned(now)}]")
        _button(experiment, now)
        if any(item.done for item in now) or going:
            _curves(experiment, now)
        if all(item.status in (Status.DONE, Status.FAILED) for item in now):
            _conclusion(experiment, now)
        if going and not any(item.under_way for item in now):
            st.rerun()

    part(standing, every=REFRESH if going else None)


def _arms(experiment: Experiment, found: Sequence[PlannedRun]) -> None:
    """Draw what each arm is, and how far it is or what it gave."""
    outcomes = _outcomes(found)
    rows = []
    for item, outcome in zip(found, outcomes, strict=True):
        reading = results.read(experiment, item.label, outcome) if outcome else None
        shown = reading.values if reading else ()
        cells = [quantity.show(value) for quantity, value in zip(experiment.quantities, shown, strict=False)]
        cells += ["–"] * (len(experiment.quantities) - len(cells))
        rows.append((item.label, *cells, _status(item)))
    header = ("", *(quantity.title for quantity in experiment.quantities), "Run")
    figures.table(header, rows, numeric=range(1, len(header) - 1))


def _planned(found: Sequence[PlannedRun]) -> str:
    """Return the arms in a line, while there is nothing to tell of them."""
    steps = sorted({item.spec.steps for item in found})
    length = f"{steps[0]} steps each" if len(steps) == 1 else f"{steps[0]} to {steps[-1]} steps"
    return f"{' · '.join(item.label for item in found)} — {length}"


def _status(item: PlannedRun) -> str:
    if item.line is None:
        return f"{get_method(item.spec.method).title}, {item.spec.steps} steps"
    if item.done:
        return f"done, {units.seconds(item.line.seconds or 0)}"
    if item.status is Status.QUEUED:
        return "queued"
    if item.under_way:
        seen = store.get(item.line.id).view()
        share = (
            f"step {seen.step} of {seen.steps}" if seen.status is Status.RUNNING else f"{seen.progress:.0%}"
        )
        return f"{seen.status}, {share}"
    return f"{item.status}"


def _stop(found: Sequence[PlannedRun]) -> None:
    for item in found:
        if item.under_way and item.line:
            stop(item.line.id)


def _button(experiment: Experiment, found: Sequence[PlannedRun]) -> None:
    missing = [item for item in found if item.line is None or item.status is Status.FAILED]
    if any(item.under_way for item in found):
        st.button("Stop", key=f"{experiment.id}-stop", icon=":material/stop:", on_click=_stop, args=(found,))
        return
    if not missing:
        return
    count = f"{len(missing)} short run" + ("s" if len(missing) > 1 else "")
    if st.button(
        f"Run it: {count}", key=f"{experiment.id}-run", type="primary", icon=":material/play_arrow:"
    ):
        train(missing)


def train(missing: Sequence[PlannedRun]) -> None:
    """Queue runs and draw the page anew, or write why one of them was refused."""
    with errors_boxed():
        for item in missing:
            get_queue().submit(item.spec)
        st.rerun()


def _curves(experiment: Experiment, found: Sequence[PlannedRun]) -> None:
    series = {}
    for item in found:
        if item.line is not None and item.status is not Status.QUEUED:
            losses = store.get(item.line.id).view().losses
            if losses:
                series[item.label] = (list(range(1, len(losses) + 1)), losses)
    if series:
        steps = max(item.spec.steps for item in found)
        figure = charts.curves(series, "optimizer step", "training loss (nats)", height=260, until=steps)
        st.plotly_chart(figure, key=f"{experiment.id}-curves", config=charts.CONFIG)


def _conclusion(experiment: Experiment, found: Sequence[PlannedRun]) -> None:
    """Draw what was seen, why, and the way to each run."""
    outcomes = _outcomes(found)
    readings = [
        results.read(experiment, item.label, outcome)
        if outcome
        else results.Reading(item.label, problem=item.line.problem if item.line else "it has not run")
        for item, outcome in zip(found, outcomes, strict=True)
    ]
    conclusion = results.conclude(experiment, readings, outcomes)
    icon = {True: ":green[:material/check:]", False: ":orange[:material/priority_high:]", None: ""}[
        conclusion.holds
    ]
    st.markdown(f"{icon} **{conclusion.text}** {figures.badge(Source.MEASURED)}")
    st.markdown(experiment.why)
    seeds = (
        ""
        if experiment.expect.reseeded
        else (" One seed each: another seed may turn a small difference around.")
    )
    st.caption(
        f"{experiment.source}.{seeds} Open a run to load its settings and to see {experiment.quantity.title} on its "
        f"page, under {PLACES[experiment.quantity.tab]}."
    )
    with st.container(horizontal=True):
        for item in found:
            if item.line and st.button(f"Open {item.label}", key=f"{experiment.id}-open-{item.label}"):
                open_run(item.line, experiment.quantity.tab)


def _outcomes(found: Sequence[PlannedRun]) -> list[ExperimentOutcome | None]:
    return [
        results.outcome_of(store.get(item.line.id)) if item.line and item.done else None for item in found
    ]
