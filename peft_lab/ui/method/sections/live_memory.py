"""The memory of a run's step three times: as it was simulated, as it was measured, and what full fine-tuning needs."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import replace
from typing import Any

import streamlit as st

from peft_lab.errors import PeftLabError
from peft_lab.methods import get_method
from peft_lab.runs.expected import parts_ahead
from peft_lab.runs.spec import RunSpec, entry_of
from peft_lab.runs.store import Run
from peft_lab.ui.components.grown_bars import Bar, grown_bars
from peft_lab.ui.components.parts import part
from peft_lab.ui.components.waiting import come_back, is_open
from peft_lab.ui.foreign import plain
from peft_lab.units import Source
from peft_lab.workers.pool import get_pool

FULL = "full"
REFRESH = 1.0
URGENCY = 2  # after the headline's own figure


def memory_beside(run: Run) -> None:
    """Draw the three bars; the measured one comes while the run goes on."""
    spec = run.spec
    asked = {f"{get_method(spec.method).title}, simulated": _ask(spec)}
    if spec.method != FULL:
        asked["Full fine-tuning, simulated"] = _ask_full(spec)
    st.markdown("##### Peak of one step")

    def bars() -> None:
        rows = [Bar(label, *_told(future)) for label, future in asked.items()]
        measured = run.view().memory.get("parts", {})
        waiting = "" if measured else "Measured at one of the first steps."
        rows.insert(1, Bar("This run, measured", measured, Source.MEASURED, waiting))
        grown_bars(rows, key=f"{spec.method}-peaks")

    open_ = [future for future in asked.values() if is_open(future)]
    part(bars, every=None if run.view().status.final else REFRESH)
    come_back(open_)


def _ask_full(spec: RunSpec) -> Future[dict[str, int]]:
    """Of the same run with every weight trained; why not, where its model's folder is gone."""
    method = get_method(FULL)
    try:
        values = method.complete(entry_of(spec.model).shape, {})
    except PeftLabError as error:
        none: Future[dict[str, int]] = Future()
        none.set_exception(error)
        return none
    return _ask(replace(spec, method=FULL, values=values))


def _ask(spec: RunSpec) -> Future[dict[str, int]]:
    return get_pool().submit(URGENCY, parts_ahead, spec.to_dict())


def _told(asked: Future[dict[str, int]]) -> tuple[dict[str, Any], Source, str]:
    if is_open(asked):
        return {}, Source.SIMULATED, "Simulating…"
    try:
        return asked.result(), Source.SIMULATED, ""
    except PeftLabError as error:
        return {}, Source.SIMULATED, plain(error)
