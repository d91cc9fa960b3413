"""Controls of the form with a place below each, where what is wrong with it is said and mended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from peft_lab.choose.situation import device_of
from peft_lab.errors import BadInput
from peft_lab.memory.devices import devices
from peft_lab.plan.asked import Unread
from peft_lab.plan.nowhere import Way
from peft_lab.ui import state
from peft_lab.ui.components import figures
from peft_lab.ui.foreign import plain

SCOPE, UNREAD = "plan", "unread"


class Controls:
    """Those that are drawn. ``foot``: where that is said which is about none of them."""

    def __init__(self, foot: Any) -> None:
        self._foot = foot
        self._below: dict[str, Any] = {}

    def choice(
        self, cell: Any, name: str, text: str, options: Sequence[str], current: str, titled: Any
    ) -> str:
        """One of several, or what was said in place of them."""
        options = list(dict.fromkeys([*options, current]))
        chosen: str = cell.selectbox(
            text, options, options.index(current), key=_key(name), format_func=titled
        )
        self.below(cell, name)
        return chosen

    def number(
        self, cell: Any, name: str, text: str, current: int | str, help_: str | None = None
    ) -> int | None:
        """A whole number, whichever: what it may be says the check. In place of none stands what was said, and ``None``
        comes back until a number is typed."""
        number, said = (None, current) if isinstance(current, str) else (current, None)
        value = cell.number_input(
            text, value=number, step=1, key=_key(name), help=help_, placeholder=said or None
        )
        self.below(cell, name)
        return None if value is None else int(value)

    def gpu(self, current: str) -> str:
        """One of the list, or another one's memory, typed. What is neither comes back as it is, for the check to
        refuse."""
        options = _gpus(current)
        typed: str = st.selectbox(
            "GPU", options, options.index(current), key=_key("gpu"), format_func=_gpu_title,
            accept_new_options=True, help="Another card goes by its memory: type 24GB.",
        )  # fmt: skip
        self.below(st, "gpu")
        try:
            return device_of(typed).name
        except BadInput:
            return typed

    def below(self, cell: Any, name: str) -> None:
        """Keep a place under the control that was just drawn."""
        self._below[name] = cell.container()

    def unused(self, name: str) -> None:
        """Say why a value of the address that has no control is not used."""
        told = state.address_problem(SCOPE, name)
        if told:
            self._foot.markdown(
                f":red[:material/link_off: From the address: {plain(told)} The default is used.]"
            )

    def refuse(self, name: str | None, text: str, ways: Sequence[Way] = ()) -> None:
        """Say at a control what is wrong with it, with a button for each way that works."""
        with self._at(name):
            st.markdown(f":red[:material/error: {plain(text)}]")
            offers(ways)

    def offer(self, name: str, text: str, ways: Sequence[Way]) -> None:
        """Say at a control what works, likewise."""
        with self._at(name):
            near(text)
            offers(ways)

    def _at(self, name: str | None) -> Any:
        return self._below.get(name or "", self._foot)


def near(text: str) -> None:
    """A sentence about time, which is simulated."""
    st.markdown(f":material/schedule: {plain(text)} {figures.badge('simulated')}")


def take_up(changes: Mapping[str, Any]) -> None:
    """Set some fields, the others as they are, and draw the controls afresh."""
    for name, value in changes.items():
        state.remember(SCOPE, name, value)
    left = {name: one for name, one in unread().items() if name not in changes}
    state.remember(SCOPE, UNREAD, left)
    state.renew(SCOPE)


def unread() -> dict[str, Unread]:
    """What was said of fields that is no value of theirs."""
    found: dict[str, Unread] = state.remembered(SCOPE, UNREAD, {})
    return found


def offers(ways: Sequence[Way]) -> None:
    """A button for each way that works."""
    offered = [way for way in ways if way.changes]
    if not offered:
        return
    with st.container(horizontal=True):
        for way in offered:
            # told apart by what they set, and the deadline that is none from the one that is met
            key = "-".join(("plan-way", *way.changes, *([] if all(way.changes.values()) else ["none"])))
            st.button(f"Plan with {plain(way.short)}", key=key, on_click=take_up, args=(way.changes,))


def _key(name: str) -> str:
    return state.widget_key(SCOPE, name)


def _gpus(current: str) -> list[str]:
    cards = [name for name, device in devices().items() if device.kind == "cuda"]
    return list(dict.fromkeys([*cards, current]))


def _gpu_title(name: str) -> str:
    """As it is sold; what no GPU is called as it was typed."""
    try:
        title = device_of(name).title
    except BadInput:
        return name
    return title[:1].upper() + title[1:]
