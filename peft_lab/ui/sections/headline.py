"""The four figures under a page's title."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from peft_lab import units
from peft_lab.counting import CountReport
from peft_lab.methods.knobs import read
from peft_lab.runs.store import RunSummary
from peft_lab.ui import figures
from peft_lab.ui.knobs import Choice
from peft_lab.ui.runs import short_id
from peft_lab.units import Finding, Source


def headline(choice: Choice, report: CountReport | None, last: RunSummary | None) -> None:
    """Trainable parameters, stored size, peak memory and what the last run with this method, model and task reached."""
    with st.container(key="headline"):
        cells = st.columns(4)
        waiting = "Counting…" if choice.valid else "No figure: a setting below cannot work."
        with cells[0]:
            _trainable(choice, report, waiting)
        with cells[1]:
            stored = Finding(report.stored_bytes, "bytes", Source.COUNTED) if report else None
            figures.card("Stored adapter", stored, "one safetensors file", absent=waiting)
        with cells[2]:
            _memory(choice, last)
        with cells[3]:
            _metric(choice, last)


def _trainable(choice: Choice, report: CountReport | None, waiting: str) -> None:
    if report is None:
        figures.card("Trainable parameters", None, absent=waiting)
        return
    note = f"{units.percent(report.percent)} of {units.count(report.total)}"
    figures.card("Trainable parameters", Finding(report.trainable, "parameters", Source.COUNTED), note)


def _memory(choice: Choice, last: RunSummary | None) -> None:
    if last is None or last.peak_bytes is None:
        figures.card("Peak memory, one step", None, absent="Press Train to measure it.")
        return
    finding = Finding(last.peak_bytes, "bytes", Source.MEASURED)
    figures.card("Peak memory, one step", finding, _from(choice, last))


def _metric(choice: Choice, last: RunSummary | None) -> None:
    if last is None or last.after is None or last.before is None:
        figures.card("Before → after training", None, absent="Press Train to measure it.")
        return
    finding = Finding(last.after, last.metric, Source.MEASURED)
    text = f"{last.before:.0%} → {last.after:.0%}"
    figures.card(last.metric_title, finding, _from(choice, last), text=text)


def _from(choice: Choice, last: RunSummary) -> str:
    """The run that a measured figure is of, and a warning where its knobs are not those set now."""
    spec = last.spec
    same = spec is not None and _read(choice, choice.values) == _read(
        choice, {**choice.values, **spec.values}
    )
    return f"run {short_id(last.id)}, {last.steps} steps" + ("" if same else ", **with other knobs**")


def _read(choice: Choice, values: Mapping[str, Any]) -> dict[str, Any]:
    return read(choice.spec.knobs, values)
