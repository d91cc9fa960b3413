"""One method's step from beginning to end, and what is alive at any moment of it."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from peft_lab import units
from peft_lab.memory.account import Point
from peft_lab.methods import all_methods
from peft_lab.ui import charts, figures, state
from peft_lab.ui.memory.answers import Answers
from peft_lab.ui.memory.controls import DEFAULTS, SCOPE, Chosen

#: What a part is, said at the moment that is looked at.
MEANING = {
    "weights": "the base model",
    "quantisation": "constants of the quantised blocks",
    "adapter": "what the method added",
    "gradients": "of what is trained",
    "optimizer": "its moments",
    "activations": "kept by the forward pass for the backward pass",
    "logits": "the output head's scores and their loss",
    "temporary": "within one operation or layer",
}


def pick_method(answers: Answers, key: str = "method") -> str | None:
    """The method that a part of the page is about, the same in all of them; ``None`` until it has been simulated."""
    slugs = list(answers.found)
    wanted = state.remembered(SCOPE, "method", DEFAULTS["method"])
    if not slugs or (wanted not in slugs and answers.waiting):
        return None
    index = slugs.index(wanted) if wanted in slugs else 0
    slug: str = st.selectbox(
        "Method",
        slugs,
        index,
        key=state.widget_key(SCOPE, key),
        format_func=lambda name: all_methods()[name].title,
    )
    # A method that does not run on this model is kept in mind for the next one.
    if slug != slugs[index]:
        state.remember(SCOPE, "method", slug)
    return slug


def timeline(chosen: Chosen, answers: Answers) -> None:
    with st.columns([1, 2])[0]:
        slug = pick_method(answers)
    if slug is None:
        return
    # A key of its own for every step that is shown: the slider then starts at that step's peak.
    _scrub(answers.found[slug].points, f"scrub-{hash((slug, *chosen.key()))}")


@st.fragment
def _scrub(points: Sequence[Point], key: str) -> None:
    """Only this is drawn again while the slider moves."""
    chart, told = st.columns([11, 5], gap="medium")
    peak = max(range(len(points)), key=lambda index: points[index].nbytes)
    with told:
        at: int = st.select_slider(
            "Moment",
            range(len(points)),
            value=peak,
            key=key,
            format_func=lambda index: place(points[index]),
            help="Starts at the peak. Arrow keys move it one layer at a time.",
        )
        point = points[at]
        st.markdown(
            f"**{place(point)}**: {units.size(point.nbytes)} alive"
            + (", the peak" if point.nbytes == points[peak].nbytes else "")
            + f" {figures.badge('simulated')}"
        )
        present = sorted(((n, part) for part, n in point.parts.items() if n), reverse=True)
        rows = [(part, units.size(n), _share(n / point.nbytes)) for n, part in present]
        figures.table(("Alive", "Bytes", "Share"), rows, numeric=(1, 2))
        st.caption("; ".join(f"{part}: {MEANING[part]}" for _, part in present) + ".")
    with chart:
        figure = charts.memory_timeline([(one.phase, one.layer, one.parts) for one in points], height=420)
        figure.add_vline(x=at, line={"width": 2, "color": "#5B6B82"})
        st.plotly_chart(figure, key=f"{key}-chart", config=charts.CONFIG)


def _share(part: float) -> str:
    return f"{part:.1%}" if part >= 0.001 else "below 0.1%"


def place(point: Point) -> str:
    """'backward, layer 12'; layers are counted from 0, as in module names."""
    names = {"zero_grad": "gradients cleared", "optimizer": "optimizer's step", "idle": "after the step"}
    phase = names.get(point.phase, point.phase)
    return phase if point.layer is None else f"{phase}, layer {point.layer}"
