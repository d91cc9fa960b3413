"""The training settings of a method page: current values, whether or not their form is drawn, and the URL."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from typing import Any, get_args

import streamlit as st

from peft_lab.core import asking, units
from peft_lab.core.errors import BadInput, PeftLabError
from peft_lab.core.field import Field, as_text
from peft_lab.core.inspector import get_pool
from peft_lab.core.units import Source
from peft_lab.engine.request import Simulation
from peft_lab.engine.timing import here
from peft_lab.methods import all_methods, get_method
from peft_lab.models.catalogue import model_title
from peft_lab.models.shapes import CLASSIFIERS, ModelKind
from peft_lab.runs import kept, waiting
from peft_lab.runs.admission import step_ahead
from peft_lab.runs.forecast import RunWork, predicts, run_work
from peft_lab.runs.kept import MadeForecast
from peft_lab.runs.offer import Offer, make_offer
from peft_lab.runs.spec import BATCH, RunRequest, RunSpec, entry_of, usual_eval_rows
from peft_lab.runs.store import Run
from peft_lab.runs.view import Status
from peft_lab.runs.waiting import Before, ahead, starts_in
from peft_lab.training import tasks
from peft_lab.training.tasks import apart
from peft_lab.training.tasks.base import Task
from peft_lab.ui import state
from peft_lab.ui.components import figures, own_data
from peft_lab.ui.components.form import Controls
from peft_lab.ui.components.frame import error_line, show_tab
from peft_lab.ui.components.knobs import OWN_TASK, Choice, tasks_for
from peft_lab.ui.components.waiting import Look, look
from peft_lab.ui.foreign import plain
from peft_lab.ui.runs.page import open_run
from peft_lab.ui.runs.shown import TRAIN, show_run, standing_bar, summaries
from peft_lab.ui.server.sessions import browser_mark

SAY = "say"
#: The settings of a training that the page has controls for.
FIELDS = ("steps", "batch", "learning_rate", "seed", "eval_rows")


class TrainingControls(Controls[RunRequest]):
    """The controls of the training settings. Choices are remembered per kind of model. A knob may change the default
    learning rate, which must redraw its control: so keys contain the default."""

    def __init__(self, choice: Choice) -> None:
        kind = choice.entry.kind
        work = "classification" if kind in CLASSIFIERS else "generation"
        usual = RunRequest(
            choice.entry.name,
            choice.spec.slug,
            str(choice.task),
            steps=choice.spec.usual_steps(kind),
            batch=BATCH[work],
            learning_rate=choice.spec.learning_rate(kind, choice.values),
            eval_rows=usual_eval_rows(work, kind),
        )
        super().__init__(RunRequest, choice.spec.slug, lambda: usual, lambda name: (kind,))

    def redrawn_for(self, name: str) -> tuple[str, ...]:
        return (f"{self.default(name):g}",)

    def current(self) -> dict[str, Any]:
        """Return the settings as they are now: what was just set stands in its control, which may be drawn later."""
        return {name: st.session_state.get(self.key(name), self.value(name)) for name in FIELDS}


def task_of(choice: Choice) -> Task | None:
    return tasks.get_task(choice.task) if choice.task and choice.task != OWN_TASK else None


def example_task(choice: Choice) -> Task | None:
    """Return the task that gives the examples: the learner's own file once it is usable."""
    if choice.task != OWN_TASK:
        return task_of(choice)
    path = own_data.chosen_file(choice.entry.kind)
    try:
        return apart.load_file(path) if path else None
    except BadInput:
        return None


def request_of(choice: Choice, probes: tuple[str, ...] = ()) -> RunRequest | None:
    """Return the run that Train would start, unchecked; None without a task, or a model and a rate for its kind."""
    entry = choice.entry
    if not choice.task or entry.kind not in choice.spec.learning_rates or entry.lacking is not None:
        return None
    kind, mine = choice.entry.kind, choice.task == OWN_TASK
    own, source = (own_data.chosen_file(kind), own_data.source_of(kind)) if mine else (None, None)
    return RunRequest(
        model=choice.entry.name,
        method=choice.spec.slug,
        task=str(choice.task),
        values=dict(choice.values),
        **TrainingControls(choice).current(),
        own_data=own,
        own_source=source,
        probes=probes,
    )


def planned(choice: Choice) -> RunSpec | None:
    """Return the run that Train would start now, without its sentence, which no step uses; None without task. Raises
    PeftLabError for an invalid setting, or for weights and sentences that must be fetched first."""
    request = request_of(choice)
    return None if request is None else request.complete()


