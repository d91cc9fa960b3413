"""Train: start a mini fine-tune, watch it live, stop it, and compare base with tuned model."""

from __future__ import annotations

from typing import Any

import streamlit as st

from peft_lab import tasks
from peft_lab.errors import AssetError, BadInput, PeftLabError
from peft_lab.runs.queue import get_queue
from peft_lab.runs.spec import BATCH, EVAL_ROWS, STEPS, RunSpec
from peft_lab.runs.view import Status
from peft_lab.tasks import rated
from peft_lab.tasks.base import Task
from peft_lab.ui import fetch_again, own_data, state
from peft_lab.ui.knobs import OWN_TASK, Choice, tasks_for
from peft_lab.ui.runs import show_run, shown_run, stale
from peft_lab.ui.sections.live import beside_simulation, live, try_it

# Name, label, reader, help. The address and the form are both made from this list.
FIELDS = {
    "steps": ("Steps", int, "Optimizer steps. The defaults learn visibly within these."),
    "batch": ("Batch", int, "Rows per step. Memory grows with it."),
    "lr": (
        "Learning rate",
        float,
        "Peak of the schedule. PEFT methods want far larger ones than full fine-tuning.",
    ),
    "seed": (
        "Seed",
        int,
        "Of the start, the order of the rows and dropout. The same seed gives the same curve.",
    ),
    "rows": (
        "Held-out rows",
        int,
        "How many sentences not trained on are asked, base and tuned. More is surer.",
    ),
}
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
        changed = stale(choice, run)
        if changed:
            st.markdown(f":orange[:material/history: {changed}]")
        live(run, choice.spec.slug)
        if run.view().status is Status.DONE:
            beside_simulation(run)
            try_it(run, choice.spec.slug)


def _needed(choice: Choice) -> set[str]:
    """The assets that a training of this choice reads."""
    return {choice.entry.name, *((rated.ASSET,) if isinstance(_task(choice), rated.RatedSentences) else ())}


def _not_here(choice: Choice) -> None:
    if choice.entry.live:
        st.info(
            f"{choice.entry.title} is an encoder-decoder model; there is no training task for those here."
        )
        return
    st.info(
        f"{choice.entry.title} is known here by its shape: it can be counted and drawn, not trained. "
        "Choose one of the first two models above to train; the knobs stay as they are."
    )


def _before_first_run(choice: Choice) -> None:
    task = _task(choice)
    if task is None:
        return
    st.markdown(f"#### {task.title}")
    st.markdown(task.description)
    st.markdown(f"**Measured by** {task.metric.replace('_', ' ')}: {task.metric_help}")
    st.caption(f"{task.source} · {task.license}")


def _task(choice: Choice) -> Task | None:
    return tasks.get_task(choice.task) if choice.task and choice.task != OWN_TASK else None


def _default(choice: Choice, name: str) -> Any:
    kind = "classification" if choice.entry.kind == "encoder" else "generation"
    rate = choice.spec.learning_rate(choice.entry.kind, choice.values)
    return {"steps": STEPS, "batch": BATCH[kind], "lr": rate, "seed": 0, "rows": EVAL_ROWS[kind]}[name]


def _kept(choice: Choice, name: str) -> Any:
    """The learner's own setting, or the default where there is none."""
    kept = state.remembered(choice.spec.slug, name, None, choice.entry.kind)
    return _default(choice, name) if kept is None else kept


def _form(choice: Choice, locked: bool) -> tuple[RunSpec | None, dict[str, Any]]:
    """The training settings; ``None`` while one of them cannot work, which is then said at it. And where to say so."""
    slug, kind = choice.spec.slug, choice.entry.kind
    values: dict[str, Any] = {}
    slots: dict[str, Any] = {}
    cells = [cell for _ in range(0, len(FIELDS), 2) for cell in st.columns(2)][: len(FIELDS)]
    for cell, (name, (label, reader, text)) in zip(cells, FIELDS.items(), strict=True):
        default = _default(choice, name)
        # A knob may move the default of the learning rate: the control then starts afresh.
        key, shut = state.widget_key(slug, name, kind, f"{default:g}"), locked or state.is_fixed(name)
        start = _kept(choice, name)
        with cell:
            if reader is int:
                values[name] = st.number_input(
                    label, value=int(start), step=1, key=key, help=text, disabled=shut
                )
            else:
                values[name] = st.number_input(
                    label, value=float(start), step=1e-4, format="%g", key=key, help=text, disabled=shut
                )
            slots[name] = st.empty()
            problem = state.address_problem(slug, name)
            if problem:
                st.markdown(f":red[:material/link_off: {problem} The default is used.]")
        state.remember(slug, name, None if values[name] == default else values[name], kind)
    sentence = _sentence(choice, locked)
    slots[SAY] = st.empty()
    own = own_data.upload(choice.entry.kind, locked) if choice.task == OWN_TASK else None
    if choice.task == OWN_TASK and own is None:
        return None, slots
    spec = RunSpec(
        model=choice.entry.name,
        method=slug,
        task=str(choice.task),
        values=dict(choice.values),
        steps=int(values["steps"]),
        batch=int(values["batch"]),
        seed=int(values["seed"]),
        eval_rows=int(values["rows"]),
        learning_rate=float(values["lr"]),
        own_data=own,
        probes=(sentence,) if sentence.strip() else (),
    )
    try:
        complete = spec.check()
    except AssetError:  # said above the form, with a button
        return None, slots
    except PeftLabError as error:
        _say(error, slots)
        return None, slots
    if complete.head_learning_rate not in (None, complete.learning_rate):
        slots["lr"].caption(
            f"The task head, which starts at random, learns at {complete.head_learning_rate:g}."
        )
    return complete, slots


def _say(error: PeftLabError, slots: dict[str, Any]) -> None:
    """What is wrong, at the control it is about."""
    field = error.field if isinstance(error, BadInput) else None
    slots.get(_CONTROL.get(field or "", ""), st).markdown(f":red[:material/error: {error}]")


def _sentence(choice: Choice, locked: bool) -> str:
    task = _task(choice)
    start = task.samples[0] if task else ""
    text = st.text_area(
        "Your sentence",
        value=state.remembered(choice.spec.slug, SAY, start, str(choice.task)),
        key=state.widget_key(choice.spec.slug, SAY, str(choice.task)),
        height=90,
        disabled=locked,
        help="Answered by the base model and by the tuned one, so that you see what was learnt.",
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
    show_run(choice.spec.slug, identity)
    st.rerun()


# -- the address -------------------------------------------------------------------------------------------------


def training_readers(slug: str) -> dict[str, Any]:
    """What takes the training settings out of an address. They are kept for both kinds of model."""

    def take(name: str, reader: type) -> Any:
        def read(text: str) -> None:
            try:
                value = reader(text)
            except ValueError:
                raise BadInput(f"The address says {name}={text[:20]}, which is no number.", name) from None
            for kind in ("encoder", "causal-lm"):
                state.remember(slug, name, value, kind)

        return read

    table = {name: take(name, reader) for name, (_, reader, _) in FIELDS.items()}
    return table | {"run": lambda text: show_run(slug, text)}


def training_address(choice: Choice) -> dict[str, tuple[Any, Any]]:
    """What the address has to say about training and the run that is shown."""
    slug, kind = choice.spec.slug, choice.entry.kind
    table: dict[str, tuple[Any, Any]] = {"run": (state.remembered(slug, "run", ""), "")}
    if tasks_for(choice.entry) and kind in choice.spec.learning_rates:
        for name in FIELDS:
            table[name] = (_kept(choice, name), _default(choice, name))
    return table
