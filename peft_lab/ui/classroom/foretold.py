"""What the class expects, as a histogram that can be read from the last row: options and how many chose each."""

from __future__ import annotations

import textwrap

import plotly.graph_objects as go
import streamlit as st

from peft_lab.quiz.prediction_bank import all_predictions
from peft_lab.quiz.predictions import Prediction
from peft_lab.teaching import predictions
from peft_lab.teaching.predictions import Expected
from peft_lab.ui import state
from peft_lab.ui.components import charts, figures
from peft_lab.ui.foreign import plain

SCOPE = "foretold"
_WRAP = 44  # characters of an option's line


def foretold() -> None:
    """Draw it for the teacher. Raises NotATeacher."""
    known = all_predictions()
    found = [row for row in predictions.of_class() if row.id in known]
    st.markdown("## What the class expects")
    if not found:
        st.caption(
            "Nobody has committed to a prediction yet. Predictions stand on *Practice* and *Misconceptions*; what is "
            "chosen there is counted here before the experiment answers, without names."
        )
        return
    ids = [row.id for row in found]
    chosen = state.remembered(SCOPE, "prediction", ids[0])
    picked = st.selectbox(
        "Prediction",
        ids,
        ids.index(chosen) if chosen in ids else 0,
        key=state.widget_key(SCOPE, "prediction", str(len(ids))),
        format_func=lambda name: known[name].belief,
    )
    state.remember(SCOPE, "prediction", picked)
    row = found[ids.index(picked)]
    people = f"{row.people} answer" if row.people == 1 else f"{row.people} answers"
    st.markdown(f"{plain(known[picked].question)} · **{people}** {figures.badge('measured')}")
    st.plotly_chart(_bars(known[picked], row), key="foretold-bars", config=charts.CONFIG)


def _bars(prediction: Prediction, row: Expected) -> go.Figure:
    labels = ["<br>".join(textwrap.wrap(option, _WRAP)) for option in prediction.options]
    counts = [float(row.counts.get(place, 0)) for place in range(len(labels))]
    chart = charts.bars(labels, counts, "answers", height=80 + 56 * len(labels))
    # as large as the last row of a room needs
    chart.update_traces(text=[f"{count:.0f}" for count in counts], textfont={"size": 18}, textposition="auto")
    chart.update_yaxes(type="category", tickfont={"size": 15})
    chart.update_xaxes(dtick=max(1, round(max(counts) / 8)), rangemode="tozero")
    return chart
