"""Home: one sentence, the block, a button that starts a run; three ways in; the methods; the models here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from peft_lab.core import asking, units
from peft_lab.drawing.block import strip_of
from peft_lab.methods import all_methods, get_method
from peft_lab.methods.base import MethodSpec
from peft_lab.models.assets import store as assets
from peft_lab.models.catalogue import ModelEntry, catalogue, get_model
from peft_lab.training.tasks import get_task
from peft_lab.ui import pages, state, web
from peft_lab.ui.components import figures, waiting
from peft_lab.ui.components.block import block, handles, thumb
from peft_lab.ui.foreign import plain
from peft_lab.ui.method.drawing import recorded
from peft_lab.ui.method.settings import begin
from peft_lab.ui.runs.shown import live_run

# ----------------------------------------
# The methods side by side: what each adds to a block, and how many parameters it trains.


def gallery() -> None:
    slugs = pages.method_pages()
    st.markdown(f"## {units.in_words(len(slugs)).capitalize()} methods, each on frozen models")
    with st.container(key="gallery"):
        for slug in slugs:
            with st.container(border=True, key=f"gallery-{slug}", gap="xsmall"):
                _card(all_methods()[slug])
    st.markdown(
        "Trainable parameters of each method at its default settings, and their share of the model. They come from "
        "each method's formula; automated tests check that it agrees with a count on the model. "
        f"{figures.badge('counted')}"
    )


def live_models() -> list[ModelEntry]:
    """Return the models that can be trained here."""
    return [entry for entry in catalogue().values() if entry.live]


def share(spec: MethodSpec, entry: ModelEntry, values: Mapping[str, Any] | None = None) -> float:
    """Return the percent of the model that is trained, with ``values`` over the method's defaults."""
    formula = spec.formula(entry.shape, spec.complete(entry.shape, values or {}))
    return 100 * formula.trainable / (entry.parameters + formula.added)


def _card(spec: MethodSpec) -> None:
    applies = [entry for entry in live_models() if _refusal(spec, entry) is None]
    if applies:
        entry = max(applies, key=lambda entry: entry.parameters)
        thumb(spec, entry.shape, spec.complete(entry.shape, {}), key=f"thumb-{spec.slug}")
    pages.link(spec.slug, f"**{spec.title}**", icon_position="right")
    st.markdown(f":small[{spec.summary}]")
    for entry in live_models():
        with st.container(gap=None):
            st.markdown(f":small[{entry.title}]")
            why = _refusal(spec, entry)
            if why is not None:
                st.markdown("does not apply", help=plain(why))
                continue
            trained = spec.formula(entry.shape, spec.complete(entry.shape, {})).trainable
            st.markdown(f"**{units.count(trained)}** :small[{units.percent(share(spec, entry))}]")


def _refusal(spec: MethodSpec, entry: ModelEntry, values: Mapping[str, Any] | None = None) -> str | None:
    """Return why the method does not apply with ``values`` over its defaults, or None."""
    problems = spec.problems(entry.shape, values or {})
    return next((problem.message for problem in problems if problem.level == "error"), None)


METHOD, MODEL, TASK = "lora", "smollm2-135m", "json"
SCOPE, RANK = "home", "r"
DOORS = (
    ("tour", "Learn a method", "Stop by stop through the lab: what to read, what to move, what to see."),
    ("practice", "Prepare for an interview", "Answer first; then run the experiment that shows why."),
    ("plan", "Plan a fine-tune", "Your model on your GPUs: what fits, how long it takes, what it costs."),
)


def ready() -> None:
    """Load the page's data ahead, so that its first visitor does not wait."""
    all_methods()
    recorded(METHOD, MODEL)
    assets.status()


def home_page() -> None:
    pages.open_page()
    waiting.offer_fetch("home")
    with st.container(key="home-first"):
        with st.container(key="home-words"):
            _words()
        with st.container(border=True, key="home-block"):
            _block()
        with st.container(key="home-doors"):
            _doors()
    gallery()
    st.markdown("## Where figures come from")
    figures.legend()
    st.markdown(f"## Models on {asking.here()}")
    _models()


def _words() -> None:
    spec, entry = get_method(METHOD), get_model(MODEL)
    st.title(f"Train {units.percent(share(spec, entry, _dragged()))} of a model. Watch it learn.")
    st.markdown(
        f"PEFT Lab freezes a real language model of {units.count(entry.parameters)} parameters on {asking.here()}, "
        f"trains thin matrices beside its weights, and shows every change as it happens. {figures.badge('counted')}"
    )
    going = live_run(METHOD)
    rank = _dragged().get(RANK)
    label = (
        "Watch your LoRA train"
        if going
        else f"Train a LoRA of rank {plain(str(rank))} now"
        if rank
        else "Train a LoRA now"
    )
    if st.button(label, type="primary", key="train-now", width="stretch"):
        if going is None:
            _as_it_comes()
        pages.go_to(METHOD)
    st.caption(
        f"{get_method(METHOD).usual_steps(get_model(MODEL).kind)} steps here, until a model that could not write JSON "
        f"does. Nothing leaves {asking.here()}."
    )


def _doors() -> None:
    for name, title, text in DOORS:
        with st.container(border=True, key=f"door-{name}", gap=None):
            pages.link(name, f"**{title}**", icon_position="right")
            st.markdown(f":small[{text}]")


def _dragged() -> dict[str, Any]:
    """Return the rank if it was set by hand in the block."""
    rank = state.remembered(SCOPE, RANK, None)
    return {} if rank is None else {RANK: rank}


def _released(values: Mapping[str, Any]) -> None:
    """Remember the rank sent by the browser, if it is valid."""
    rank = values.get(RANK)
    if not isinstance(rank, int):
        return
    if _refusal(get_method(METHOD), get_model(MODEL), {RANK: rank}) is None:
        state.remember(SCOPE, RANK, rank)


def _as_it_comes() -> None:
    """Set up the default run on the method's page, with the rank set here, replacing earlier settings."""
    state.forget(METHOD)
    state.forget("shared")
    for name, value in _dragged().items():
        state.remember(METHOD, name, value)
    begin(METHOD)


def _block() -> None:
    spec, entry = get_method(METHOD), get_model(MODEL)
    values = spec.complete(entry.shape, _dragged())
    trajectory, title = recorded(METHOD, MODEL)
    st.markdown(f"#### {spec.title} in {entry.title}")
    st.markdown(":small[Drag an orange strip: its thickness is the rank, and the count follows.]")
    block(
        entry.shape,
        spec.parts(entry.shape, values),
        quantization=spec.quantization(values),
        key="block.home",
        tokens=strip_of(get_task(TASK).samples[0]),
        trajectory=trajectory,
        title=title,
        playing=True,
        size="full",
        show=("phases", "layers", "curve", "answers"),
        handles=[one for one in handles(spec, entry.shape, values) if one.knob == RANK],
        on_values=_released,
    )


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


# ----------------------------------------
# Home's layout as CSS: words and button beside the block, three doors, the gallery as a grid of cards.


#: In the page that the browser loads (:mod:`peft_lab.ui.shell.dress`).
HOME_CSS = web.read("home.css")
