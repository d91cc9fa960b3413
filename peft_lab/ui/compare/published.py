"""The published comparison beside ours, on the same axes, marked as cited."""

from __future__ import annotations

import streamlit as st

from peft_lab import published as source
from peft_lab import units
from peft_lab.compare import cited, pareto
from peft_lab.compare.pareto import Axis
from peft_lab.models.catalogue import get_model
from peft_lab.ui.compare import drawings
from peft_lab.ui.components import figures


def plot(x: Axis, y: Axis) -> None:
    """The published rows on these axes, or which of the two was not published."""
    st.markdown(f"#### {cited.heading()} {figures.badge('cited')}")
    missing = [axis.title for axis in (x, y) if axis.name not in cited.TITLES]
    if missing:
        names = " and ".join(title.format(metric="", unit="token").lower() for title in missing)
        st.markdown(f"Not published there: {names}.")
        return
    rows = cited.rows()
    front = pareto.front(rows, x.name, y.name)
    st.markdown(
        f":small[Pareto front, filled: {len(front)} of {len(rows)} runs. Point at a dot to see its run.]"
    )
    figure = drawings.scatter(rows, x, y, cited.TITLES, front, {}, front[-1:])
    st.plotly_chart(figure, key="compare-cited", config=drawings.config(f"published-{x.name}-{y.name}"))


def rows_table() -> None:
    """All published rows, with where they are from and what differs from ours."""
    rows = sorted(cited.rows(), key=lambda row: -row["metric_mean"])
    parameters = units.short_count(get_model(source.MODEL).parameters)
    with st.expander(f"The published comparison: {len(rows)} runs of a model with {parameters} parameters"):
        st.markdown(
            f"{figures.badge('cited')} [{source.SOURCE}]({source.ADDRESS}): {cited.heading()}, one run each, so no "
            "spread is known. Its peak is what the allocator reserved over the whole run, including an evaluation "
            "that generates text; ours counts the tensors of one training step. Compare the order of the methods, "
            "not the figures themselves.\n\nTraining is the time of all steps. The published training time also "
            "includes the final test, in which every answer is generated, and the short gaps between steps: these "
            "are in a column of their own, and so are the evaluations during training."
        )
        figures.table(
            (
                "Run",
                "Trained",
                cited.TITLES["metric_mean"],
                "Training",
                "Final test",
                "Evaluations",
                "Peak reserved",
                "Stored",
            ),
            [
                (
                    str(row["title"]),
                    f"{units.short_count(row['trainable'])} ({units.percent(row['percent'])})",
                    f"{row['metric_mean']:.1%}",
                    units.seconds(row["seconds"]),
                    units.seconds(row["testing"]),
                    units.seconds(row["evaluating"]),
                    units.size(row["peak_bytes"]),
                    units.size(row["stored_bytes"]),
                )
                for row in rows
            ],
            numeric=tuple(range(1, 8)),
        )
