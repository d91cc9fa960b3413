"""Home: one order and how a run learns to answer it, a button that starts one; three ways in; methods and models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import streamlit as st

from peft_lab.core import asking, inspector, units
from peft_lab.core.errors import PeftLabError
from peft_lab.drawing.trajectory.sentence import METHOD, MODEL, TASK, shipped
from peft_lab.methods import all_methods, get_method
from peft_lab.methods.base import MethodSpec
from peft_lab.methods.counting.count import count
from peft_lab.models.assets import store as assets
from peft_lab.models.catalogue import catalogue, get_model
from peft_lab.models.shapes import ModelEntry
from peft_lab.runs.forecast import predicts
from peft_lab.runs.kept import forecast_made_of
from peft_lab.runs.offer import Offer, make_offer
from peft_lab.runs.spec import RunRequest
from peft_lab.training.tasks import orders
from peft_lab.ui import pages, state, web
from peft_lab.ui.components import figures, frame, waiting
from peft_lab.ui.components.sentence import order_of, sent, sentence
from peft_lab.ui.foreign import plain
from peft_lab.ui.method.settings import SAY, ask_full_step, ask_run_step, ask_work, begin
from peft_lab.ui.runs.shown import live_run, summaries


def gallery() -> None:
    slugs = pages.method_pages()
    st.markdown(f"## {units.in_words(len(slugs)).capitalize()} methods, each on frozen models")
    with st.container(key="gallery"):
        for slug in slugs:
            with st.container(border=True, key=f"gallery-{slug}", gap=None):
                _card(all_methods()[slug])
    st.markdown(
        ":small[Trainable parameters at each method's default settings, and their share of "
        f"{live_models()[0].title}, or of a model named there.] {figures.badge('counted')}"
    )
    with st.expander(f"On all {len(live_models())} models of {asking.here()}"):
        _all_counts([all_methods()[slug] for slug in slugs])
        _models()


def live_models() -> list[ModelEntry]:
    """Return the models that can be trained here, the one of Home's run first."""
    return sorted((entry for entry in catalogue().values() if entry.live), key=lambda one: one.name != MODEL)


def trained_on(spec: MethodSpec, entry: ModelEntry) -> tuple[str, str] | None:
    """Return the trained parameters at the method's defaults and their share; None where it does not apply."""
    if spec.refusal(entry.shape, {}) is not None:
        return None
    formula = spec.formula(entry.shape, spec.complete(entry.shape, {}))
    share = 100 * formula.trainable / (entry.parameters + formula.added)
    return units.count(formula.trainable), units.percent(share)


def _card(spec: MethodSpec) -> None:
    pages.link(spec.slug, f"**{spec.title}**", icon_position="right")
    first, *_ = live_models()
    found = ((entry, trained_on(spec, entry)) for entry in live_models())
    entry, (trained, part) = next((entry, counted) for entry, counted in found if counted)
    named = "" if entry is first else f" of {entry.title}"
    st.markdown(f"**{trained}** :small[{part}{named}]", help=plain(spec.summary))


def _all_counts(specs: Sequence[MethodSpec]) -> None:
    models = live_models()
    rows = [
        (spec.title, *(" · ".join(trained_on(spec, entry) or ("does not apply",)) for entry in models))
        for spec in specs
    ]
    figures.table(
        ("Method", *(entry.title for entry in models)), rows, numeric=range(1, 1 + len(models)), fold=True
    )
    refused = [
        f"- {spec.title} on {entry.title}: {plain(why)}"
        for spec in specs
        for entry in models
        if (why := spec.refusal(entry.shape, {})) is not None
    ]
    st.markdown("\n".join(refused))


SCOPE = "home"
LATER = 3  # urgency of what Home does not show
DOORS = (
    ("tour", "Learn a method", "eight methods, one page each"),
    ("plan", "Plan a fine-tune", "plans that fit your GPUs, and their files"),
    ("practice", "Prepare for an interview", "guess results, then run experiments"),
)


def ready() -> None:
    """Load the page's data ahead, so that its first visitor does not wait."""
    all_methods()
    sent(shipped())
    assets.status()


