"""Look inside virtual tokens in front of the text: the words they are nearest to and how far they moved, by step."""

from __future__ import annotations

from typing import Any

import streamlit as st

from peft_lab.ui.components import charts, figures
from peft_lab.ui.method.inside.playing import played
from peft_lab.units import Source

SHOWN = 24  # virtual tokens in the table


def show_run(slug: str, found: dict[str, Any]) -> None:
    """What one finished run noted."""
    _words(slug, found)
    left, right = st.columns(2, gap="large")
    with left:
        _moves(slug, found)
    with right:
        _alike(slug, found)


def _words(slug: str, found: dict[str, Any]) -> None:
    shots = found["soft_tokens"]
    st.markdown(f"#### The words they are nearest to {figures.badge(Source.MEASURED)}")
    starts = [row[0][0] for row in shots[0]["nearest"]]

    def draw(index: int) -> None:
        shot = shots[index]
        rows = []
        for number, near in enumerate(shot["nearest"][:SHOWN]):
            nearest = "  ".join(figures.unbroken(f"{word} {cosine:.2f}") for word, cosine in near)
            rows.append(
                (
                    str(number),
                    starts[number],
                    nearest,
                    f"{shot['moved'][number]:.2f}",
                    f"{shot['norm'][number]:.2f}",
                )
            )
        figures.table(
            ("Virtual token", "Started nearest to", "Nearest now, with cosine", "Moved", "Length"),
            rows,
            numeric=(3, 4),
        )
        kept = sum(near[0][0] == start for near, start in zip(shot["nearest"], starts, strict=True))
        best = max(near[0][1] for near in shot["nearest"])
        st.markdown(
            f"After **{shot['step']} steps**, {kept} of {len(starts)} are still nearest to the word they started at. "
            f"The best match has a cosine of **{best:.2f}**; 1 would be the word itself."
        )

    played(slug, [shot["step"] for shot in shots], draw, "inside-soft")
    st.caption(
        "Of the model's whole vocabulary, by cosine. Moved: distance from the start; a word's own embedding has a "
        f"length of {found['word_norm']:.2f} (median). ␣ stands for a space. None of these words has to mean "
        "anything."
    )


def _moves(slug: str, found: dict[str, Any]) -> None:
    st.markdown(f"#### How far they moved {figures.badge(Source.MEASURED)}")
    shots = found["soft_tokens"]
    steps = [shot["step"] for shot in shots]
    size = found["word_norm"]
    series = {
        "farthest": (steps, [max(shot["moved"]) / size for shot in shots]),
        "mean": (steps, [sum(shot["moved"]) / len(shot["moved"]) / size for shot in shots]),
        "nearest": (steps, [min(shot["moved"]) / size for shot in shots]),
    }
    figure = charts.curves(series, "optimizer step", "distance, in lengths of a word", height=300)
    figure.update_traces(mode="lines+markers")
    st.plotly_chart(figure, key=f"{slug}-moves", config=charts.CONFIG)
    last = max(shots[-1]["moved"]) / size
    st.caption(
        f"A word's length is {size:.2f}: at the end the farthest is {last:.1f} such lengths from its start."
    )


def _alike(slug: str, found: dict[str, Any]) -> None:
    st.markdown(f"#### How alike they are {figures.badge(Source.MEASURED)}")
    shots = found["soft_tokens"]

    def draw(index: int) -> None:
        shot = shots[index]
        figure = charts.heatmap(
            shot["alike"], "virtual token", "virtual token", "cosine", diverging=True, height=300
        )
        figure.update_traces(zmin=-1, zmax=1)
        st.plotly_chart(figure, key=f"{slug}-alike", config=charts.CONFIG)
        st.markdown(
            f"After **{shot['step']} steps** two of them have a cosine of **{pairs(shot['alike']):.2f}** on average."
        )

    played(slug, [shot["step"] for shot in shots], draw, "inside-alike")


def pairs(alike: list[list[float]]) -> float:
    """Mean cosine of two different virtual tokens; 1 for a single one."""
    others = [value for i, row in enumerate(alike) for j, value in enumerate(row) if i != j]
    return sum(others) / len(others) if others else 1.0
