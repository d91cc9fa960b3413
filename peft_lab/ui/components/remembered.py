"""A select box whose choice the session remembers, with what its address said of it and could not be used."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import streamlit as st

from peft_lab.ui import state
from peft_lab.ui.components.frame import address_line

Value = TypeVar("Value")


def choose(
    scope: str,
    name: str,
    label: str,
    options: Mapping[Value, str] | Sequence[Value],
    default: Value | None = None,
    *,
    variants: Sequence[str] = (),
    afresh: Sequence[str] = (),
    place: Any = st,
    written: Callable[[Value], str] = str,
    text: str | None = None,
) -> Value:
    """Draw the select box and return the choice: the remembered one while it is an option, else the default.

    Args:
        options: titles by value, or the values, which are ``written`` by a function.
        default: the first option unless given.
        variants: what the choice is remembered for, beside its name: another model, another sweep.
        afresh: what draws the control afresh without forgetting the choice.
        text: the help text.
    """
    values = list(options)
    index = state.one_of(scope, name, values, values[0] if default is None else default, *variants)
    value: Value = place.selectbox(
        label,
        values,
        index=index,
        key=state.widget_key(scope, name, *variants, *afresh),
        format_func=options.__getitem__ if isinstance(options, Mapping) else written,
        help=text,
        disabled=state.is_fixed(name),
    )
    address_line(scope, name, place)
    state.remember(scope, name, value, *variants)
    return value
