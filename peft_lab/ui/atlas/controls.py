"""What is asked for on the Atlas page: search, capabilities, the model, one type or two; all of it in the address."""

from __future__ import annotations

from typing import Any

import streamlit as st

from peft_lab.atlas import FAMILIES, entries, probes
from peft_lab.atlas.base import AtlasType
from peft_lab.errors import UnknownName
from peft_lab.models.catalogue import ModelEntry
from peft_lab.ui import state
from peft_lab.ui.components import model_choice
from peft_lab.ui.foreign import plain

SCOPE = "atlas"
ALL, NOBODY = "all", "none"
LONGEST = 60  # characters of a search
DEFAULTS: dict[str, Any] = {
    "type": "lora", "beside": NOBODY, "model": "llama-3.2-3b", "family": ALL, "can": (), "search": "",
}  # fmt: skip


def readers() -> dict[str, Any]:
    """What takes each part of the address."""
    return {
        "type": _one_of("type", entries()),
        "beside": _one_of("beside", {NOBODY: None, **entries()}),
        "family": _one_of("family", {ALL: None, **FAMILIES}),
        "model": lambda text: state.remember(SCOPE, "model", model_choice.from_address(text)),
        "can": _capabilities,
        "search": lambda text: state.remember(SCOPE, "search", text[:LONGEST]),
    }


def _one_of(name: str, options: Any) -> Any:
    def read(text: str) -> None:
        if text not in options:
            raise UnknownName(name, text, options, name)
        state.remember(SCOPE, name, text)

    return read


def _capabilities(text: str) -> None:
    names = [name for name in text.split(",") if name]
    for name in names:
        if name not in probes.CAPABILITIES:
            raise UnknownName("capability", name, probes.CAPABILITIES, "can")
    state.remember(SCOPE, "can", tuple(names))


def remembered(name: str) -> Any:
    return state.remembered(SCOPE, name, DEFAULTS[name])


def _problem(name: str) -> None:
    problem = state.address_problem(SCOPE, name)
    if problem:
        st.markdown(f":red[:material/link_off: From the address: {plain(problem)}]")


def pair() -> tuple[str, str]:
    """The type that is looked at, and the one beside it."""
    left, right = st.columns(2)
    titles = {NOBODY: "nothing", **{name: entry.title for name, entry in entries().items()}}
    names = list(entries())
    for cell, name, label, options in (
        (left, "type", "Look at", names),
        (right, "beside", "Beside it", [NOBODY, *names]),
    ):
        with cell:
            index = state.one_of(SCOPE, name, options, DEFAULTS[name])
            key = state.widget_key(SCOPE, name)
            value = st.selectbox(label, options, index, key=key, format_func=titles.__getitem__)
            _problem(name)
        state.remember(SCOPE, name, value)
    return str(remembered("type")), str(remembered("beside"))


def model() -> ModelEntry:
    """The model that is counted on."""
    chosen = model_choice.model_control(
        model_choice.entry_of(str(remembered("model"))), state.widget_key(SCOPE, "model")
    )
    _problem("model")
    state.remember(SCOPE, "model", chosen.name)
    return chosen


def filters() -> list[AtlasType]:
    """The types that match family, search and capabilities."""
    first, second, third = st.columns([3, 3, 6])
    with first:
        text = st.text_input(
            "Search", remembered("search"), max_chars=LONGEST, key=state.widget_key(SCOPE, "search"),
            placeholder="a name, or a word such as rotate",
        )  # fmt: skip
        _problem("search")
    with second:
        options = [ALL, *FAMILIES]
        titles = {ALL: "Every family", **{key: title for key, (title, _) in FAMILIES.items()}}
        index = state.one_of(SCOPE, "family", options, ALL)
        key = state.widget_key(SCOPE, "family")
        family = st.selectbox("Family", options, index, key=key, format_func=titles.__getitem__)
        _problem("family")
    with third:
        can = st.multiselect(
            "Has to be able to", list(probes.CAPABILITIES), list(remembered("can")), key=state.widget_key(SCOPE, "can"),
            format_func=lambda name: probes.CAPABILITIES[name][0], placeholder="any of the probed capabilities",
        )  # fmt: skip
        _problem("can")
    for name, value in (("search", text), ("family", family), ("can", tuple(can))):
        state.remember(SCOPE, name, value)
    return matching(str(family), str(text or ""), tuple(can))


def matching(family: str, text: str, can: tuple[str, ...]) -> list[AtlasType]:
    """Types of a family (or all) in whose texts every searched word stands and that can do all that is asked."""
    words = text.lower().split()
    found = []
    for entry in entries().values():
        said = " ".join(
            (entry.title, entry.name, entry.update, entry.differs, entry.when, str(entry.paper))
        ).lower()
        able = all(probes.value(entry.name, name) for name in can)
        if family in (ALL, entry.family) and able and all(word in said for word in words):
            found.append(entry)
    return found


def address(chosen_model: str) -> dict[str, tuple[Any, Any]]:
    """Every choice with its default, for the address."""
    values = {name: remembered(name) for name in DEFAULTS} | {"model": chosen_model}
    return {name: (value, DEFAULTS[name]) for name, value in values.items()}
