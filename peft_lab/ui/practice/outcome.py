"""What an experiment said: the verdict on the guess, the figures that settle it, and why."""

from __future__ import annotations

from datetime import datetime

import streamlit as st

from peft_lab.quiz.predictions import Prediction, PredictionOutcome, score
from peft_lab.ui.components import figures
from peft_lab.ui.foreign import plain
from peft_lab.ui.practice.cards import date
from peft_lab.ui.practice.evidence import evidence
from peft_lab.ui.practice.report import page_links


def show_outcome(
    prediction: Prediction, outcome: PredictionOutcome, guess: int, at: datetime, measured: str = ""
) -> None:
    """``measured`` is where and when, for a run that was not made here."""
    correct, _ = score(prediction, outcome, guess)
    chosen, truth = prediction.options[guess], prediction.options[outcome.right]
    if correct:
        st.success(f"You said **{chosen}**, and that is right.", icon=":material/check_circle:")
    else:
        st.error(f"You said **{chosen}**. The answer is **{truth}**.", icon=":material/cancel:")
    left, right = st.columns([3, 2], gap="medium")
    with left:
        st.markdown(f"### What settles it {figures.badge(outcome.source)}")
        evidence(prediction, outcome)
        st.caption(f"Replayed; measured {plain(measured)}." if measured else f"Run here on {date(at)}.")
    with right:
        st.markdown("### Why")
        st.markdown(prediction.why)
        page_links(prediction.pages)
        st.caption("\n".join(f"- {source}" for source in prediction.sources))
