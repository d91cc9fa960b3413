"""The situation in numbers, and as a page's address."""

from __future__ import annotations

from dataclasses import asdict, fields, replace
from typing import Any

import streamlit as st

from peft_lab.choose.cited import ADAPTER_LATENCY
from peft_lab.choose.situation import KEYS, MOST, Situation, device_of, read_value
from peft_lab.errors import BadInput, UnknownName
from peft_lab.memory.devices import devices
from peft_lab.models.catalogue import catalogue
from peft_lab.ui import state
from peft_lab.ui.foreign import plain

SCOPE = "choose"
USUAL = Situation()
MEGA = 1e6
OUTPUTS = {"": "What suits the model", "classification": "A class", "generation": "Text"}


def readers() -> dict[str, Any]:
    """What takes each field out of the address."""

    def reader(name: str) -> Any:
        def read(text: str) -> None:
            if name == "model" and text not in catalogue():
                raise UnknownName("model in the catalogue", text, catalogue(), "model")
            state.remember(SCOPE, name, read_value(name, text))

        return read

    return {name: reader(name) for name in KEYS}


def address(situation: Situation) -> dict[str, tuple[Any, Any]]:
    """What the address has to say: ``name: (value, default)``."""
    usual = asdict(USUAL)
    return {name: (value, usual[name]) for name, value in asdict(situation).items()}


def remembered() -> Situation:
    """The situation as the learner left it."""
    return Situation(
        **{field.name: state.remembered(SCOPE, field.name, field.default) for field in fields(Situation)}
    )


def take(situation: Situation) -> None:
    """Set every field, and draw the controls afresh."""
    for name, value in asdict(situation).items():
        state.remember(SCOPE, name, value)
    state.renew(SCOPE)


def form() -> Situation:
    """Draw the controls and return what they say."""
    start = remembered()
    model = _choice(st, "model", "Model", list(catalogue()), start.model, catalogue_title)
    device = _choice(st, "device", "Device", _devices(start.device), start.device, _device_title)
    second, third, fourth = (st.columns(2, vertical_alignment="bottom") for _ in range(3))
    batch = _number(second[0], "batch", "Batch size", start.batch)
    seq = _number(second[1], "seq", "Tokens per row", start.seq)
    rows = _number(
        third[0], "rows", "Training rows", start.rows, "How many clean examples you have to train on."
    )
    tasks = _number(
        third[1],
        "tasks",
        "Tasks on one base",
        start.tasks,
        "How many tasks are served from the same base model.",
    )
    latency = _open(
        fourth[0], "latency", "Extra latency allowed, %", start.latency, "no limit",
        "How much longer a request may take than on the base model. In a published measurement adapters added "
        f"{ADAPTER_LATENCY}; any limit below that counts as No.",
    )  # fmt: skip
    megabytes = None if start.storage is None else start.storage / MEGA
    storage = _open(
        fourth[1], "storage", "Storage per task, MB", megabytes, "no limit",
        "How much storage one task may take. Less than LoRA needs at its defaults counts as tight.",
    )  # fmt: skip
    output = _choice(st, "output", "What comes out", list(OUTPUTS), start.output, OUTPUTS.__getitem__)
    reached = st.toggle(
        "A good prompt already reaches the target",
        value=start.prompting == "yes",
        key=state.widget_key(SCOPE, "prompting"),
        help="Measured on held-out rows, with examples in the prompt.",
    )
    _problem(st, "prompting")
    situation = replace(
        start, model=model, device=device, batch=batch, seq=seq, rows=rows, tasks=tasks, latency=latency,
        storage=None if storage is None else max(1, round(storage * MEGA)), output=output,
        prompting="yes" if reached else "no",
    )  # fmt: skip
    for name, value in asdict(situation).items():
        state.remember(SCOPE, name, value)
    return situation


def catalogue_title(name: str) -> str:
    return catalogue()[name].title


def _devices(current: str) -> list[str]:
    return list(dict.fromkeys([*devices(), current]))


def _device_title(name: str) -> str:
    title = device_of(name).title
    return title[:1].upper() + title[1:]


def _choice(cell: Any, name: str, text: str, options: list[str], current: str, titled: Any) -> str:
    index = options.index(current) if current in options else 0
    chosen: str = cell.selectbox(text, options, index, key=state.widget_key(SCOPE, name), format_func=titled)
    _problem(cell, name)
    return chosen


def _number(cell: Any, name: str, text: str, current: int, help_: str | None = None) -> int:
    key = state.widget_key(SCOPE, name)
    value = cell.number_input(text, 1, MOST[name], value=current, step=1, key=key, help=help_)
    _problem(cell, name)
    return int(value)


def _open(cell: Any, name: str, text: str, current: float | None, empty: str, help_: str) -> float | None:
    """A number that may be missing."""
    value = cell.number_input(
        text, min_value=0.0, value=current, key=state.widget_key(SCOPE, name), placeholder=empty, help=help_
    )
    _problem(cell, name)
    return None if value is None else float(value)


def _problem(cell: Any, name: str) -> None:
    problem = state.address_problem(SCOPE, name)
    if problem:
        cell.markdown(f":red[:material/link_off: From the address: {plain(problem)} The default is used.]")


def error_line(error: BadInput) -> str:
    """A contradiction, as one line."""
    return f":red[:material/error: {plain(error)}]"
