"""The pages Practice and Misconceptions: predict, then run the experiment, whose figures decide.

Outcomes are stored with the learner and replayed; the experiment can be run again.
"""

from __future__ import annotations

import textwrap
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Any

import plotly.graph_objects as go
import streamlit as st

from peft_lab.ask.form import Form, choice
from peft_lab.core import asking
from peft_lab.core.errors import BadInput, PeftLabError, RunError
from peft_lab.core.palette import faint
from peft_lab.core.units import Source
from peft_lab.interview.learners import schedule
from peft_lab.interview.learners.schedule import Learners
from peft_lab.interview.learners.storage import Result
from peft_lab.interview.predictions import (
    Contest,
    Figure,
    Inquiry,
    Prediction,
    PredictionOutcome,
    all_predictions,
    decide,
    decide_records,
    get_prediction,
    score,
    stored,
    submission,
)
from peft_lab.runs import store
from peft_lab.runs.queue import get_queue
from peft_lab.runs.spec import RunRequest
from peft_lab.runs.store import Run
from peft_lab.runs.view import Status
from peft_lab.studies import experiments
from peft_lab.ui import pages, state, theme
from peft_lab.ui.components import charts, figures
from peft_lab.ui.components.form import Controls
from peft_lab.ui.components.frame import errors_boxed, part
from peft_lab.ui.components.waiting import come_back, look
from peft_lab.ui.foreign import plain
from peft_lab.ui.practice import learner
from peft_lab.ui.practice.cards import cards, interview_date
from peft_lab.ui.practice.learner import GUESSES, SCOPE, form_tabs, with_next
from peft_lab.ui.practice.mock import interview, page_links
from peft_lab.ui.runs.shown import REFRESH, summaries
from peft_lab.workers import inspector

# ----------------------------------------
# A prediction that trains: its runs through the queue with their progress, finished equal ones used again.


RUNS = "contests"  # scope of the runs that a prediction waits for


def contest(prediction: Prediction) -> list[float] | None:
    """Return the figures of the runs; None while they are under way, when the page refreshes itself.

    Raises:
        PeftLabError: a run that could not start, or did not finish.
    """
    assert isinstance(prediction.experiment, Contest)
    runs = _runs(prediction, prediction.experiment)
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
    """Let the next commitment find or start its runs anew."""
    state.scope(RUNS).pop(prediction.id, None)


def _runs(prediction: Prediction, experiment: Contest) -> list[Run]:
    identities = state.remembered(RUNS, prediction.id, None)
    if identities is None:
        identities = [_finished(spec) or get_queue().submit(spec) for spec in experiment.runs]
        state.remember(RUNS, prediction.id, identities)
    return [store.get(identity) for identity in identities]


def _finished(spec: RunRequest) -> str | None:
    """Return the id of a finished run with the same settings, or None."""
    found = experiments.run_of(spec.complete(), summaries())
    return found.id if found and found.status == Status.DONE else None


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
    st.plotly_chart(chart_of(prediction, outcome), key=f"outcome-{prediction.id}", config=charts.CONFIG)
    if prediction.rule == "bands":
        return
    figures.table(
        ("Case" if _categorical(prediction) else "Contender", "Result"),
        [(figure.label, figure.shown) for figure in outcome.figures],
        numeric=(1,),
    )


def chart_of(prediction: Prediction, outcome: PredictionOutcome) -> go.Figure:
    """Return the chart that settles it: the right option has the accent colour."""
    return _ranges(prediction, outcome) if prediction.rule == "bands" else _contenders(prediction, outcome)


def _contenders(prediction: Prediction, outcome: PredictionOutcome) -> go.Figure:
    values, axis = _axis(outcome.figures)
    labels = [figure.label for figure in outcome.figures]
    decisive = "" if _categorical(prediction) else labels[outcome.right]
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


def _axis(found: tuple[Figure, ...]) -> tuple[list[float], str]:
    """Return the values, and the title of the chart's axis."""
    unit = found[0].unit
    if unit == "bytes":
        return [figure.value / _GIGA for figure in found], "peak memory (GB)"
    return [figure.value for figure in found], unit or "value"


# ----------------------------------------
# What an experiment said: the verdict on the guess, the figures that settle it, and why.


def show_outcome(
    prediction: Prediction, outcome: PredictionOutcome, guess: int, at: datetime, measured: str = ""
) -> None:
    """Draw the outcome. ``measured``: where and when, for a run not made here."""
    correct, _ = score(prediction, outcome, guess)
    chosen, truth = prediction.options[guess], prediction.options[outcome.right]
    if correct:
        st.success(f"Right: **{chosen}**.", icon=":material/check_circle:")
    else:
        st.error(f"Wrong: you predicted **{chosen}**; the answer is **{truth}**.", icon=":material/cancel:")
    left, right = st.columns([3, 2], gap="medium")
    with left:
        st.markdown(f"### What the experiment shows {figures.badge(outcome.source)}")
        evidence(prediction, outcome)
        st.caption(
            f"A stored run, measured {plain(measured)}." if measured else f"Run here on {interview_date(at)}."
        )
    with right:
        st.markdown("### Why")
        st.markdown(prediction.why)
        page_links(prediction.pages)
        st.caption("\n".join(f"- {source}" for source in prediction.sources))


