"""Train: start a mini fine-tune, watch it live, stop it, and compare base with tuned model."""

from __future__ import annotations

from typing import Any

import streamlit as st

from peft_lab.errors import AssetError, BadInput, PeftLabError
from peft_lab.queue.queue import get_queue
from peft_lab.runs import starters, store
from peft_lab.runs.spec import RunSpec
from peft_lab.runs.store import Run
from peft_lab.runs.view import Status
from peft_lab.tasks import rated
from peft_lab.ui import state
from peft_lab.ui.components import fetch_again, own_data
from peft_lab.ui.components.knobs import OWN_TASK, Choice
from peft_lab.ui.foreign import plain
from peft_lab.ui.method.sections import settings
from peft_lab.ui.method.sections.live import beside_simulation, live, try_it
from peft_lab.ui.method.sections.settings import FIELDS, task_of
from peft_lab.ui.runs.shown import live_run, show_run, shown_run, stale
from peft_lab.ui.server.browser_mark import browser_mark

SAY = "say"
# Which control a setting of the run is set at.
_CONTROL = {
    "steps": "steps",
    "batch": "batch",
    "learning_rate": "lr",
    "seed": "seed",
    "eval_rows": "rows",
    "probes": SAY,
}


def train(choice: Choice) -> None:
    if choice.task is None or not choice.entry.live:
        _not_here(choice)
        return
    lacking = st.container()
    run = shown_run(choice.spec.slug)
    going = run is not None and not run.view().status.final
    left, right = st.columns([5, 11], gap="large")
    with left:
        spec, slots = _form(choice, going)
        if (
            spec is not None
            and not going
            and st.button("Train", type="primary", key=f"{choice.spec.slug}-train", width="stretch")
        ):
            _start(choice, spec, slots)
    with lacking:  # drawn last: reading the sentences may have found them damaged
        fetch_again.offer("train", _needed(choice))
    with right:
        run = shown_run(choice.spec.slug)
        if run is None:
            _before_first_run(choice)
            return
        _another(choice.spec.slug, run)
        changed = stale(choice, run)
        if changed:
            st.markdown(f":orange[:material/history: {changed}]")
        live(run, choice.spec.slug)
        if run.view().status is Status.DONE:
            beside_simulation(run)
            try_it(run, choice.spec.slug)


def _needed(choice: Choice) -> set[str]:
    """The assets that a training of this choice reads."""
    return {choice.entry.name, *((rated.ASSET,) if isinstance(task_of(choice), rated.RatedSentences) else ())}


def _another(slug: str, shown: Run) -> None:
    """The way to the run of this learner that is under way, while the page shows one that has ended."""
    if not shown.view().status.final:
        return
    under_way = live_run(slug)
    if under_way is None:
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(":material/hourglass_top: Another run that you started here has not ended yet.")
        if st.button("Show it", key=f"{slug}-show-live", type="tertiary"):
            show_run(slug, under_way.id)
            st.rerun()


def _not_here(choice: Choice) -> None:
    if choice.entry.live:
        st.info(
            f"{plain(choice.entry.title)} is an encoder-decoder model; there is no training task for those here."
        )
        return
    st.info(
        f"{plain(choice.entry.title)} is known here by its shape: it can be counted and drawn, not trained. To "
        "train, choose one of the first two models above; your settings stay as they are."
    )


def _before_first_run(choice: Choice) -> None:
    task = task_of(choice)
    if task is None:
        return
    st.markdown(f"#### {plain(task.title)}")
    st.markdown(plain(task.description))
    st.markdown(f"**Measured by** {task.metric.replace('_', ' ')}: {task.metric_help}")
    st.caption(f"{task.source} · {task.license}")


def _form(choice: Choice, locked: bool) -> tuple[RunSpec | None, dict[str, Any]]:
    """The training settings; ``None`` while one of them cannot work, which is then said at it. And where to say so."""
    slug = choice.spec.slug
    values: dict[str, Any] = {}
    slots: dict[str, Any] = {}
    cells = [cell for _ in range(0, len(FIELDS), 2) for cell in st.columns(2)]
    for cell, name in zip(cells, FIELDS, strict=False):
        with cell:
            values[name] = _field(choice, name, locked)
            slots[name] = st.empty()
            problem = state.address_problem(slug, name)
            if problem:
                st.markdown(f":red[:material/link_off: {plain(problem)} The default is used.]")
    beneath = st.empty()
    sentence = _sentence(choice, locked)
    slots[SAY] = st.empty()
    own = own_data.upload(choice.entry.kind, locked) if choice.task == OWN_TASK else None
    if choice.task == OWN_TASK and own is None:
        return None, slots
    request = settings.request_of(choice, values, own, (sentence,) if sentence.strip() else ())
    try:
        complete = request.complete()
    except AssetError:  # said above the form, with a button
        return None, slots
    except PeftLabError as error:
        _say(error, slots)
        return None, slots
    if complete.head_learning_rate not in (None, complete.learning_rate):
        beneath.caption(  # over both columns
            f"The task head starts at random; its learning rate is {complete.head_learning_rate:g}."
        )
    return complete, slots


def _field(choice: Choice, name: str, locked: bool) -> Any:
    """One number of the form; what differs from the default goes into the address."""
    label, reader, text = FIELDS[name]
    how = {"step": 1} if reader is int else {"step": 1e-4, "format": "%g"}
    value = st.number_input(
        label,
        value=reader(settings.kept(choice, name)),
        key=settings.key_of(choice, name),
        help=text,
        disabled=locked or state.is_fixed(name),
        **how,
    )
    moved = None if value == settings.default(choice, name) else value
    state.remember(choice.spec.slug, name, moved, choice.entry.kind)
    return value


def _say(error: PeftLabError, slots: dict[str, Any]) -> None:
    """What is wrong, at the control it is about."""
    field = error.field if isinstance(error, BadInput) else None
    slots.get(_CONTROL.get(field or "", ""), st).markdown(f":red[:material/error: {plain(error)}]")


def _sentence(choice: Choice, locked: bool) -> str:
    task = task_of(choice)
    start = task.samples[0] if task else ""
    text = st.text_area(
        "Your sentence",
        value=state.remembered(choice.spec.slug, SAY, start, str(choice.task)),
        key=state.widget_key(choice.spec.slug, SAY, str(choice.task)),
        height=90,
        disabled=locked,
        help="The base model and the tuned one both answer it, so that you see what was learnt.",
    )
    state.remember(choice.spec.slug, SAY, text, str(choice.task))
    return str(text)


def _start(choice: Choice, spec: RunSpec, slots: dict[str, Any]) -> None:
    """Train. Only a run that may not fit into memory takes a moment, in which its step is simulated."""
    try:
        with st.spinner("Checking"):
            identity = get_queue().submit(spec)
    except PeftLabError as error:
        _say(error, slots)
        return
    starters.note(store.get(identity), browser_mark())
    show_run(choice.spec.slug, identity)
    st.rerun()
