"""The training settings of a method page: current values, whether or not their form is drawn, and the URL."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, get_args

import streamlit as st

from peft_lab.ask.field import Field
from peft_lab.core import asking, units
from peft_lab.core.errors import BadInput, PeftLabError, RunError
from peft_lab.core.units import Source, roughly
from peft_lab.engine.timing import here
from peft_lab.methods import all_methods
from peft_lab.models.catalogue import model_title, untrainable
from peft_lab.models.shapes import CLASSIFIERS, ModelKind
from peft_lab.runs import allowance, forecast, store, waiting
from peft_lab.runs import kept as said
from peft_lab.runs.forecast import Forecast, RunWork, run_work
from peft_lab.runs.kept import MadeForecast
from peft_lab.runs.queue import get_queue
from peft_lab.runs.spec import BATCH, RunRequest, RunSpec, usual_eval_rows
from peft_lab.runs.store import Run
from peft_lab.runs.view import RunView, Status, scoring
from peft_lab.runs.waiting import Before, ahead, starts_in
from peft_lab.training import tasks
from peft_lab.training.tasks import apart
from peft_lab.training.tasks.base import Task
from peft_lab.ui import state
from peft_lab.ui.components import figures, own_data
from peft_lab.ui.components.form import Controls
from peft_lab.ui.components.frame import error_line, errors_here, part, show_tab
from peft_lab.ui.components.knobs import OWN_TASK, Choice, tasks_for
from peft_lab.ui.components.waiting import Look, look
from peft_lab.ui.foreign import plain
from peft_lab.ui.runs.page import open_run
from peft_lab.ui.runs.shown import TRAIN, show_run, shown_run, summaries
from peft_lab.ui.server.sessions import browser_mark
from peft_lab.workers.inspector import get_pool

SAY = "say"
START = "start"
#: The settings of a training that the page has controls for.
FIELDS = ("steps", "batch", "learning_rate", "seed", "eval_rows")


def training_controls(choice: Choice) -> Controls[RunRequest]:
    """Return the controls of the training settings, not yet drawn.

    Choices are remembered per kind of model. A knob may change the default learning rate, which must redraw
    its control: so keys contain the default.
    """
    kind = choice.entry.kind
    usual = RunRequest(choice.entry.name, choice.spec.slug, str(choice.task), **_usual(choice))
    return Controls(RunRequest, choice.spec.slug, lambda: usual, lambda name: (kind,))


def _usual(choice: Choice) -> dict[str, Any]:
    kind = "classification" if choice.entry.kind in CLASSIFIERS else "generation"
    rate = choice.spec.learning_rate(choice.entry.kind, choice.values)
    return {
        "steps": choice.spec.usual_steps(choice.entry.kind),
        "batch": BATCH[kind],
        "learning_rate": rate,
        "eval_rows": usual_eval_rows(kind, choice.entry.kind),
    }


def key_of(choice: Choice, name: str) -> str:
    """Return the control's key. It holds the default: a knob that changes that redraws the control."""
    controls = training_controls(choice)
    return controls.key(name, f"{controls.default(name):g}")


def task_of(choice: Choice) -> Task | None:
    return tasks.get_task(choice.task) if choice.task and choice.task != OWN_TASK else None


def example_task(choice: Choice) -> Task | None:
    """Return the task that gives the examples: the learner's own file once it is usable."""
    if choice.task != OWN_TASK:
        return task_of(choice)
    path = state.remembered("own", "file", None, choice.entry.kind)
    try:
        return apart.load_file(path) if path else None
    except BadInput:
        return None


def request_of(
    choice: Choice, values: dict[str, Any], own: str | None, probes: tuple[str, ...] = ()
) -> RunRequest:
    """Return the run that Train would start, unchecked."""
    return RunRequest(
        model=choice.entry.name,
        method=choice.spec.slug,
        task=str(choice.task),
        values=dict(choice.values),
        **{name: values[name] for name in FIELDS},
        own_data=own,
        own_source=None if own is None else own_data.source_of(choice.entry.kind),
        start=start_of(choice),
        probes=probes,
    )


def start_of(choice: Choice) -> str | None:
    """Return the adapter from which training starts, if the learner opened one for this kind of model."""
    found = state.remembered(choice.spec.slug, START, None, choice.entry.kind)
    return None if found is None else str(found)


def planned(choice: Choice) -> RunSpec | None:
    """Return the run that Train would start now, without its sentence, which no step uses; None without task.

    Raises:
        PeftLabError: an invalid setting, or weights and sentences that must be fetched first.
    """
    if not trainable(choice):
        return None
    return request_of(choice, _now(choice), _own_file(choice)).complete()


def asked(choice: Choice) -> RunSpec | None:
    """Return :func:`planned` with the learner's sentence; None also for invalid knobs or a missing file."""
    own = _own_file(choice)
    if not choice.valid or not trainable(choice) or (choice.task == OWN_TASK and own is None):
        return None
    text = "" if choice.entry.kind == "vision" else sentence(choice)
    return request_of(choice, _now(choice), own, (text,) if text.strip() else ()).complete()


