"""A belief that an experiment tests: its runs with their progress, the chart that settles it, the stored outcome."""

from __future__ import annotations

import textwrap
from concurrent.futures import Future
from dataclasses import dataclass
from itertools import pairwise

import plotly.graph_objects as go
import streamlit as st

from peft_lab.core import asking, inspector
from peft_lab.core.errors import BadInput, PeftLabError, RunError
from peft_lab.core.palette import faint
from peft_lab.core.units import Source
from peft_lab.interview.learners import schedule
from peft_lab.interview.learners.schedule import Learners
from peft_lab.interview.learners.storage import Result
from peft_lab.interview.predictions import (
    Contest,
    Inquiry,
    Prediction,
    PredictionOutcome,
    decide,
    decide_records,
    stored,
    submission,
)
from peft_lab.runs import store
from peft_lab.runs.queue import get_queue
from peft_lab.runs.store import Run
from peft_lab.runs.view import Status
from peft_lab.studies import experiments
from peft_lab.ui import state, theme
from peft_lab.ui.components import charts, figures
from peft_lab.ui.components.frame import part
from peft_lab.ui.components.waiting import come_back, look
from peft_lab.ui.foreign import plain
from peft_lab.ui.practice.learner import GUESSES
from peft_lab.ui.runs.shown import REFRESH, summaries

# ----------------------------------------
# A prediction that trains: its runs through the queue with their progress, finished equal ones used again.


RUNS = "contests"  # scope of the runs that a prediction waits for


def contest(prediction: Prediction) -> list[float] | None:
    """Return the figures of the runs; None while they are under way, when the page refreshes itself. Raises
    PeftLabError: a run that could not start, or did not finish."""
    assert isinstance(prediction.experiment, Contest)
    identities = state.remembered(RUNS, prediction.id, None)
    if identities is None:
        done = (experiments.run_of(spec.complete(), summaries()) for spec in prediction.experiment.runs)
        identities = [
            found.id if found and found.status == Status.DONE else get_queue().submit(spec)
            for found, spec in zip(done, prediction.experiment.runs, strict=True)
        ]
        state.remember(RUNS, prediction.id, identities)
    runs = list(map(store.get, identities))
    views = [run.view() for run in runs]
    failed = next((seen for seen in views if seen.status.final and seen.status is not Status.DONE), None)
    if failed is not None:
        raise RunError(f"A run did not finish ({failed.status}). {failed.message}".strip())
    if all(seen.status is Status.DONE for seen in views):
        outcome = decide_records(prediction, [run.record() for run in runs])
        return [figure.value for figure in outcome.figures]
    _progress(prediction.experiment.labels, runs)
    return None


def forget_runs(prediction: Prediction) -> None:
    """Let the next commitment look for its runs, or start them, again."""
    state.scope(RUNS).pop(prediction.id, None)


def _progress(labels: tuple[str, ...], runs: list[Run]) -> None:
    def progress() -> None:
        views = [run.view() for run in runs]
        for label, seen in zip(labels, views, strict=True):
            st.progress(min(1.0, seen.progress), text=f"**{label}** · {seen.status}")
        broken = any(seen.status.final and seen.status is not Status.DONE for seen in views)
        if broken or all(seen.status.final for seen in views):
            st.rerun()

    part(progress, every=REFRESH)


# ----------------------------------------
# The chart that settles a prediction: the contenders as bars, or the figure found among the options' ranges.


_GIGA = 1e9
_ROOM = 1.3  # the axis ends that much beyond the figure and the last limit
_PALE = 0.5  # opacity of a range
_WRAP = 26  # characters of an option's line beside the chart


def evidence(prediction: Prediction, outcome: PredictionOutcome) -> None:
    """Draw the chart, and a table of the contenders' figures."""
    charts.draw(chart_of(prediction, outcome), f"outcome-{prediction.id}")
    if prediction.rule == "bands":
        return
    figures.table(
        ("Case" if _categorical(prediction) else "Contender", "Result"),
        [(figure.label, figure.shown) for figure in outcome.figures],
        numeric=(1,),
    )


def chart_of(prediction: Prediction, outcome: PredictionOutcome) -> go.Figure:
    """Return the chart that settles it: the right option has the accent colour."""
    if prediction.rule == "bands":
        return _ranges(prediction, outcome)
    unit = outcome.figures[0].unit
    scale, axis = (_GIGA, "peak memory (GB)") if unit == "bytes" else (1, unit or "value")
    labels = [figure.label for figure in outcome.figures]
    decisive = "" if _categorical(prediction) else labels[outcome.right]
    values = [figure.value / scale for figure in outcome.figures]
    chart = charts.bars(labels, values, axis, height=70 + 44 * len(labels))
    colours = [theme.TRAINABLE if label == decisive else theme.MEMORY["weights"] for label in labels]
    chart.update_traces(marker={"color": colours})
    chart.update_yaxes(type="category")  # a label such as 2e-5 is no number
    return chart