KIND = "prediction"


def fitting(topic: str) -> list[str]:
    """Return the names of a topic's predictions, or of all."""
    return [name for name, prediction in all_predictions().items() if not topic or prediction.topic == topic]


def settled(file: Learners, learner: str) -> dict[str, dict[str, Any]]:
    """Return the learner's latest outcome of every prediction committed to."""
    return {name: result.content for name, result in _settled(file, learner).items()}


def _settled(file: Learners, learner: str) -> dict[str, Result]:
    return {result.content["id"]: result for result in file.results(learner, KIND, {"id": str})}


def browse(ids: list[str], scope: str, file: Learners, learner: str) -> None:
    """Draw the choice of a prediction, and the prediction."""
    if not ids:
        st.info("This topic has no predictions yet. Choose another topic.")
        return
    known = _settled(file, learner)

    def title(number: int, name: str) -> str:
        mark = "" if name not in known else " (right)" if known[name].content["correct"] else " (wrong)"
        return f"{number}. {get_prediction(name).belief}{mark}"

    titles = {name: title(number, name) for number, name in enumerate(ids, start=1)}
    first = next((name for name in ids if name not in known), ids[0])
    chosen = with_next(scope, "belief", "Belief", titles, first, [str(len(ids))])
    with st.container(border=True):
        predict(get_prediction(chosen), file, learner, known.get(chosen))


def predict(prediction: Prediction, file: Learners, learner: str, before: Result | None) -> None:
    """Draw one prediction, from the question to the figures."""
    st.markdown(f"## “{prediction.belief}”")
    with st.container(key="question"):
        st.markdown(prediction.question)
    name = f"{learner}/{prediction.id}"
    guess = state.remembered(GUESSES, name, None)
    outcome = None if guess is not None or before is None else _replayed(prediction, before)
    if outcome is not None and before is not None:
        content = before.content
        show_outcome(prediction, outcome, content["guess"], before.at, content.get("measured", ""))
        if st.button("Predict and run again", icon=":material/replay:", key=f"again-{prediction.id}"):
            state.remember(GUESSES, name, -1)
            forget_runs(prediction)
            st.rerun()
        return
    if guess is None or guess < 0:
        _commit(prediction, name, file, learner)
        return
    st.markdown(f"Your prediction: **{prediction.options[guess]}**")
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
    _record(prediction, guess, values, file, learner)
    state.scope(GUESSES).pop(name, None)
    st.rerun()


def _replayed(prediction: Prediction, before: Result) -> PredictionOutcome | None:
    """Return the settled outcome; None if it was stored for an earlier form of the experiment."""
    try:
        return decide(prediction, before.content["values"])
    except BadInput:
        st.caption("This experiment has changed since your prediction, so its earlier result is not shown.")
        return None


def _commit(prediction: Prediction, name: str, file: Learners, learner: str) -> None:
    kept = stored(prediction)
    with st.form(f"guess-{prediction.id}", border=False):
        options = prediction.options
        guess = st.radio(
            "Your prediction",
            range(len(options)),
            index=None,
            format_func=options.__getitem__,
            key=state.widget_key(GUESSES, name),
        )
        with st.container(horizontal=True):
            pressed = st.form_submit_button("Commit and run", type="primary", icon=":material/play_arrow:")
            replay = kept is not None and st.form_submit_button(
                "Commit and show a stored run", icon=":material/replay:"
            )
    st.caption(
        _announcement(prediction) + (f" A stored run is available, measured {kept.measured}." if kept else "")
    )
    if not pressed and not replay:
        return
    if guess is None:
        st.markdown(":red[:material/edit: Choose an option first.]")
        return
    if asking.class_is_on():
        schedule.commit_prediction(file, learner, prediction.id, int(guess))
    if replay and kept is not None:
        _record(prediction, int(guess), list(kept.values), file, learner, kept.measured)
        state.scope(GUESSES).pop(name, None)
    else:
        state.remember(GUESSES, name, int(guess))
    st.rerun()


def _announcement(prediction: Prediction) -> str:
    if isinstance(prediction.experiment, Contest):
        runs = prediction.experiment.runs
        return (
            f"Trains {len(runs)} small models here, one after another, {runs[0].steps} steps each: one or two "
            "minutes. Finished runs with the same settings are reused."
        )
    kinds = {
        Source.COUNTED: "Counts the parameters of the model, built without its weights.",
        Source.SIMULATED: "Simulates whole training steps: a few seconds.",
    }
    return kinds.get(
        prediction.experiment.source, f"Runs a small experiment on {asking.here()}: a few seconds."
    )


