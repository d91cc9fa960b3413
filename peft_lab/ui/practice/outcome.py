"""What an experiment said: the verdict on the guess, the figures that settle it, and why."""

from __future__ import annotations

from datetime import datetime

import streamlit as st

from peft_lab.quiz.predictions import Figure, Outcome, Prediction, score
from peft_lab.ui import charts, figures, theme
from peft_lab.ui.practice.cards import date
from peft_lab.ui.practice.report import page_links

_GIGA = 1e9


def show_outcome(prediction: Prediction, outcome: Outcome, guess: int, at: datetime) -> None:
    correct, _ = score(prediction, outcome, guess)
    said, truth = prediction.options[guess], prediction.options[outcome.right]
    if correct:
        st.success(f"You said **{said}**, and so it is.", icon=":material/check_circle:")
    else:
        st.error(f"You said **{said}**. It is **{truth}**.", icon=":material/cancel:")
    left, right = st.columns([3, 2], gap="medium")
    with left:
        st.markdown(f"### What settles it {figures.badge(outcome.source)}")
        _evidence(prediction, outcome)
        st.caption(f"Run here on {date(at)}.")
    with right:
        st.markdown("### Why")
        st.markdown(prediction.why)
        page_links(prediction.pages)
        st.caption("\n".join(f"- {source}" for source in prediction.sources))


def _evidence(prediction: Prediction, outcome: Outcome) -> None:
    if not outcome.figures:
        st.markdown(
            f"The experiment was carried out, and what happened was: **{truth_of(prediction, outcome)}**."
        )
        return
    if len(outcome.figures) == 1:
        only = outcome.figures[0]
        st.metric(only.label or "Found", only.shown)
        return
    values, axis = _axis(outcome.figures)
    labels = [figure.label for figure in outcome.figures]
    decisive = labels[outcome.right] if prediction.rule != "bands" else ""
    chart = charts.bars(labels, values, axis, height=70 + 44 * len(labels))
    chart.update_traces(
        marker={
            "color": [theme.TRAINABLE if label == decisive else theme.MEMORY["weights"] for label in labels]
        }
    )
    chart.update_yaxes(type="category")  # a label such as 2e-5 is no number
    st.plotly_chart(chart, key=f"outcome-{prediction.id}", config=charts.CONFIG)
    figures.table(
        ("Contender", "Result"),
        [(figure.label, figure.shown) for figure in outcome.figures],
        numeric=(1,),
    )


def truth_of(prediction: Prediction, outcome: Outcome) -> str:
    return prediction.options[outcome.right]


def _axis(found: tuple[Figure, ...]) -> tuple[list[float], str]:
    """Values and title of the chart's axis."""
    unit = found[0].unit
    if unit == "bytes":
        return [figure.value / _GIGA for figure in found], "peak, GB"
    return [figure.value for figure in found], unit or "value"