def home_page() -> None:
    pages.open_page()
    frame.offer_fetch((MODEL,))
    with st.container(key="home-first"):
        with st.container(key="home-words"):
            _words()
        with st.container(key="home-train"):
            _train()
        with st.container(key="home-doors"):  # seen under the run, but reached by Tab before what is in it
            for name, title, text in DOORS:
                with st.container(border=True, key=f"door-{name}", gap=None):
                    pages.link(name, f"**{title}**", "chevron_right", icon_position="right")
                    st.markdown(f":small[{text}]")
        with st.container(key="home-view"):
            missing = any(one.name == MODEL and not one.present for one in assets.status())
            frame.part(
                lambda: sentence(shipped(), SCOPE, "fetch the weights to type your own" if missing else "")
            )
    gallery()
    with st.expander("Where figures come from"):
        figures.legend()
        st.markdown(
            "The numbers of the methods come from their formulas. Automated tests compare each formula with a count "
            "of the model's parameters."
        )


def _words() -> None:
    spec, entry, run = get_method(METHOD), get_model(MODEL), shipped()
    _, share = trained_on(spec, entry) or ("", "")
    st.title(f"Train :orange[{share}] of a model. Watch it learn.")
    st.markdown(
        f"{entry.title.partition('-')[0]}’s {units.count(run.total)} weights stay frozen. "
        f":orange[**{units.count(run.trained)}**] new ones learn to turn an order into JSON. "
        f"{figures.badge('counted')}"
    )


def _train() -> None:
    going = live_run(METHOD)
    offer = None if going else _offer()
    seconds = f" ({offer.duration})" if offer and offer.duration else ""
    label = "Watch your LoRA train" if going else f"Train it on {asking.here()}{seconds}"
    if offer:
        _prepare()
    basis = forecast_made_of(offer.forecast.like) if offer and offer.forecast else None
    if st.button(label, type="primary", key="train-now", width="stretch", help=basis):
        if going is None:
            _as_shown()
        pages.go_to(METHOD)
    wanted = request()
    st.caption(f"{wanted.steps} steps of {wanted.batch} rows. Nothing leaves {asking.here()}.")


def request() -> RunRequest:
    """Return the run that the button starts: the recorded one's settings, in a class with fewer steps, and the
    learner's order as its sample."""
    order = orders.prompt(order_of(shipped(), SCOPE))
    steps = min(shipped().spec["steps"], get_method(METHOD).usual_steps(get_model(MODEL).kind))
    return RunRequest(MODEL, METHOD, TASK, steps=steps, batch=shipped().spec["batch"], probes=(order,))


def _offer() -> Offer | None:
    """Return the run with its forecast, once this machine was measured; None where no run is predicted."""
    work = ask_work(request() if predicts(get_model(MODEL).kind, TASK) else None)
    waiting.come_back(work)
    try:
        return make_offer(request(), work.answer, summaries()) if work.answer is not None else None
    except PeftLabError:  # the page says above what has to be fetched
        return None


def _prepare() -> None:
    """Request what the method's page shows first, while one reads: it would take the processor from the run's first
    steps."""
    spec = replace(request(), probes=()).complete()
    inspector.submit(count, spec.model, spec.method, dict(spec.values))
    ask_run_step(spec, LATER)
    ask_full_step(spec, LATER)


def _as_shown() -> None:
    """Set up the run of :func:`request` on the method's page, replacing earlier settings, and start it there."""
    wanted = request()
    state.forget(METHOD)
    state.forget("shared")
    for name in ("steps", "batch"):
        state.remember(METHOD, RunRequest.field(name).key, getattr(wanted, name), get_model(MODEL).kind)
    state.remember(METHOD, SAY, wanted.probes[0], TASK)
    begin(METHOD)


def _models() -> None:
    figures.table(
        ("Model", "Type", "Parameters", "Layers", "Width", "Attention heads", "From", "License"),
        [
            (
                entry.title,
                entry.kind,
                units.count(entry.parameters),
                str(entry.shape.num_layers),
                f"{entry.shape.hidden:,}",
                f"{entry.shape.heads} query, {entry.shape.kv_heads} key/value",
                entry.source,
                entry.license,
            )
            for entry in live_models()
        ],
        numeric=(2, 3, 4),
        fold=True,
    )


#: Home's layout, in the page that the browser loads (:mod:`peft_lab.ui.shell.dress`).
HOME_CSS = web.read("home.css")