def _values(prediction: Prediction) -> list[float] | None:
    """Return the experiment's figures; None while it is under way, when the page refreshes itself."""
    if isinstance(prediction.experiment, Contest):
        return contest(prediction)
    future = _asked(prediction)
    seen = look(future)
    if seen.open is None:
        return list(future.result())
    come_back(seen)
    doing = "Simulating…" if prediction.experiment.source is Source.SIMULATED else "Running…"
    st.markdown(f":material/hourglass_top: {doing}")
    return None


def _asked(prediction: Prediction) -> Future[list[float]]:
    """Request the figures from a process that does not count, so that other pages stay quick."""
    function, arguments = submission(prediction)
    simulated = prediction.experiment.source is Source.SIMULATED
    return inspector.get_inspector(inspector.Worker.MEMORY if simulated else inspector.Worker.ANSWERS).submit(
        function, *arguments
    )


def _record(
    prediction: Prediction,
    guess: int,
    values: list[float],
    file: Learners,
    learner: str,
    measured: str = "",
) -> None:
    """Store the guess and the figures; ``measured``: for figures not measured here."""
    outcome = decide(prediction, values)
    correct, _ = score(prediction, outcome, guess)
    content = {
        "id": prediction.id,
        "guess": guess,
        "right": outcome.right,
        "correct": correct,
        "values": values,
        "measured": measured,
    }
    file.add_result(learner, KIND, content)


# ----------------------------------------
# The page Misconceptions: all beliefs, and what has been settled.


MISCONCEPTIONS = "misconceptions"


@dataclass(frozen=True)
class BeliefForm(Form):
    """The current belief."""

    belief: str = choice(
        "",
        "Belief",
        "",
        lambda: {name: one.belief for name, one in all_predictions().items()},
        noun="prediction",
    )


def belief_controls() -> Controls[BeliefForm]:
    """Return the page's controls; the URL omits the first belief."""
    return Controls(BeliefForm, MISCONCEPTIONS, lambda: BeliefForm(next(iter(all_predictions()))))


def misconceptions_page() -> None:
    """Draw the page."""
    pages.open_page()
    st.title("Misconceptions")
    st.markdown(
        "Common beliefs about parameter-efficient fine-tuning. **Predict first**; then an experiment on "
        f"{asking.here()} shows who is right."
    )
    with errors_boxed():
        form = belief_controls()
        form.read_address()
        file = learner.learners()
        name = learner.current_learner(file)
        ids = list(all_predictions())
        browse(ids, MISCONCEPTIONS, file, name)
        _overview(ids, settled(file, name), name)
        state.write_address(form.address())


def _overview(ids: list[str], known: dict[str, dict[str, Any]], name: str) -> None:
    st.markdown("## Your predictions so far")
    right = sum(bool(known[each]["correct"]) for each in ids if each in known)
    seen = sum(each in known for each in ids)
    if not seen:
        st.markdown(f"You have tested none of the {len(ids)} beliefs yet.")
        return
    st.markdown(
        f"**{seen}** of {len(ids)} beliefs tested, **{right}** predicted correctly. Learner: {plain(name)}."
    )
    rows = []
    for each in filter(known.__contains__, ids):
        prediction, guess, truth = get_prediction(each), known[each]["guess"], known[each]["right"]
        options = prediction.options
        rows.append(
            (prediction.belief, options[guess], options[truth], "right" if guess == truth else "wrong")
        )
    figures.table(("Belief", "Your prediction", "Experiment", "Result"), rows)


# ----------------------------------------
# The page Practice: who practises, then flash cards, the mock interview or predictions.


def practice_page() -> None:
    """Draw the page."""
    pages.open_page()
    st.title("Cards and mock interview")
    with errors_boxed():
        form = learner.controls()
        form.read_address()
        file = learner.learners()
        body = st.container(key="practice-body")
        body.html(theme.KEPT_ROOM)
        lost = state.address_problem(SCOPE, "profile") is not None  # told beside the learner's name
        with st.expander("Learners and files", expanded=lost, icon=":material/person:"):
            name = learner.learner_row(file)
        sections = {
            "cards": lambda: cards(file, name),
            "interview": lambda: interview(file, name),
            "predict": lambda: _predict(file, name),
        }
        with body:
            form_tabs(form, learner.TABS, sections)
        state.write_address(form.address())


def _predict(file: Learners, name: str) -> None:
    topic = learner.controls().draw("topic", st.columns([1, 2])[0])
    browse(fitting(topic), SCOPE, file, name)
