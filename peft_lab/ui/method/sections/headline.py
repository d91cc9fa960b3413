"""The four figures under a page's title."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from peft_lab import units
from peft_lab.counting.count import CountReport
from peft_lab.errors import RunError
from peft_lab.methods.knobs import read
from peft_lab.models.catalogue import untrainable
from peft_lab.runs.summary import RunSummary
from peft_lab.ui.components import figures
from peft_lab.ui.components.knobs import Choice
from peft_lab.ui.components.parts import part
from peft_lab.ui.foreign import plain
from peft_lab.ui.method.peak import Expected, peak
from peft_lab.ui.runs.shown import last_finished, short_id, shown_run
from peft_lab.units import Finding, Source

REFRESH = 1.0  # seconds between looks at a run that is going


def headline(choice: Choice, report: CountReport | None, expected: Expected) -> None:
    """Trainable parameters, stored size, peak memory and what the last run with this method, model and task reached.

    While the page's run is going the figures are drawn again by themselves: what it measured is shown at once.
    """
    going = under_way(choice.spec.slug)

    def tiles() -> None:
        still = under_way(choice.spec.slug)
        _tiles(choice, report, expected, still)
        if going and not still:
            st.rerun()

    part(tiles, every=REFRESH if going else None)


def under_way(slug: str) -> bool:
    """Whether the page's run has not ended."""
    run = shown_run(slug)
    try:
        return run is not None and not run.view().status.final
    except RunError:
        return False


def _tiles(choice: Choice, report: CountReport | None, expected: Expected, going: bool) -> None:
    with st.container(key="headline"):
        cells = st.columns(4)
        waiting = "Counting…" if choice.valid else "No figure: one of the settings below does not work."
        with cells[0]:
            _trainable(choice, report, waiting)
        with cells[1]:
            stored = Finding(report.stored_bytes, "bytes", Source.COUNTED) if report else None
            figures.card("Stored adapter", stored, "one safetensors file", absent=waiting)
        with cells[2]:
            found = peak(choice, expected)
            figures.card("Peak memory, one step", found.finding, plain(found.note), absent=plain(found.note))
        with cells[3]:
            # While a run goes on, an earlier one's score would pass for its own.
            _metric(choice, None if going else last_finished(choice), going)


def _trainable(choice: Choice, report: CountReport | None, waiting: str) -> None:
    if report is None:
        figures.card("Trainable parameters", None, absent=waiting)
        return
    note = f"{units.percent(report.percent)} of {units.count(report.total)}"
    figures.card("Trainable parameters", Finding(report.trainable, "parameters", Source.COUNTED), note)


def _metric(choice: Choice, last: RunSummary | None, going: bool) -> None:
    if last is None or last.after is None or last.before is None:
        figures.card("Before → after training", None, absent=_no_metric(choice, going))
        return
    finding = Finding(last.after, last.metric, Source.MEASURED)
    text = f"{last.before:.0%} → {last.after:.0%}"
    figures.card(last.metric_title, finding, _from(choice, last), text=text)


def _no_metric(choice: Choice, going: bool) -> str:
    """Why there is no result, and what brings one."""
    if not choice.entry.live:
        return "This model is known by its shape only: it is not trained here."
    if untrainable(choice.entry) is not None:
        return "Something is missing to train this model; the Train tab says what."
    if choice.task is None:
        return "No training task here fits this model."
    if going:
        return "A run is under way; both scores appear when it ends."
    return "Press Train to measure it."


def _from(choice: Choice, last: RunSummary) -> str:
    """The run that a measured figure is of, and a warning where its knobs are not those set now."""
    spec = last.spec
    same = spec is not None and _read(choice, choice.values) == _read(
        choice, {**choice.values, **spec.values}
    )
    return f"run {short_id(last.id)}, {last.steps} steps" + ("" if same else ", **with other settings**")


def _read(choice: Choice, values: Mapping[str, Any]) -> dict[str, Any]:
    return read(choice.spec.knobs, values)