def asked(choice: Choice) -> RunRequest | None:
    """Return the run that Train would start, with the learner's sentence, unchecked; None for invalid knobs, or
    without a task, a model that can be trained, or the learner's own file."""
    text = "" if choice.entry.kind == "vision" else sentence(choice)
    request = request_of(choice, (text,) if text.strip() else ()) if choice.valid else None
    return None if request is None or (request.task == OWN_TASK and request.own_data is None) else request


def sentence(choice: Choice) -> str:
    """Return the sentence for both models to answer: the learner's own, or the task's first example."""
    task = task_of(choice)
    start = task.samples[0] if task and task.samples else ""
    remembered = state.remembered(choice.spec.slug, SAY, start, str(choice.task))
    return str(st.session_state.get(sentence_key(choice), remembered))


def sentence_key(choice: Choice) -> str:
    return state.widget_key(choice.spec.slug, SAY, str(choice.task))


# -- the address -------------------------------------------------------------------------------------------------


def training_readers(slug: str) -> dict[str, Any]:
    """Return readers of the URL's training settings. They apply to every kind of model."""

    def read(field: Field, text: str) -> None:
        value = field.parse(text)
        for kind in get_args(ModelKind):
            state.remember(slug, field.key, value, kind)

    return {field.key: partial(read, field) for field in map(RunRequest.field, FIELDS)}


def training_address(choice: Choice) -> dict[str, tuple[Any, Any]]:
    """Return the URL parameters of training and of the run shown."""
    table: dict[str, tuple[Any, Any]] = {"run": (state.remembered(choice.spec.slug, "run", ""), "")}
    if tasks_for(choice.entry) and choice.entry.kind in choice.spec.learning_rates:
        own = TrainingControls(choice)
        table |= {RunRequest.field(name).key: (own.value(name), own.default(name)) for name in FIELDS}
    return table


def address_of_run(request: RunRequest) -> dict[str, str]:
    """Return the URL parameters with which its method's page is set to train this run."""
    training = {request.field(name).key: getattr(request, name) for name in FIELDS}
    set_here = {
        name: as_text(value) for name, value in (dict(request.values) | training).items() if value is not None
    }
    return {"model": request.model, "task": request.task, **set_here, "tab": "train"}


# ----------------------------------------
# How long Train will take: on its button before a run, beside what it took after; and the way to have it measured.


URGENCY = 2  # after the peak that the headline shows
FULL = "full"


def ask_duration(choice: Choice) -> Look[RunWork]:
    """Request the work of the run that Train would start; the look is empty if its time is unpredictable."""
    if not choice.valid or not predicts(choice.entry.kind, choice.task or ""):
        return Look()
    return ask_work(request_of(choice))


def ask_work(request: RunRequest | None) -> Look[RunWork]:
    """Request the work of a run, which no sentence changes; empty for None and before this machine is measured."""
    if request is None or not here.complete():
        return Look()
    try:
        spec = replace(request, probes=()).complete()
    except PeftLabError:
        return Look()
    return look(get_pool().submit(URGENCY, run_work, spec.to_dict()))


def ask_run_step(spec: RunSpec, urgency: int) -> Future[tuple[Simulation, dict[str, Any]]]:
    """Request the step that a run measures, which no sentence changes: Home and a method's page share the answer."""
    return get_pool().submit(urgency, step_ahead, replace(spec, probes=()).to_dict())


def ask_full_step(spec: RunSpec, urgency: int) -> Future[tuple[Simulation, dict[str, Any]]]:
    """Request the same run's step with every weight trained; the future fails if its model's folder is gone."""
    method = get_method(FULL)
    try:
        values = method.complete(entry_of(spec.model).shape, {})
    except PeftLabError as error:
        none: Future[tuple[Simulation, dict[str, Any]]] = Future()
        none.set_exception(error)
        return none
    return ask_run_step(replace(spec, method=FULL, values=values), urgency)


