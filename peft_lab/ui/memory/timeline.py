"""One method's step from beginning to end, and what is alive at any moment of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import streamlit as st

from peft_lab import palette, units
from peft_lab.memory.account import Point
from peft_lab.methods import all_methods
from peft_lab.ui import state
from peft_lab.ui.components import charts, figures
from peft_lab.ui.components.parts import part
from peft_lab.ui.memory.answers import Answers
from peft_lab.ui.memory.controls import DEFAULTS, SCOPE, Chosen, address_problem

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
    address_problem("method")
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
    points, key = answers.found[slug].points, f"scrub-{hash((slug, *chosen.key()))}"
    part(lambda: _scrub(points, key))


def _scrub(points: Sequence[Point], key: str) -> None:
    """Only this is drawn again while the slider moves."""
    chart, words = st.columns([5, 3], gap="medium")
    peak = max(range(len(points)), key=lambda index: points[index].nbytes)
    names = places(points)
    with words:
        at: int = st.select_slider(
            "Moment",
            range(len(points)),
            value=peak,
            key=key,
            format_func=names.__getitem__,
            help="Starts at the peak. Arrow keys move it one layer at a time.",
        )
        point = points[at]
        st.markdown(
            f"**{names[at]}**: {units.size(point.nbytes)} alive"
            + (", the peak" if point.nbytes == points[peak].nbytes else "")
            + f" {figures.badge('simulated')}"
        )
        present = sorted(((n, part) for part, n in point.parts.items() if n), reverse=True)
        rows = [(part, units.size(n), _share(n / point.nbytes)) for n, part in present]
        figures.table(("Alive", "Bytes", "Share"), rows, numeric=(1, 2))
        st.caption("; ".join(f"{part}: {MEANING[part]}" for _, part in present) + ".")
    with chart:
        st.markdown(f"#### What is alive, moment by moment {figures.badge('simulated')}")
        figure = charts.memory_timeline([(one.phase, one.layer, one.parts) for one in points], height=420)
        figure.add_vline(x=at, line={"width": 2, "color": palette.CHART_MARK})
        st.plotly_chart(figure, key=f"{key}-chart", config=charts.CONFIG)


def _share(part: float) -> str:
    return f"{part:.1%}" if part >= 0.001 else "below 0.1%"


def places(points: Sequence[Point]) -> list[str]:
    """What each moment is called: 'backward, layer 12', layers counted from 0 as in module names. No name comes twice,
    as the slider tells its moments apart by their names."""
    titles = {"zero_grad": "gradients cleared", "optimizer": "optimizer's step", "idle": "after the step"}
    names: list[str] = []
    for index, point in enumerate(points):
        name = titles.get(point.phase, point.phase)
        if point.layer is not None:
            name += f", layer {point.layer}"
        elif any(one.phase == point.phase and one.layer is not None for one in points):
            before = all(one.layer is None for one in points[:index] if one.phase == point.phase)
            name += ", before the layers" if before else ", after the layers"
        names.append(name)
    totals = Counter(names)
    seen: Counter[str] = Counter()
    for index, name in enumerate(names):
        seen[name] += 1
        if totals[name] > 1:
            names[index] = f"{name} ({seen[name]} of {totals[name]})"
    return names