def trainable(choice: Choice) -> bool:
    """Return whether the model is here and there is a task and a learning rate for its kind."""
    return bool(
        choice.task and choice.entry.kind in choice.spec.learning_rates and untrainable(choice.entry) is None
    )


def sentence(choice: Choice) -> str:
    """Return the sentence for both models to answer: the learner's own, or the task's first example."""
    task = task_of(choice)
    start = task.samples[0] if task and task.samples else ""
    kept = state.remembered(choice.spec.slug, SAY, start, str(choice.task))
    return str(st.session_state.get(sentence_key(choice), kept))


def sentence_key(choice: Choice) -> str:
    return state.widget_key(choice.spec.slug, SAY, str(choice.task))


def _now(choice: Choice) -> dict[str, Any]:
    controls = training_controls(choice)
    # What was just set stands in its control, which may be drawn further down.
    return {name: st.session_state.get(key_of(choice, name), controls.value(name)) for name in FIELDS}


def _own_file(choice: Choice) -> str | None:
    return state.remembered("own", "file", None, choice.entry.kind) if choice.task == OWN_TASK else None


# -- the address -------------------------------------------------------------------------------------------------


def training_readers(slug: str) -> dict[str, Any]:
    """Return readers of the URL's training settings. They apply to every kind of model."""

    def take(field: Field) -> Any:
        def read(text: str) -> None:
            value = field.parse(text)
            for kind in get_args(ModelKind):
                state.remember(slug, field.key, value, kind)

        return read

    return {field.key: take(field) for field in map(RunRequest.field, FIELDS)}


def training_address(choice: Choice) -> dict[str, tuple[Any, Any]]:
    """Return the URL parameters of training and of the run shown."""
    slug, kind = choice.spec.slug, choice.entry.kind
    table: dict[str, tuple[Any, Any]] = {"run": (state.remembered(slug, "run", ""), "")}
    if tasks_for(choice.entry) and kind in choice.spec.learning_rates:
        controls = training_controls(choice)
        for name in FIELDS:
            table[RunRequest.field(name).key] = (controls.value(name), controls.default(name))
    return table


# ----------------------------------------
# How long Train will take: on its button before a run, beside what it took after; and the way to have it measured.


URGENCY = 2  # after the peak that the headline shows


def ask_duration(choice: Choice) -> Look[RunWork]:
    """Request the work of the run that Train would start; the look is empty if its time is unpredictable."""
    if not choice.valid or not _predicts(choice) or not here.complete():
        return Look()
    try:
        spec = planned(choice)
    except PeftLabError:
        return Look()
    return Look() if spec is None else look(get_pool().submit(URGENCY, run_work, spec.to_dict()))


def _predicts(choice: Choice) -> bool:
    return forecast.predicts(choice.entry.kind, choice.task or "")


def expected_duration(work: Look[RunWork], spec: RunSpec) -> Forecast | None:
    """Return the run's forecast; None until its work is traced, or if it cannot be."""
    if work.answer is None:
        return None
    try:
        return forecast.forecast(work.answer, spec, summaries())
    except PeftLabError:  # the headline says why a step cannot be simulated
        return None


def duration_words(found: Forecast) -> str:
    """Return the forecast as text for the button."""
    return said.told_forecast(found.seconds, said.forecast_errors(line.kept for line in summaries()))


def duration_below(choice: Choice, found: Forecast | None) -> None:
    """Draw the basis of the button's figure below it, or the offer to measure the machine."""
    if found is not None:
        st.caption(_made_of(found), help=_parts(found))
        return
    if not _predicts(choice) or here.complete():
        return
    asked = waiting.calibrating_under_way()
    if asked is not None and not asked.done():
        st.caption(f"Measuring {asking.here()}: a few seconds…")
        return
    refused = waiting.calibrating_refusal()
    pressed = st.button(
        "Say how long it takes",
        key=f"{choice.spec.slug}-calibrate",
        type="tertiary",
        icon=":material/timer:",
        disabled=bool(refused),
        help=refused
        or f"Measures {asking.here()} once, in a few seconds. The button then says how long a run takes.",
    )
    problem = asked.exception() if asked is not None else None
    if problem is not None:
        error_line(problem)
    if pressed:
        waiting.begin_calibrating()
        st.rerun()


def _made_of(found: Forecast) -> str:
    return f"{said.forecast_made_of(found.like)} {figures.badge(Source.SIMULATED)}"


def _parts(found: Forecast) -> str:
    share = found.seconds / found.plain
    return " · ".join(
        f"{name} {units.seconds(seconds * share)}" for name, seconds in found.parts.items() if seconds
    )


def duration_beside(kept: MadeForecast | None) -> str:
    """Return a run's time beside its forecast, with the source; empty without a forecast."""
    sentence = "" if kept is None else said.beside_forecasts(kept.seconds, kept.took)
    return f"{sentence} {figures.badge(Source.MEASURED)}" if sentence else ""


