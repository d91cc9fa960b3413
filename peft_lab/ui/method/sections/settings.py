"""The training settings of a method page: what is set now, whether or not its form is drawn, and as an address."""

from __future__ import annotations

from typing import Any, get_args

import streamlit as st

from peft_lab import tasks
from peft_lab.errors import BadInput
from peft_lab.models.catalogue import untrainable
from peft_lab.models.shapes import CLASSIFIERS, ModelKind
from peft_lab.runs.spec import BATCH, STEPS, RunRequest, RunSpec, usual_eval_rows
from peft_lab.tasks import apart
from peft_lab.tasks.base import Task
from peft_lab.ui import state
from peft_lab.ui.components import own_data
from peft_lab.ui.components.knobs import OWN_TASK, Choice, tasks_for

SAY = "say"
START = "start"
# Name, label, reader, help. The address and the form are both made from this list.
FIELDS = {
    "steps": ("Steps", int, "Optimizer steps. The defaults learn visibly within these."),
    "batch": ("Batch size", int, "Rows in each optimizer step. More rows need more memory."),
    "lr": (
        "Learning rate",
        float,
        "The peak of the schedule. PEFT methods need far larger learning rates than full fine-tuning.",
    ),
    "seed": (
        "Seed",
        int,
        "Fixes the initial weights, the order of the rows and dropout. The same seed gives the same curve.",
    ),
    "rows": (
        "Held-out rows",
        int,
        "How many held-out rows score the base and the tuned model. More rows make the scores more reliable.",
    ),
}
#: Label and help where the model reads images.
_OF_IMAGES = {
    "batch": ("Batch size", "Images in each optimizer step. More images need more memory."),
    "seed": (
        "Seed",
        "Fixes the initial weights, the order of the images and dropout. The same seed gives the same curve.",
    ),
    "rows": (
        "Held-out images",
        "How many held-out images score the base and the tuned model. More images make the scores more reliable.",
    ),
}


def words(choice: Choice, name: str) -> tuple[str, str]:
    """Label and help of a setting, for what the model reads."""
    label, _, text = FIELDS[name]
    return _OF_IMAGES.get(name, (label, text)) if choice.entry.kind == "vision" else (label, text)


def default(choice: Choice, name: str) -> Any:
    kind = "classification" if choice.entry.kind in CLASSIFIERS else "generation"
    rate = choice.spec.learning_rate(choice.entry.kind, choice.values)
    rows = usual_eval_rows(kind, choice.entry.kind)
    return {"steps": STEPS, "batch": BATCH[kind], "lr": rate, "seed": 0, "rows": rows}[name]


def kept(choice: Choice, name: str) -> Any:
    """The learner's own setting, or the default where there is none."""
    found = state.remembered(choice.spec.slug, name, None, choice.entry.kind)
    return default(choice, name) if found is None else found


def key_of(choice: Choice, name: str) -> str:
    """The control's key. A knob may move the default of the learning rate: the control then starts afresh."""
    return state.widget_key(choice.spec.slug, name, choice.entry.kind, f"{default(choice, name):g}")


def task_of(choice: Choice) -> Task | None:
    return tasks.get_task(choice.task) if choice.task and choice.task != OWN_TASK else None


def example_task(choice: Choice) -> Task | None:
    """The task whose examples stand for what is chosen: the learner's own file, once there is a usable one."""
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
    """What Train would train, unchecked."""
    return RunRequest(
        model=choice.entry.name,
        method=choice.spec.slug,
        task=str(choice.task),
        values=dict(choice.values),
        steps=int(values["steps"]),
        batch=int(values["batch"]),
        seed=int(values["seed"]),
        eval_rows=int(values["rows"]),
        learning_rate=float(values["lr"]),
        own_data=own,
        own_source=None if own is None else own_data.source_of(choice.entry.kind),
        start=start_of(choice),
        probes=probes,
    )


def start_of(choice: Choice) -> str | None:
    """The adapter that is trained on from, where the learner opened one for this kind of model."""
    found = state.remembered(choice.spec.slug, START, None, choice.entry.kind)
    return None if found is None else str(found)


def planned(choice: Choice) -> RunSpec | None:
    """What Train would train now, complete, but for the sentence, on which no step depends; ``None`` for a model that
    is known by its shape only or has no task.

    Raises:
        PeftLabError: a setting that cannot work, or weights and sentences that have to be fetched first.
    """
    if not trainable(choice):
        return None
    return request_of(choice, _now(choice), _own_file(choice)).complete()


def asked(choice: Choice) -> RunSpec | None:
    """As :func:`planned`, with the learner's sentence; ``None`` too while knobs cannot work or a file is missing."""
    own = _own_file(choice)
    if not choice.valid or not trainable(choice) or (choice.task == OWN_TASK and own is None):
        return None
    text = "" if choice.entry.kind == "vision" else sentence(choice)
    return request_of(choice, _now(choice), own, (text,) if text.strip() else ()).complete()


def trainable(choice: Choice) -> bool:
    """Whether the model is here and there is a task and a learning rate for its kind."""
    return bool(
        choice.task and choice.entry.kind in choice.spec.learning_rates and untrainable(choice.entry) is None
    )


def sentence(choice: Choice) -> str:
    """What both models are to answer: the learner's own, or the task's first example."""
    task = task_of(choice)
    start = task.samples[0] if task and task.samples else ""
    kept = state.remembered(choice.spec.slug, SAY, start, str(choice.task))
    return str(st.session_state.get(sentence_key(choice), kept))


def sentence_key(choice: Choice) -> str:
    return state.widget_key(choice.spec.slug, SAY, str(choice.task))


def _now(choice: Choice) -> dict[str, Any]:
    # What was just set stands in its control, which may be drawn further down.
    return {name: st.session_state.get(key_of(choice, name), kept(choice, name)) for name in FIELDS}


def _own_file(choice: Choice) -> str | None:
    return state.remembered("own", "file", None, choice.entry.kind) if choice.task == OWN_TASK else None


# -- the address -------------------------------------------------------------------------------------------------


def training_readers(slug: str) -> dict[str, Any]:
    """What takes the training settings out of an address. They are kept for every kind of model."""

    def take(name: str, reader: type) -> Any:
        def read(text: str) -> None:
            try:
                value = reader(text)
            except ValueError:
                raise BadInput(f"The address says {name}={text[:20]}, which is not a number.", name) from None
            if not abs(value) <= state.LARGEST:  # nor can nan be shown in a control
                raise BadInput(
                    f"The address says {name}={text[:20]}, which is not a number that can be set.", name
                )
            for kind in get_args(ModelKind):
                state.remember(slug, name, value, kind)

        return read

    return {name: take(name, reader) for name, (_, reader, _) in FIELDS.items()}


def training_address(choice: Choice) -> dict[str, tuple[Any, Any]]:
    """What the address has to say about training and the run that is shown."""
    slug, kind = choice.spec.slug, choice.entry.kind
    table: dict[str, tuple[Any, Any]] = {"run": (state.remembered(slug, "run", ""), "")}
    if tasks_for(choice.entry) and kind in choice.spec.learning_rates:
        for name in FIELDS:
            table[name] = (kept(choice, name), default(choice, name))
    return table
