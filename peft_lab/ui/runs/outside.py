"""A run that a script outside the lab carries out, followed on the page of runs: it has no page of its own."""

from __future__ import annotations

import streamlit as st

from peft_lab import units
from peft_lab.runs.store import Run
from peft_lab.ui.components import charts, figures
from peft_lab.ui.foreign import plain


def outside(run: Run) -> None:
    """How far it is, at which speed, and its loss."""
    seen = run.view()
    left = f", {units.roughly(seen.eta)} left" if seen.eta else ""
    where = f"{run.folder.readlink()}"
    st.markdown(
        f"Started outside the lab, and followed in {plain(where)}: step {seen.step:,} of {seen.steps:,}{left}. "
        + figures.badge("measured")
    )
    st.progress(min(1.0, seen.step / seen.steps))
    if seen.losses:
        steps = list(range(1, len(seen.losses) + 1))
        figure = charts.curves(
            {"loss": (steps, seen.losses)},
            "optimizer step",
            "training loss (nats)",
            height=260,
            until=seen.steps,
        )
        st.plotly_chart(figure, key="run-outside-loss", config=charts.CONFIG)