# ----------------------------------------
# The foot of the knobs, always in view: Train while nothing trains, else where the run stands; on every tab.


REFRESH = 1.0  # seconds between looks at a run that is going
_BEGIN = "begin"


def begin(slug: str) -> None:
    """Start a run of the method the next time its page is drawn."""
    state.remember(slug, _BEGIN, True)


def train_bar(choice: Choice, form_is_open: bool, work: Look[RunWork]) -> None:
    """Draw the foot.

    Args:
        form_is_open: whether the form is drawn, which then shows the errors of training settings.
        work: the work behind the forecast (:func:`ask_duration`).
    """
    slug = choice.spec.slug
    seen = _under_way(slug)
    if seen is not None:
        state.scope(slug).pop(_BEGIN, None)
        part(lambda: _bar_standing(slug), every=REFRESH)
        return
    try:
        spec = asked(choice)
    except PeftLabError as error:
        if not form_is_open:
            error_line(error)
        return
    if spec is None:
        return
    refused = allowance.limit_refusal(spec)
    said = expected_duration(work, spec)
    pressed = st.button(
        f"{TRAIN} · {duration_words(said)}" if said else TRAIN,
        type="primary",
        key=f"{slug}-train",
        width="stretch",
        disabled=refused is not None,
    )
    limit = refused or allowance.limits_said()
    if limit:
        st.caption(limit)
    if pressed or state.scope(slug).get(_BEGIN):
        _start(choice, spec, said)
    duration_below(choice, said)


def _under_way(slug: str) -> RunView | None:
    """Return the view of the page's run if it has not ended."""
    run = shown_run(slug)
    try:
        seen = run.view() if run is not None else None
    except RunError:
        return None
    return seen if seen is not None and not seen.status.final else None


def _bar_standing(slug: str) -> None:
    seen = _under_way(slug)
    if seen is None:
        st.rerun()
        return
    st.progress(min(1.0, seen.progress), text=_words(seen))
    st.caption("Changes apply to your next run.")


def _words(seen: RunView) -> str:
    if seen.status is Status.RUNNING:
        if not seen.step:
            return f"Taking the first of {seen.steps} steps"
        left = f" · {roughly(seen.eta)} left" if seen.eta else ""
        return f"Step {seen.step} of {seen.steps}{left}"
    return {Status.QUEUED: "Queued", Status.STARTING: "Starting"}.get(seen.status) or scoring(seen)


def _start(choice: Choice, spec: RunSpec, said: Forecast | None) -> None:
    """Start the run, and store its forecast, ``said``.

    Only a run that may not fit into memory takes a moment, to simulate its step.
    """
    with errors_here():
        with st.spinner("Checking"):
            state.scope(choice.spec.slug).pop(_BEGIN, None)
            identity = get_queue().submit(spec)
        store.note_starter(store.get(identity), browser_mark())
        if said is not None:
            with suppress(OSError):  # a run trains no worse where that cannot be written
                forecast.note(store.get(identity), said)
        show_run(choice.spec.slug, identity)
        show_tab(choice.spec.slug, TRAIN)
        st.rerun()


# ----------------------------------------
# A queued run on screen: what trains before it, the way there, and about when its own turn comes.


SHOWN = 3  # runs that are named; more are counted


def turn(run: Run, slug: str) -> None:
    """Draw one line on when the run starts, and a button for each of the first runs before it."""
    before = ahead(run.id)
    if not before:
        st.markdown("**Queued** · next in line")
        return
    seconds = starts_in(before)
    when = "" if seconds is None else f" · starts in about {units.roughly(seconds)}"
    number = len(before)
    st.markdown(f"**Queued** · {number} {'run' if number == 1 else 'runs'} before this one{when}")
    for other in before[:SHOWN]:
        if other.spec is None:
            st.caption(f"{plain(described(other))} · {_standing(other)}")
            continue
        opens = st.button(
            f"{plain(described(other))} · {_standing(other)}",
            key=f"{slug}-before-{other.id}",
            icon=":material/arrow_forward:",
            type="tertiary",
            help="Open this run on its method's page.",
            wrap=True,
        )
        line = next((line for line in summaries() if line.id == other.id), None)
        if opens and line is not None:
            open_run(line)
    if number > SHOWN:
        st.caption(f"and {number - SHOWN} more")


def described(run: Before) -> str:
    spec = run.spec
    if spec is None:
        return "A run of somebody else in this class"
    method = all_methods()[spec.method].title if spec.method in all_methods() else spec.method
    model = model_title(spec.model)
    return f"{method} on {model}"


def _standing(run: Before) -> str:
    if run.status is Status.RUNNING:
        return f"step {run.step} of {run.steps}"
    return {
        Status.QUEUED: "queued",
        Status.STARTING: "starting",
        Status.EVALUATING: "being scored",
    }.get(run.status, str(run.status))
