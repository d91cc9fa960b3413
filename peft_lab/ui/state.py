"""Settings: the one place that names session keys, and what a page's address says.

A learner's choices live in one dictionary per scope (a method's knobs, the shared model and task, the training form)
that survives page changes. A page's address carries everything that differs from its defaults, so that copying it
reproduces the page; opening such an address sets the same choices, and a value that cannot be read is reported at its
control, with the default kept.

Widgets are given keys made here. Streamlit forgets a widget's value when another page is shown; the dictionary does
not, and puts it back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import streamlit as st

from peft_lab.errors import BadInput

_SETTINGS = "settings"
_READ = "addresses-read"
_PROBLEMS = "address-problems"


def _all() -> dict[str, dict[str, Any]]:
    settings: dict[str, dict[str, Any]] = st.session_state.setdefault(_SETTINGS, {})
    return settings


def scope(name: str) -> dict[str, Any]:
    """The remembered choices of one scope, such as ``shared``, ``lora`` or ``train``."""
    return _all().setdefault(name, {})


def widget_key(scope_name: str, name: str, *variants: str) -> str:
    """The key of a control. ``variants`` tell controls apart whose options differ, such as the model's modules."""
    return ".".join((scope_name, name, *variants))


def remembered(scope_name: str, name: str, default: Any, *variants: str) -> Any:
    """What the learner last chose, or ``default``. Choices with variants are remembered for each."""
    return scope(scope_name).get(".".join((name, *variants)), default)


def remember(scope_name: str, name: str, value: Any, *variants: str) -> None:
    scope(scope_name)[".".join((name, *variants))] = value


def seed_widget(scope_name: str, name: str, default: Any, *variants: str) -> str:
    """Put the remembered value back into a control that Streamlit has forgotten; returns its key."""
    key = widget_key(scope_name, name, *variants)
    if key not in st.session_state:
        st.session_state[key] = remembered(scope_name, name, default, *variants)
    return key


def set_choice(scope_name: str, name: str, value: Any, *variants: str) -> None:
    """Set a choice from code, as "try it" and selections in charts do. Call it before the control is drawn."""
    remember(scope_name, name, value, *variants)
    st.session_state[widget_key(scope_name, name, *variants)] = value


def forget(scope_name: str) -> None:
    """Back to the defaults: drop the scope and its controls."""
    _all().pop(scope_name, None)
    for key in [key for key in st.session_state if str(key).startswith(scope_name + ".")]:
        del st.session_state[key]


def read_address(page: str, readers: Mapping[str, Callable[[str], None]]) -> None:
    """Take the choices out of the address, once per page and session.

    ``readers`` maps a parameter to what takes its text; one that raises :class:`BadInput` leaves the default, and the
    message is kept for :func:`address_problem`.
    """
    read: set[str] = st.session_state.setdefault(_READ, set())
    if page in read:
        return
    read.add(page)
    problems: dict[str, str] = st.session_state.setdefault(_PROBLEMS, {})
    for name, take in readers.items():
        if name in st.query_params:
            try:
                take(", ".join(st.query_params.get_all(name)) if name == "say" else st.query_params[name])
            except BadInput as error:
                problems[f"{page}.{name}"] = str(error)


def address_problem(page: str, name: str) -> str | None:
    """Why a value in the address could not be used; told once, at its control."""
    problems: dict[str, str] = st.session_state.setdefault(_PROBLEMS, {})
    return problems.pop(f"{page}.{name}", None)


def write_address(choices: Mapping[str, tuple[Any, Any]]) -> None:
    """Make the address say every ``name: (value, default)`` whose value is not the default."""
    wanted = {name: as_text(value) for name, (value, default) in choices.items() if value != default}
    if st.query_params.to_dict() != wanted:
        st.query_params.from_dict(wanted)


def as_text(value: Any) -> str:
    """A value as it stands in an address; :meth:`Knob.parse` reads it back."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple | list):
        return ",".join(str(item) for item in value)
    return f"{value:g}" if isinstance(value, float) else str(value)
