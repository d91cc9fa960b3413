"""The situation in numbers, and as a page's address."""

from __future__ import annotations

from typing import Any

import streamlit as st

from peft_lab.advise.recipes.job import OF_ENCODERS
from peft_lab.advise.situation import Situation
from peft_lab.core.errors import UnknownName
from peft_lab.engine.devices import device_of, devices
from peft_lab.models.catalogue import catalogue, readers_of_text
from peft_lab.ui.components.form import Controls

SCOPE = "choose"
MEGA = 1e6
#: Least width of a choice in words and of a number, in pixels, so that no label and no value is cut; they share out
#: what is left of a row (:mod:`peft_lab.ui.theme`).
WIDE, NARROW = 240, 154
_FIELDS = (
    "model", "device", "devices", "prompting", "objective", "rows", "row_tokens", "tasks", "serving", "batch", "seq",
)  # fmt: skip
#: Limits that are folded away until one is set.
_LIMITS = ("latency", "storage", "forgetting", "link", "deadline_hours")
_WIDE = ("model", "device", "prompting", "objective", "serving", "latency", "storage", "forgetting", "link")


def controls() -> Controls[Situation]:
    """Return the page's controls, not yet drawn."""
    return Controls(Situation, SCOPE)


def read_address() -> None:
    """Take the situation out of the address."""

    def model(text: str) -> str:
        if text not in readers_of_text():
            raise UnknownName("model in the catalogue", text, readers_of_text(), "model")
        return text

    controls().read_address(model=model)


def take(situation: Situation) -> None:
    """Set every field, and draw the controls afresh."""
    controls().put(**situation.by_name())


def form() -> Situation:
    """Draw the controls and return what they say."""
    shown = controls()
    if shown.value("model") not in readers_of_text():  # chosen on a page that takes other models too
        shown.remember("model", None)
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small", key="situation-fields"):
        for name in _FIELDS:
            _draw(shown, name)
    set_now = _limits_set(shown)
    with (
        st.expander(f"Limits ({set_now} set)" if set_now else "Limits", expanded=set_now > 0),
        st.container(horizontal=True, vertical_alignment="bottom", gap="small", key="limits-fields"),
    ):
        for name in _LIMITS:
            _draw(shown, name)
    if _limits_set(shown) != set_now:
        st.rerun()  # the heading counts them, and stands above them
    situation = shown.form()
    shown.show(situation.problems())
    return situation


def _limits_set(shown: Controls[Situation]) -> int:
    return sum(shown.value(name) != shown.default(name) for name in _LIMITS)


def _draw(shown: Controls[Situation], name: str) -> None:
    with st.container(width=WIDE if name in _WIDE else NARROW, gap=None):
        if name == "storage":
            shown.draw(name, scale=MEGA, label="Storage per task, MB")
        elif name == "row_tokens":
            shown.draw(name, placeholder=f"{shown.value('seq'):,}")
        else:
            shown.draw(name, options=_options(shown, name))


def _options(shown: Controls[Situation], name: str) -> dict[str, str] | None:
    if name == "model":
        return {one: catalogue()[one].title for one in readers_of_text()}
    if name == "device":
        titles = {one: device_of(one).title for one in (*devices(), shown.value("device"))}
        return {one: title[:1].upper() + title[1:] for one, title in titles.items()}
    if name == "objective":
        # What is chosen stays in the list, and its contradiction is said below.
        encoder = catalogue()[shown.value("model")].kind == "encoder"
        offered = ("", shown.value(name), *OF_ENCODERS)
        goals = Situation.field(name).titles
        return {one: title for one, title in goals.items() if not encoder or one in offered}
    return None


def address() -> dict[str, tuple[Any, Any]]:
    """Return what the address has to say: ``name: (value, default)``."""
    return controls().address()
