"""The situation in numbers, and as a page's address."""

from __future__ import annotations

from dataclasses import asdict, fields, replace
from typing import Any

import streamlit as st

from peft_lab.advise.cited import ADAPTER_LATENCY
from peft_lab.advise.recipes.job import OF_ENCODERS
from peft_lab.advise.situation import KEYS, LINKS, MOST, Situation, device_of, read_value
from peft_lab.advise.tree import QUESTIONS
from peft_lab.core.errors import BadInput, UnknownName
from peft_lab.engine.devices import devices
from peft_lab.models.catalogue import catalogue, readers_of_text
from peft_lab.ui import state
from peft_lab.ui.foreign import plain

SCOPE = "choose"
USUAL = Situation()
MEGA = 1e6
OBJECTIVES = {"": "What suits the model", **QUESTIONS["objective"].answers}
NEEDED = {"no": "Yes", "yes": "No: a prompt does it", "retrieval": "No: looking things up does"}
SERVED = {"plain": "Own code", "vllm": "vLLM or alike"}
FORGET = {"ok": "May get worse", "matters": "Has to stay"}
LINK = {"": "Not known", **LINKS}
#: Least width of a choice in words and of a number, in pixels, so that no label and no value is cut; they share out
#: what is left of a row (:mod:`peft_lab.ui.theme`).
WIDE, NARROW = 240, 154
#: Limits that are folded away until one is set.
LIMITS = ("latency", "storage", "forgetting", "deadline_hours", "link")


def readers() -> dict[str, Any]:
    """What takes each field out of the address."""

    def reader(name: str) -> Any:
        def read(text: str) -> None:
            if name == "model" and text not in readers_of_text():
                raise UnknownName("model in the catalogue", text, readers_of_text(), "model")
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
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small", key="situation-fields"):
        model = _choice("model", "Model", list(readers_of_text()), start.model, catalogue_title)
        card = _choice("device", "Device", _devices(start.device), start.device, _device_title)
        devices = _number("devices", "How many", start.devices)
        prompting = _choice(
            "prompting", "Is training needed?", list(NEEDED), start.prompting, NEEDED.__getitem__
        )
        objective = _choice(
            "objective",
            "What is trained?",
            _objectives(model, start.objective),
            start.objective,
            OBJECTIVES.__getitem__,
        )
        data = _number(
            "rows", "Training rows", start.rows, "How many clean examples there are to train one task on."
        )
        row_tokens = _open(
            "row_tokens", "Tokens of a row", start.row_tokens, f"{start.seq:,}",
            "How long a row is on average. Rows times tokens is what there is to learn.", least=1,
        )  # fmt: skip
        shared = _number(
            "tasks", "Tasks on one base", start.tasks,
            "How many tasks or customers are served from the same base model.",
        )  # fmt: skip
        serving = _choice("serving", "Served by", list(SERVED), start.serving, SERVED.__getitem__)
        update = _open(
            "batch", "Rows of an update, at least", start.batch, "as sources use",
            "Rows that an optimizer step reads, over all devices; the sources' number where that is more. How many of "
            "them go through a device at once is searched.", least=1,
        )  # fmt: skip
        length = _number(
            "seq", "Tokens at most", start.seq, "Longer rows are cut to so many in a training step."
        )
    situation = replace(
        start, model=model, device=card, devices=devices, prompting=prompting, objective=objective, rows=data,
        row_tokens=None if row_tokens is None else max(1, round(row_tokens)), tasks=shared, serving=serving,
        batch=None if update is None else max(1, round(update)), seq=length,
    )  # fmt: skip
    set_now = sum(getattr(start, name) != getattr(USUAL, name) for name in LIMITS)
    with st.expander(f"Limits ({set_now} set)" if set_now else "Limits", expanded=set_now > 0):
        situation = _limits(situation)
    for name, value in asdict(situation).items():
        state.remember(SCOPE, name, value)
    if sum(getattr(situation, name) != getattr(USUAL, name) for name in LIMITS) != set_now:
        st.rerun()  # the heading counts them, and stands above them
    return situation


def _limits(start: Situation) -> Situation:
    """What a request, a task and the training may take."""
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small", key="limits-fields"):
        latency = _open(
            "latency", "Extra latency allowed, %", start.latency, "no limit",
            "How much longer a request may take than on the base model. In a published measurement adapters added "
            f"{ADAPTER_LATENCY}; any limit below that counts as No.", wide=True,
        )  # fmt: skip
        megabytes = None if start.storage is None else start.storage / MEGA
        storage = _open(
            "storage", "Storage per task, MB", megabytes, "no limit",
            "How much storage one task may take. Less than LoRA needs at its defaults counts as tight.", wide=True,
        )  # fmt: skip
        forgetting = _choice(
            "forgetting", "What it can do now", list(FORGET), start.forgetting, FORGET.__getitem__
        )
        link = _choice("link", "Between devices", list(LINK), start.link, LINK.__getitem__)
        deadline = _open(
            "deadline_hours", "Hours to train", start.deadline_hours, "no limit",
            "How long the training may take. The time is a range from arithmetic and data sheets.",
        )  # fmt: skip
    return replace(
        start, latency=latency, storage=None if storage is None else max(1, round(storage * MEGA)),
        forgetting=forgetting, deadline_hours=deadline or None, link=link,
    )  # fmt: skip


def _objectives(model: str, current: str) -> list[str]:
    """What the model can be trained for; what is chosen stays in the list, and its contradiction is said below."""
    encoder = model in catalogue() and catalogue()[model].kind == "encoder"
    return [name for name in OBJECTIVES if not encoder or name in ("", current, *OF_ENCODERS)]


def catalogue_title(name: str) -> str:
    return catalogue()[name].title


def _devices(current: str) -> list[str]:
    return list(dict.fromkeys([*devices(), current]))


def _device_title(name: str) -> str:
    title = device_of(name).title
    return title[:1].upper() + title[1:]


def _choice(name: str, text: str, options: list[str], current: str, titled: Any) -> str:
    index = options.index(current) if current in options else 0
    with st.container(width=WIDE, gap=None):
        chosen: str = st.selectbox(
            text, options, index, key=state.widget_key(SCOPE, name), format_func=titled
        )
        _problem(name)
    return chosen


def _number(name: str, text: str, current: int, help_: str | None = None) -> int:
    key = state.widget_key(SCOPE, name)
    with st.container(width=NARROW, gap=None):
        value = st.number_input(text, 1, MOST[name], value=current, step=1, key=key, help=help_)
        _problem(name)
    return int(value)


def _open(
    name: str,
    text: str,
    current: float | None,
    empty: str,
    help_: str,
    least: float = 0.0,
    wide: bool = False,
) -> float | None:
    """A number that may be missing; a whole one where ``least`` is."""
    number = type(least)
    with st.container(width=WIDE if wide else NARROW, gap=None):
        value = st.number_input(
            text, min_value=least, value=None if current is None else number(current),
            step=1 if number is int else None, key=state.widget_key(SCOPE, name), placeholder=empty, help=help_,
        )  # fmt: skip
        _problem(name)
    return None if value is None else float(value)


def _problem(name: str) -> None:
    problem = state.address_problem(SCOPE, name)
    if problem:
        st.markdown(f":red[:material/link_off: From the address: {plain(problem)} The default is used.]")


def error_line(error: BadInput) -> str:
    """A contradiction, as one line."""
    return f":red[:material/error: {plain(error)}]"