def _ranges(prediction: Prediction, outcome: PredictionOutcome) -> go.Figure:
    """Return one row per option, drawn as its range; a line marks the measured figure."""
    found = outcome.figures[0]
    end = max(found.value, *prediction.bands) * _ROOM
    limits = (0.0, *prediction.bands, end)
    rows = ["<br>".join(textwrap.wrap(option, _WRAP)) for option in prediction.options]
    colours = [
        theme.TRAINABLE if index == outcome.right else theme.MEMORY["weights"] for index in range(len(rows))
    ]
    chart = go.Figure(
        go.Bar(
            y=rows,
            x=[high - low for low, high in pairwise(limits)],
            base=list(limits[:-1]),
            orientation="h",
            # pale, so that the line across is seen; the outline is what stands out from the page
            marker={
                "color": [faint(colour, _PALE) for colour in colours],
                "line": {"width": 2, "color": colours},
            },
            hovertemplate="%{y}<extra></extra>",
        )
    )
    chart.add_vline(x=found.value, line={"width": 3, "color": theme.TRAINABLE})
    chart.add_annotation(
        x=found.value, y=1, yref="paper", yanchor="bottom", showarrow=False, text=f"<b>{found.shown}</b>"
    )
    across = {"title": found.unit or "value", "range": [0, end]}
    up = {"autorange": "reversed", "title": None, "type": "category"}
    return charts.laid_out(chart, 90 + 48 * len(rows), across, up, 28, bargap=0.35)


def _categorical(prediction: Prediction) -> bool:
    return isinstance(prediction.experiment, Inquiry) and prediction.experiment.categorical


# ----------------------------------------
# From the guess to the figures: a guess is kept until the experiment has answered, then stored with its figures.


KIND = "prediction"


@dataclass(frozen=True)
class Guess:
    """What a learner committed to: an option's index, and how sure they were in percent."""

    option: int
    sure: int


def settled(file: Learners, learner: str) -> dict[str, Result]:
    """Return the learner's latest outcome of every prediction committed to."""
    return {result.content["id"]: result for result in file.results(learner, KIND, {"id": str})}


def replayed(prediction: Prediction, before: Result) -> PredictionOutcome | None:
    """Return the settled outcome; None if it was stored for an earlier form of the experiment."""
    try:
        return decide(prediction, before.content["values"])
    except BadInput:
        return None


def commit(prediction: Prediction, guess: Guess, file: Learners, learner: str, replay: bool) -> None:
    """Keep a guess and begin the experiment; ``replay``: take the stored run in its place."""
    if asking.class_is_on():
        schedule.commit_prediction(file, learner, prediction.id, guess.option)
    kept = stored(prediction)
    if replay and kept is not None:
        record(prediction, guess, list(kept.values), file, learner, kept.measured)
    else:
        state.remember(GUESSES, f"{learner}/{prediction.id}", guess)


def committed(prediction: Prediction, learner: str) -> Guess | None:
    """Return the guess whose experiment has not answered yet."""
    found: Guess | None = state.remembered(GUESSES, f"{learner}/{prediction.id}", None)
    return found


def settle(prediction: Prediction, guess: Guess, file: Learners, learner: str) -> None:
    """Run the experiment, and store its outcome once it is there; until then the page refreshes itself."""
    try:
        values = _values(prediction)
    except PeftLabError as error:
        st.error(plain(error))
        if st.button("Try again", icon=":material/replay:", key=f"retry-{prediction.id}"):
            forget_runs(prediction)
            st.rerun()
        return
    if values is None:
        return
    record(prediction, guess, values, file, learner)
    state.scope(GUESSES).pop(f"{learner}/{prediction.id}", None)
    st.rerun()


def announcement(prediction: Prediction) -> str:
    """Return what the experiment does and how long it takes, and whether a stored run can be shown instead."""
    kept = stored(prediction)
    more = f" A stored run is available, measured {kept.measured}." if kept else ""
    if isinstance(prediction.experiment, Contest):
        runs = prediction.experiment.runs
        return (
            f"Trains {len(runs)} small models here, one after another, {runs[0].steps} steps each: one or two "
            f"minutes. Finished runs with the same settings are reused.{more}"
        )
    kinds = {
        Source.COUNTED: "Builds the model without loading its weights, and counts its parameters.",
        Source.SIMULATED: "Simulates whole training steps: a few seconds.",
    }
    return kinds.get(
        prediction.experiment.source, f"Runs a small experiment on {asking.here()}: a few seconds."
    )


def _values(prediction: Prediction) -> list[float] | None:
    """Return the experiment's figures; None while it is under way, when the page refreshes itself."""
    if isinstance(prediction.experiment, Contest):
        return contest(prediction)
    function, arguments = submission(prediction)
    simulated = prediction.experiment.source is Source.SIMULATED
    # a process that does not count, so that other pages stay quick
    worker = inspector.Worker.MEMORY if simulated else inspector.Worker.ANSWERS
    future: Future[list[float]] = inspector.get_inspector(worker).submit(function, *arguments)
    seen = look(future)
    if seen.open is None:
        return list(future.result())
    come_back(seen)
    st.markdown(f":material/hourglass_top: {'Simulating…' if simulated else 'Running…'}")
    return None


def record(
    prediction: Prediction,
    guess: Guess,
    values: list[float],
    file: Learners,
    learner: str,
    measured: str = "",
) -> None:
    """Store the guess and the figures; ``measured``: for figures not measured here."""
    outcome = decide(prediction, values)
    known = {"id": prediction.id, "guess": guess.option, "right": outcome.right, "sure": guess.sure}
    found = {"correct": guess.option == outcome.right, "values": values, "measured": measured}
    file.add_result(learner, KIND, known | found)