def duration_below(slug: str, offer: Offer) -> None:
    """Draw the basis of the button's figure below it, or the offer to measure the machine."""
    if offer.forecast is not None:
        made_of, share = (
            kept.forecast_made_of(offer.forecast.like),
            offer.forecast.seconds / offer.forecast.plain,
        )
        parts = {name: seconds * share for name, seconds in offer.forecast.parts.items() if seconds}
        listed = " · ".join(f"{name} {units.seconds(seconds)}" for name, seconds in parts.items())
        st.caption(f"{made_of} {figures.badge(Source.SIMULATED)}", help=listed)
        return
    if not offer.predictable or here.complete():
        return
    calibration = waiting.calibrating_under_way()
    if calibration is not None and not calibration.done():
        st.caption(f"Measuring {asking.here()}: a few seconds…")
        return
    refused = waiting.calibrating_refusal()
    pressed = st.button(
        "Estimate training time",
        key=f"{slug}-calibrate",
        type="tertiary",
        icon=":material/timer:",
        disabled=bool(refused),
        help=refused
        or f"Measures the speed of {asking.here()} once, in a few seconds. The button then shows how long a run takes.",
    )
    problem = calibration.exception() if calibration is not None else None
    if problem is not None:
        error_line(problem)
    if pressed:
        waiting.begin_calibrating()
        st.rerun()


def duration_beside(made: MadeForecast | None) -> str:
    """Return a run's time beside its forecast, with the source; empty without a forecast."""
    sentence = "" if made is None else kept.beside_forecasts(made.seconds, made.took)
    return f"{sentence} {figures.badge(Source.MEASURED)}" if sentence else ""


# ----------------------------------------
# The foot of the knobs, always in view: Train while nothing trains, else where the run stands; on every tab.


_BEGIN = "begin"


def begin(slug: str) -> None:
    """Start a run of the method the next time its page is drawn."""
    state.remember(slug, _BEGIN, True)


def foot(choice: Choice, form_is_open: bool, work: Look[RunWork]) -> None:
    """Draw how far the page's run is, or else the button of what Train offers.

    Args:
        form_is_open: whether the form is drawn, which then shows the errors of its settings.
        work: the work behind the forecast (:func:`ask_duration`).
    """
    slug = choice.spec.slug
    if standing_bar(slug):
        state.scope(slug).pop(_BEGIN, None)
        return
    request = asked(choice)
    if request is None:
        return
    try:
        offer = make_offer(request, work.answer, summaries())
    except PeftLabError as error:
        if not form_is_open:
            error_line(error)
        return
    pressed = st.button(
        f"{TRAIN} · {offer.duration}" if offer.duration else TRAIN,
        type="primary",
        key=f"{slug}-train",
        width="stretch",
        disabled=offer.refusal is not None,
    )
    if offer.limits:
        st.caption(offer.limits)
    if pressed or state.scope(slug).get(_BEGIN):
        start_run(choice, offer)
    duration_below(slug, offer)


def start_run(choice: Choice, offer: Offer) -> None:
    """Start the run and show it on the method's page; if it may not start, say why and what would work. Only a run that
    may not fit into memory takes a moment, to simulate its step."""
    slug = choice.spec.slug
    state.scope(slug).pop(_BEGIN, None)
    try:
        with st.spinner("Checking"):
            identity = offer.start(browser_mark())
    except PeftLabError as error:
        error_line(error)
        would_work(choice, error.works)
        return
    show_run(slug, identity)
    show_tab(slug, TRAIN)
    st.rerun()


def would_work(choice: Choice, works: Mapping[str, float]) -> None:
    """Draw a button for the first setting with which a refused or failed run would work; nothing without one."""
    name = next((name for name in works if name in FIELDS), "")
    if name:
        value = type(TrainingControls(choice).default(name))(works[name])
        st.markdown(f"**What would work:** {RunRequest.field(name).label.lower()} {value:g}")
        st.button(
            "Train it this way",
            key=f"{choice.spec.slug}-remedy",
            on_click=_begin_with,
            args=(choice, name, value),
        )


def _begin_with(choice: Choice, name: str, value: float) -> None:
    """Change one setting, and train."""
    controls = TrainingControls(choice)
    controls.remember(name, value)
    st.session_state[controls.key(name)] = value
    begin(choice.spec.slug)


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
            st.caption(_described(other))
            continue
        opens = st.button(
            _described(other),
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


def _described(run: Before) -> str:
    """Return what a run trains, and where it stands."""
    what = "A run of another learner in this class"
    if run.spec is not None:
        known = all_methods().get(run.spec.method)
        what = f"{known.title if known else run.spec.method} on {model_title(run.spec.model)}"
    standing = {Status.RUNNING: f"step {run.step} of {run.steps}", Status.EVALUATING: "being scored"}
    return f"{plain(what)} · {standing.get(run.status, str(run.status))}"
