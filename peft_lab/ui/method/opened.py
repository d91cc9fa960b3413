"""A folder of the adapters library on the Train tab: opened, counted, scored, and trained on from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import streamlit as st

from peft_lab.core import units
from peft_lab.core.errors import PeftLabError
from peft_lab.core.units import Source
from peft_lab.methods.counting.count import count
from peft_lab.methods.shared import adapters_library as library_files
from peft_lab.runs import respond
from peft_lab.ui import state
from peft_lab.ui.components import figures, own_data
from peft_lab.ui.components.frame import error_line, errors_here
from peft_lab.ui.components.knobs import OWN_TASK, Choice, set_knobs
from peft_lab.ui.foreign import plain
from peft_lab.ui.method.settings import START, start_of
from peft_lab.workers import inspector

METHOD = "adapters"
_TYPES = ["json", "safetensors", "bin"]


def start(choice: Choice, own: str | None, locked: bool) -> None:
    """Draw the control, and what was opened. ``own``: the learner's file, where that is the task."""
    place = start_of(choice)
    with st.expander("Train on from the adapters library", expanded=place is not None):
        files = st.file_uploader(
            "The files of a folder that it saved", type=_TYPES, accept_multiple_files=True, disabled=locked,
            key=state.widget_key(METHOD, START, choice.entry.kind),
            help="adapter_config.json and adapter.safetensors (or pytorch_adapter.bin), of a classifier "
            "head_config.json and model_head.safetensors too. seq_bn, par_bn and double_seq_bn can be opened.",
        )  # fmt: skip
        try:
            if files:
                given = {file.name: file.getvalue() for file in files}
                place = own_data.stored("adapter.zip", library_files.pack(given))
                state.remember(METHOD, START, place, choice.entry.kind)
            if place is None:
                return
            read = respond.opened_values(Path(place), choice.entry.name)
        except PeftLabError as error:
            state.remember(METHOD, START, None, choice.entry.kind)
            error_line(error)
            return
        _opened(choice, place, read, own, locked)


def _opened(choice: Choice, place: str, read: dict[str, Any], own: str | None, locked: bool) -> None:
    said = ", ".join(f"{name} {value}" for name, value in read.items())
    with errors_here():
        with st.spinner("Counting…"):
            report = inspector.ask(count, choice.entry.name, METHOD, read)
        st.markdown(
            f"Opened: {plain(said)}. {units.count(report.trainable)} parameters {figures.badge(Source.COUNTED)}"
        )
        differ = {name: value for name, value in read.items() if choice.values[name] != value}
        with st.container(horizontal=True):
            if differ:
                st.button(
                    "Set the knobs as it has them", key=f"{METHOD}-start-knobs", icon=":material/tune:",
                    disabled=locked, on_click=set_knobs, args=(choice.spec, choice.shape, differ),
                )  # fmt: skip
            asked = st.button(
                "Score it", key=f"{METHOD}-start-score", icon=":material/scoreboard:",
                disabled=locked or (choice.task == OWN_TASK and own is None),
                help="Base and opened adapter on the held-out rows of the task, before any training.",
            )  # fmt: skip
            st.button(
                "Leave it out", key=f"{METHOD}-start-out", type="tertiary", disabled=locked,
                on_click=_leave_out, args=(choice.entry.kind,),
            )  # fmt: skip
        if asked:
            _score(choice, place, own)


def _leave_out(kind: str) -> None:
    """Forget it, and what its control holds."""
    state.remember(METHOD, START, None, kind)
    state.renew(METHOD)


def _score(choice: Choice, place: str, own: str | None) -> None:
    with errors_here():
        with st.spinner("Scoring both on the held-out rows…"):
            found = inspector.get_inspector(inspector.Worker.ANSWERS).ask(
                respond.opened_scores, place, choice.entry.name, str(choice.task), own
            )
        metric = str(found["metric"])
        base, tuned = (found[which]["metrics"][metric] for which in ("base", "opened"))
        st.markdown(
            f"{plain(metric.replace('_', ' ').capitalize())}: base {units.percent(100 * base)}, "
            f"opened adapter **{units.percent(100 * tuned)}**, "
            f"on {int(found['rows']):,} held-out rows {figures.badge(Source.MEASURED)}"
        )
