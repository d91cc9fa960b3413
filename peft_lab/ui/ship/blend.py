"""Ship it, *Blend*: recorded blends of three adapters behind sliders, the best of each kind, and what they share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from peft_lab.core import asking
from peft_lab.core.units import Source
from peft_lab.studies import blending as blends
from peft_lab.studies.blending import TASKS
from peft_lab.training.tasks import get_task
from peft_lab.ui import state
from peft_lab.ui.components import charts, figures
from peft_lab.ui.components.form import choose
from peft_lab.ui.components.waiting import shown
from peft_lab.workers import inspector

SCOPE = "blend"
BADGE = figures.badge(Source.MEASURED)
_HOW = (
    "cat: the exact weighted sum. svd: the sum, cut to one adapter's rank. linear, ties, dare: A and B apart, as PEFT "
    "does. ties_svd, dare_svd: ΔW itself, then cut. knots: TIES in a basis that all share."
)


def blend_section() -> None:
    """Draw the section."""
    about, cells = blends.recorded()
    st.markdown(
        "Three LoRAs of one base, each trained on a task of its own, become one adapter without training. Move the "
        f"weights: each of {len(cells)} blends was scored on {about['rows']} held-out rows of each task."
    )
    left, right = st.columns((2, 3), gap="large")
    with left:
        how = choose(SCOPE, "how", "How to blend", [*dict.fromkeys(cell["how"] for cell in cells)], text=_HOW)
        weights = [*map(_slider, TASKS, blends.best()[0]["weights"])]
    cell = blends.nearest(how, weights)
    with right:
        st.markdown(f"**Weights {_weights(cell)}, rank {cell['rank']}** {BADGE}")
        if cell["weights"] != weights:
            st.markdown(":small[Snapped to the nearest recorded blend.]")
        _table(about, "Blended", cell["scores"])
        _proof(how, cell)
    _best()
    _overlaps(about)


def _slider(name: str, opens: float) -> float:
    label, kept = f"Weight of {get_task(TASKS[name]).title}", state.remembered(SCOPE, name, opens)
    value: float = st.slider(label, 0.0, 1.0, kept, 0.05, key=state.widget_key(SCOPE, name))
    state.remember(SCOPE, name, value)
    return value


def _weights(cell: blends.Cell) -> str:
    return " · ".join(f"{weight:g}" for weight in cell["weights"])


def _table(about: Mapping[str, Any], title: str, scores: Sequence[float]) -> None:
    rows, base = [], blends.nearest("cat", [0.0] * len(TASKS))["scores"]
    for name, *found in zip(TASKS.values(), base, about["alone"], scores, strict=True):
        task = get_task(name)
        title_of = f"{task.title}, {task.metric.replace('_', ' ')}"
        rows.append((title_of, *(f"{score:.2f}" for score in found)))
    figures.table(("Task", "Base", "Own adapter", title), rows, numeric=(1, 2, 3), fold=True)


def _proof(how: str, cell: blends.Cell) -> None:
    """Offer to score the blend on this machine, and draw its scores."""
    run = (how, cell["weights"])
    if any(cell["weights"]) and st.button("Run it here", key="blend-run"):
        state.remember(SCOPE, "run", run)
    if state.remembered(SCOPE, "run", None) == run:
        asked = inspector.get_inspector(inspector.Worker.ANSWERS).submit(blends.measure_shipped, *run)
        shown(asked, _proved, "Loading the base and three adapters, and answering held-out rows…")


def _proved(found: Mapping[str, Any]) -> None:
    here = [score["blended"] for score in found["scores"].values()]
    _table(blends.recorded()[0], f"On {asking.here()}", here)


def _best() -> None:
    best = blends.best()
    kept = ", ".join(f"{share:.0%}" for share in best[0]["shares"])
    st.markdown(f"#### Which, with which weights? {BADGE}")
    st.markdown(
        f"Of the recorded blends **{best[0]['how']}** with the weights {_weights(best[0])} does best: it keeps {kept} "
        "of what each adapter scores alone. In general the question is open "
        "([peft 1555](https://github.com/huggingface/peft/issues/1555)); score a few weights on rows of your own."
    )
    rows = []
    for cell in best:
        scores = [f"{score:.2f}" for score in cell["scores"]]
        rows.append((cell["how"], _weights(cell), str(cell["rank"]), *scores, f"{min(cell['shares']):.0%}"))
    header = ("Best of", "Weights", "Rank", *(get_task(task).title for task in TASKS.values()), "Worst share")
    figures.table(header, rows, numeric=range(2, 7), fold=True)


def _overlaps(about: Mapping[str, Any]) -> None:
    st.markdown(f"#### Do the adapters use the same directions? {BADGE}")
    lines = {
        f"{side}: {name}": line for side, them in about["overlap"].items() for name, line in them.items()
    }
    blocks = [str(number) for number in range(len(next(iter(lines.values()))))]
    figure = charts.heatmap([*lines.values()], "block", "", "overlap", blocks, [*lines], limit=1.0)
    st.plotly_chart(figure, key="blend-overlap", config=charts.CONFIG)
    st.caption(
        "A: what an adapter reads; B: what it writes. Mean squared cosine of the principal angles, 1 for the same "
        f"subspace; random ones: A {about['chance']['A']:.3f}, B {about['chance']['B']:.3f}."
    )
