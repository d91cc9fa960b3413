"""The chart that settles a prediction: the contenders as bars, or the figure found among the options' ranges."""

from __future__ import annotations

import textwrap
from itertools import pairwise

import plotly.graph_objects as go
import streamlit as st

from peft_lab.palette import faint
from peft_lab.quiz.predictions import Figure, Inquiry, Prediction, PredictionOutcome
from peft_lab.ui import theme
from peft_lab.ui.components import charts, figures

_GIGA = 1e9
_ROOM = 1.3  # the axis ends that much beyond the figure and the last limit
_PALE = 0.5  # opacity of a range
_WRAP = 26  # characters of an option's line beside the chart


def evidence(prediction: Prediction, outcome: PredictionOutcome) -> None:
    """The chart, and the figures of contenders as a table."""
    st.plotly_chart(chart_of(prediction, outcome), key=f"outcome-{prediction.id}", config=charts.CONFIG)
    if prediction.rule == "bands":
        return
    figures.table(
        ("Case" if _categorical(prediction) else "Contender", "Result"),
        [(figure.label, figure.shown) for figure in outcome.figures],
        numeric=(1,),
    )


def chart_of(prediction: Prediction, outcome: PredictionOutcome) -> go.Figure:
    """What settles it, drawn: the option that holds is in the accent colour."""
    return _ranges(prediction, outcome) if prediction.rule == "bands" else _contenders(prediction, outcome)


def _contenders(prediction: Prediction, outcome: PredictionOutcome) -> go.Figure:
    values, axis = _axis(outcome.figures)
    labels = [figure.label for figure in outcome.figures]
    decisive = "" if _categorical(prediction) else labels[outcome.right]
    chart = charts.bars(labels, values, axis, height=70 + 44 * len(labels))
    colours = [theme.TRAINABLE if label == decisive else theme.MEMORY["weights"] for label in labels]
    chart.update_traces(marker={"color": colours})
    chart.update_yaxes(type="category")  # a label such as 2e-5 is no number
    return chart


def _ranges(prediction: Prediction, outcome: PredictionOutcome) -> go.Figure:
    """One row per option, drawn as the range in which it holds; the figure found is the line across."""
    found = outcome.figures[0]
    end = max(found.value, *prediction.bands) * _ROOM
    limits = (0.0, *prediction.bands, end)
    rows = ["<br>".join(textwrap.wrap(option, _WRAP)) for option in prediction.options]
    colours = [
        theme.TRAINABLE if index == outcome.right else theme.MEMORY["weights"] for index in range(len(rows))
    ]
    chart = go.Figure(
        go.Bar(
            y=rows,
            x=[high - low for low, high in pairwise(limits)],
            base=list(limits[:-1]),
            orientation="h",
            # pale, so that the line across is seen; the outline is what stands out from the page
            marker={
                "color": [faint(colour, _PALE) for colour in colours],
                "line": {"width": 2, "color": colours},
            },
            hovertemplate="%{y}<extra></extra>",
        )
    )
    chart.add_vline(x=found.value, line={"width": 3, "color": theme.TRAINABLE})
    chart.add_annotation(
        x=found.value, y=1, yref="paper", yanchor="bottom", showarrow=False, text=f"<b>{found.shown}</b>"
    )
    chart.update_layout(margin={"l": 8, "r": 8, "t": 28, "b": 40}, height=90 + 48 * len(rows), bargap=0.35)
    chart.update_yaxes(autorange="reversed", title=None, type="category")
    chart.update_xaxes(title=found.unit or "value", range=[0, end])
    return chart


def _categorical(prediction: Prediction) -> bool:
    return isinstance(prediction.experiment, Inquiry) and prediction.experiment.categorical


def _axis(found: tuple[Figure, ...]) -> tuple[list[float], str]:
    """Values and title of the chart's axis."""
    unit = found[0].unit
    if unit == "bytes":
        return [figure.value / _GIGA for figure in found], "peak, GB"
    return [figure.value for figure in found], unit or "value"
