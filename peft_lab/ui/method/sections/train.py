"""Train: start a mini fine-tune, watch it live, stop it, and compare base with tuned model."""

from __future__ import annotations

from typing import Any

import streamlit as st

from peft_lab.errors import AssetError, BadInput, PeftLabError
from peft_lab.models.catalogue import untrainable
from peft_lab.models.shapes import CLASSIFIERS
from peft_lab.runs import store
from peft_lab.runs.store import Run
from peft_lab.runs.view import Status
from peft_lab.ui import state
from peft_lab.ui.components import fetch_again, own_data, token_preview
from peft_lab.ui.components.knobs import OWN_TASK, Choice
from peft_lab.ui.foreign import plain
from peft_lab.ui.method.sections import duration, opened, settings
from peft_lab.ui.method.sections.live import beside_simulation, live, try_it
from peft_lab.ui.method.sections.live_memory import memory_beside
from peft_lab.ui.method.sections.settings import FIELDS, SAY, task_of
from peft_lab.ui.runs.shown import live_run, show_run, shown_run, stale

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
    problem = untrainable(choice.entry)
    if choice.task is None or problem is not None:
        st.info(plain(problem or f"No task here fits {choice.entry.title}."))
        return
    lacking = st.container()
    run = shown_run(choice.spec.slug)
    if run is None:
        with st.container(key="first-run"):  # a phone shows the knobs before it
            _form(choice, locked=False)
            _before_first_run(choice)
    else:
        _of_run(choice, run)
    with lacking:  # drawn last: reading the sentences may have found them damaged
        fetch_again.offer("train", _needed(choice))


def _of_run(choice: Choice, run: Run) -> None:
    """The run that the page shows; under it what the next one takes, open where something about it is wrong."""
    _another(choice.spec.slug, run)
    changed = stale(choice, run)
    if changed:
        st.markdown(f":orange[:material/history: {changed}]")
    live(run, choice.spec.slug)
    memory_beside(run)
    if run.view().status is Status.DONE:
        took = duration.beside(store.summary(run).kept)
        if took:
            st.markdown(took)
        beside_simulation(run)
        if choice.entry.kind != "vision":  # a picture cannot be typed
            try_it(run, choice.spec.slug)
    with st.expander("Settings of the next run", expanded=not _usable(choice)):
        _form(choice, locked=not run.view().status.final)


def _usable(choice: Choice) -> bool:
    try:
        return settings.asked(choice) is not None
    except PeftLabError:
        return False


def _needed(choice: Choice) -> set[str]:
    """The assets that a training of this choice reads."""
    task = task_of(choice)
    return {choice.entry.name, *((task.asset,) if task and task.asset else ())}


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


def _before_first_run(choice: Choice) -> None:
    task = task_of(choice)
    if task is None:
        return
    st.markdown(f"#### {plain(task.title)}")
    st.markdown(plain(task.description))
    st.markdown(f"**Measured by** {task.metric.replace('_', ' ')}: {task.metric_help}")
    st.caption(f"{task.source} · {task.license}")


def _form(choice: Choice, locked: bool) -> None:
    """The training settings, each with what is wrong under it."""
    slug = choice.spec.slug
    slots: dict[str, Any] = {}
    cells = [cell for _ in range(0, len(FIELDS), 2) for cell in st.columns(2)]
    for cell, name in zip(cells, FIELDS, strict=False):
        with cell:
            _field(choice, name, locked)
            slots[name] = st.empty()
            problem = state.address_problem(slug, name)
            if problem:
                st.markdown(f":red[:material/link_off: {plain(problem)} The default is used.]")
    beneath = st.empty()
    if choice.entry.kind != "vision":
        _sentence(choice, locked)
    slots[SAY] = st.empty()
    path = own_data.upload(choice.entry.kind, locked) if choice.task == OWN_TASK else None
    if slug == opened.METHOD and choice.entry.kind != "vision":
        opened.start(choice, path, locked)
    if choice.task == OWN_TASK and path is None:
        return
    try:
        complete = settings.asked(choice)
    except AssetError:  # said above the form, with a button
        return
    except PeftLabError as error:
        _say(error, slots)
        return
    if path is not None and complete is not None and choice.entry.kind not in CLASSIFIERS:
        token_preview.tokens_of(complete.model, path, complete.max_length)
    if complete is not None and complete.head_learning_rate not in (None, complete.learning_rate):
        beneath.caption(  # over both columns
            f"The task head starts at random; its learning rate is {complete.head_learning_rate:g}."
        )


def _field(choice: Choice, name: str, locked: bool) -> None:
    """One number of the form; what differs from the default goes into the address."""
    (label, text), reader = settings.words(choice, name), FIELDS[name][1]
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


def _say(error: PeftLabError, slots: dict[str, Any]) -> None:
    """What is wrong, at the control it is about."""
    field = error.field if isinstance(error, BadInput) else None
    slots.get(_CONTROL.get(field or "", ""), st).markdown(f":red[:material/error: {plain(error)}]")


def _sentence(choice: Choice, locked: bool) -> None:
    text = st.text_area(
        "Your sentence",
        value=settings.sentence(choice),
        key=settings.sentence_key(choice),
        height=90,
        disabled=locked,
        help="The base model and the tuned one both answer it, so that you see what was learnt.",
    )
    state.remember(choice.spec.slug, SAY, text, str(choice.task))
