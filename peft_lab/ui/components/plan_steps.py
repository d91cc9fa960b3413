"""The three steps of *Plan a fine-tune* as one bar: Choose, Memory and Plan answer one situation.

A page reserves the bar's place, draws itself, says what it knows of its step (:func:`know`), and then fills the bar.
An answer stands in the bar while the shared situation is the one that it was given for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from peft_lab.advise.plans.wanted import Lengths, read_lengths
from peft_lab.core import units
from peft_lab.core.errors import BadInput
from peft_lab.ui import pages, state, theme
from peft_lab.ui.components import charts, figures
from peft_lab.ui.components.form import SHARED, Controls
from peft_lab.ui.components.frame import error_line
from peft_lab.ui.foreign import plain

STEPS = ("choose", "memory", "plan")
LEAD = "Describe your situation once, for all three steps."
#: Shared fields that each page's default is written to, so that the next step starts from the same.
_SEEDED = ("model", "device", "devices", "rows", "seq")
_SHARED = (*_SEEDED, "link", "row_tokens", "objective", "deadline")
_SCOPE = "plan-steps"


def seed(controls: Controls[Any]) -> None:
    """Store the defaults of shared fields that no page has set, so that all three steps start from them."""
    for name, field in controls.usual.fields().items():
        if field.shared in _SEEDED and state.remembered(SHARED, field.shared, None) is None:
            controls.remember(name, controls.default(name))


def _situation() -> tuple[str, ...]:
    return tuple(str(state.remembered(SHARED, name, "")) for name in _SHARED)


def know(step: str, text: str, good: bool = True) -> None:
    """Store a step's answer for the shared situation; an empty ``text`` forgets it."""
    known: dict[str, tuple[str, bool]] = state.remembered(_SCOPE, "known", {})
    if state.remembered(_SCOPE, "situation", None) != _situation():
        known = {}
        state.remember(_SCOPE, "situation", _situation())
    state.remember(_SCOPE, "known", {**known, step: (text, good)})


def know_memory(needed: int, memory: int) -> None:
    """Store that a step fits, with what it takes of each card."""
    size, unit = units.size(needed), units.size(memory)
    number = size.partition(" ")[0] if size.rpartition(" ")[2] == unit.rpartition(" ")[2] else size
    know("memory", f"yes, {number} of {unit}")


def known() -> dict[str, tuple[str, bool]]:
    """Return the steps' answers for the shared situation: the text, and whether it is a good one."""
    if state.remembered(_SCOPE, "situation", None) != _situation():
        return {}
    found: dict[str, tuple[str, bool]] = state.remembered(_SCOPE, "known", {})
    return {step: answer for step, answer in found.items() if answer[0]}


def head(step: str) -> Any:
    """Draw the step's title and reserve the bar's place below, to be filled once the page knows its answer."""
    with st.container(horizontal=True, vertical_alignment="bottom", key="plan-head"):
        st.title(pages.titles()[step], width="content")
        st.markdown(f":small[{LEAD}]", width="content")
    bar = st.container(key="plan-steps")
    bar.html(theme.KEPT_ROOM)
    return bar


def in_short(parts: Sequence[str]) -> None:
    """Draw the situation as one line with a link to its form, for phones, where the form stands below the answer."""
    with st.container(key="narrow-situation"):
        st.markdown(f"**Your situation:** {' · '.join(map(plain, parts))} · [Change](#your-situation)")


def draw(place: Any, current: str, queries: Mapping[str, Mapping[str, str]] | None = None) -> None:
    """Fill the bar: three links with their answers, the current step marked. ``queries``: URL parameters for steps that
    need more than the shared situation."""
    answers = known()
    with place:
        for number, step in enumerate(STEPS, start=1):
            title = pages.titles()[step]
            answer, good = answers.get(step, ("", True))
            mark = (":green[✓]" if good else ":red[✕]") if answer and step != current else f"**{number}**"
            said = f" :small[{plain(answer)}]" if answer else ""
            with st.container(key=f"plan-step-{step}{'-here' if step == current else ''}"):
                st.page_link(
                    pages.page(step, title), label=f"{mark} **{title}**{said}", width="stretch",
                    query_params=dict((queries or {}).get(step, {})) or None,
                )  # fmt: skip


# ----------------------------------------
# A file with nothing but the rows' lengths, for the plans of a training elsewhere.


def lengths_file(title: str, key: str) -> Lengths | None:
    """Return the rows' lengths from a file, drawn as a histogram; None without a valid file."""
    with st.expander(title):
        what = "One token count per line, or JSON Lines with `tokens`"
        file = st.file_uploader(what, type=["txt", "jsonl", "csv"], key=key)
        if file is None:
            return None
        try:
            found = read_lengths(file.getvalue().decode("utf-8", "replace"))
        except BadInput as error:
            error_line(error)
            return None
        rows = units.several(len(found.tokens), "row")
        st.markdown(f"{rows}, {found.mean:,.0f} tokens on average {figures.badge('counted')}")
        ends, counts = zip(*found.histogram(), strict=True)
        charts.draw(charts.columns(ends, counts, "tokens, up to", "rows", 200), f"{key}-histogram")
        return found
