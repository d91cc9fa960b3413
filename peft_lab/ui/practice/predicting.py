"""Predict, then run: the learner commits to an option, the experiment runs, its figures decide.

One component for the Practice page and the Misconceptions page. What was settled is kept with the learner and
replayed; the experiment can be run again.
"""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any

import streamlit as st

from peft_lab.classroom import mode
from peft_lab.errors import BadInput, PeftLabError
from peft_lab.learners.records import Result
from peft_lab.learners.schedule import Learners
from peft_lab.quiz.prediction_bank import all_predictions, get_prediction
from peft_lab.quiz.predictions import Contest, Prediction, PredictionOutcome, decide, score, submission
from peft_lab.quiz.stored import stored
from peft_lab.teaching import predictions
from peft_lab.ui import state
from peft_lab.ui.components.waiting import come_back, is_open
from peft_lab.ui.foreign import plain
from peft_lab.ui.practice.contest import contest, forget_runs
from peft_lab.ui.practice.learner import GUESSES
from peft_lab.ui.practice.outcome import show_outcome
from peft_lab.units import Source
from peft_lab.workers import inspector

KIND = "prediction"


def fitting(topic: str) -> list[str]:
    """Predictions of a topic, or all."""
    return [name for name, prediction in all_predictions().items() if not topic or prediction.topic == topic]


def settled(file: Learners, learner: str) -> dict[str, dict[str, Any]]:
    """The learner's latest outcome of every prediction that they committed to."""
    return {name: result.content for name, result in _settled(file, learner).items()}


def _settled(file: Learners, learner: str) -> dict[str, Result]:
    return {result.content["id"]: result for result in file.results(learner, KIND, {"id": str})}


def browse(ids: list[str], scope: str, file: Learners, learner: str) -> str:
    """Choose a prediction, and predict. Returns the one that is up."""
    if not ids:
        st.info("There is no prediction on this topic yet. Choose another topic.")
        return ""
    known = _settled(file, learner)
    first = next((name for name in ids if name not in known), ids[0])
    shown = state.remembered(scope, "prediction", first)
    shown = shown if shown in ids else first
    pick, following = st.columns([5, 1], vertical_alignment="bottom")
    position = ids.index(shown)

    def title(name: str) -> str:
        mark = "" if name not in known else " (right)" if known[name].content["correct"] else " (wrong)"
        return f"{ids.index(name) + 1}. {get_prediction(name).belief}{mark}"

    chosen: str = pick.selectbox(
        "Belief", ids, position, key=state.widget_key(scope, "prediction", str(len(ids))), format_func=title
    )
    if following.button("Next", icon=":material/arrow_forward:", width="stretch", key=f"{scope}-next"):
        chosen = ids[(position + 1) % len(ids)]
        state.remember(scope, "prediction", chosen)
        state.renew(scope)
        st.rerun()
    state.remember(scope, "prediction", chosen)
    with st.container(border=True):
        predict(get_prediction(chosen), file, learner, known.get(chosen))
    return chosen


def predict(prediction: Prediction, file: Learners, learner: str, before: Result | None) -> None:
    """One prediction from the question to the figures."""
    st.markdown(f"## “{prediction.belief}”")
    with st.container(key="question"):
        st.markdown(prediction.question)
    name = f"{learner}/{prediction.id}"
    guess = state.remembered(GUESSES, name, None)
    outcome = None if guess is not None or before is None else _replayed(prediction, before)
    if outcome is not None and before is not None:
        content = before.content
        show_outcome(prediction, outcome, content["guess"], before.at, content.get("measured", ""))
        if st.button("Guess and run again", icon=":material/replay:", key=f"again-{prediction.id}"):
            state.remember(GUESSES, name, -1)
            forget_runs(prediction)
            st.rerun()
        return
    if guess is None or guess < 0:
        _commit(prediction, name, file, learner)
        return
    st.markdown(f"You said **{prediction.options[guess]}**.")
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
    """What was settled; ``None`` where an earlier version kept other figures than the experiment gives now."""
    try:
        return decide(prediction, before.content["values"])
    except BadInput:
        st.caption("This experiment has changed since you guessed; its earlier result is not shown.")
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
                "Commit and replay a stored run", icon=":material/replay:"
            )
    st.caption(_announcement(prediction) + (f" Stored: measured {kept.measured}." if kept else ""))
    if not pressed and not replay:
        return
    if guess is None:
        st.markdown(":red[:material/edit: Choose one first.]")
        return
    if mode.on():
        predictions.commit(file, learner, prediction.id, int(guess))
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
            f"Trains {len(runs)} small models here, {runs[0].steps} steps each, one after the other: a minute or two. "
            "Finished runs with the same settings are used again."
        )
    kinds = {
        Source.COUNTED: "Counts on the model built without its weights.",
        Source.SIMULATED: "Simulates whole training steps; that takes some seconds.",
    }
    return kinds.get(
        prediction.experiment.source, f"Runs a small experiment on {mode.machine()}; takes seconds."
    )


def _values(prediction: Prediction) -> list[float] | None:
    """The experiment's figures, or ``None`` while it is under way: the page comes back by itself."""
    if isinstance(prediction.experiment, Contest):
        return contest(prediction)
    future = _asked(prediction)
    if not is_open(future):
        return list(future.result())
    come_back([future])
    doing = "Simulating…" if prediction.experiment.source is Source.SIMULATED else "Running…"
    st.markdown(f":material/hourglass_top: {doing}")
    return None


def _asked(prediction: Prediction) -> Future[list[float]]:
    """Asked of a process that does not count, so that the other pages stay quick."""
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
    """Keep what was guessed and found; ``measured`` for figures that were not taken here."""
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
