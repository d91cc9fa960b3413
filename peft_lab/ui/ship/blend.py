"""Ship it, *Blend*: recorded blends of three adapters behind sliders, the best of each kind, and what they share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from peft_lab.core import asking, inspector
from peft_lab.core.units import Source
from peft_lab.interview.computed import wilson
from peft_lab.studies import blending as blends
from peft_lab.studies.blending import TASKS
from peft_lab.training.tasks import get_task
from peft_lab.ui import state
from peft_lab.ui.components import charts, figures
from peft_lab.ui.components.form import choose
from peft_lab.ui.components.waiting import shown

SCOPE = "blend"
BADGE = figures.badge(Source.MEASURED)
_HOW = (
    "cat: the exact weighted sum. svd: the same sum, reduced to one adapter's rank. linear, ties, dare: A and B are "
    "blended separately, as PEFT does. ties_svd, dare_svd: ΔW is blended, then its rank is reduced. knots: TIES in a "
    "basis that all adapters share."
)


def blend_section() -> None:
    """Draw the section."""
    about, cells = blends.recorded()
    st.markdown(
        "Three LoRAs of one base were each trained on their own task. Here they become one adapter without more "
        f"training. Move the sliders to change how much each adapter counts. Each of the {len(cells)} recorded "
        f"blends was scored on {about['rows']} held-out rows of each task."
    )
    left, right = st.columns((2, 3), gap="large")
    with left:
        opens = next(iter(blends.best().values()))[0]
        ways = [*dict.fromkeys(cell["how"] for cell in (opens, *cells))]
        how = choose(SCOPE, "how", "How to blend", ways, text=_HOW)
        weights = [*map(_slider, TASKS, opens["weights"])]
    cell = blends.nearest(how, weights)
    with right:
        st.markdown(f"**Weights {_weights(cell)}, rank {cell['rank']}** {BADGE}")
        if cell["weights"] != weights:
            st.markdown(":small[Snapped to the nearest recorded blend.]")
        _table(about, "Blended", cell["scores"])
        _proof(how, cell)
    _best(about)
    sums = about["sums"]
    st.markdown(f"#### A published result, repeated {BADGE}")
    st.markdown(f"{sums['claim']} ([arXiv {sums['source']}](https://arxiv.org/abs/{sums['source']}))")
    figures.table(sums["header"], sums["shown"], numeric=range(1, len(sums["header"])), fold=True)
    st.markdown(sums["verdict"])
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
    figures.table(("Task", "Base", "Its own adapter", title), rows, numeric=(1, 2, 3), fold=True)


def _proof(how: str, cell: blends.Cell) -> None:
    run = (how, cell["weights"])
    if any(cell["weights"]) and st.button("Run it here", key="blend-run"):
        state.remember(SCOPE, "run", run)
    if state.remembered(SCOPE, "run", None) == run:
        asked = inspector.get_inspector(inspector.Worker.ANSWERS).submit(blends.measure_shipped, *run)

        def proved(found: Mapping[str, Any]) -> None:
            here = [score["blended"] for score in found["scores"].values()]
            _table(blends.recorded()[0], f"On {asking.here()}", here)

        shown(asked, proved, "Loading the base and three adapters, and answering held-out rows…")


def _best(about: Mapping[str, Any]) -> None:
    st.markdown(f"#### Which blend, with what weights? {BADGE}")
    st.markdown(
        "The table shows the best recorded blend of each group. In a blend, each adapter keeps a share of its own "
        f"score. The smallest of these shares decides how good the blend is. Scores on {about['rows']} rows are "
        "uncertain (in brackets: Wilson's 95% interval), and the best of many blends is partly luck. So each of "
        f"these blends was scored again on {about['again']} rows that were not used for the choice. Doubling all "
        "weights gives a different blend. How to choose the weights in general is an open question ([peft "
        "1555](https://github.com/huggingface/peft/issues/1555)); `peft-lab blend ADAPTERS --how best` searches for "
        "the best blend of your own adapters."
    )
    rows, ways = [], []
    for members, cells in blends.best().items():
        cell, blended = cells[0], " + ".join(get_task([*TASKS.values()][at]).title for at in members)
        scores = []
        for score in (cell["scores"][at] for at in members):
            low, high = wilson(score * about["rows"], about["rows"])
            scores.append(f"{score:.2f} ({low:.2f} to {high:.2f})")
        own = [blends.nearest("cat", [float(at == other) for other in range(len(TASKS))]) for at in members]
        pairs = zip(cell.get("again", ()), own, strict=False)
        again = [f"{score:.2f} (alone {one['again'][0]:.2f})" for score, one in pairs] or ["not scored"]
        way = cell["how"] if blends.worth(cell)[0] else "no blend keeps all scores"
        worth = [(one, blends.worth(one)[0]) for one in cells]
        shares = [f"{one['how']} {share:.0%} ({_weights(one)})" for one, share in worth if share] or ["none"]
        rows.append((blended, way, _weights(cell), " · ".join(scores), " · ".join(again)))
        ways.append(f"{blended}: {', '.join(shares)}.")
    header = ("Blended", "Best way", "Weights", "Scores (95% interval)", f"On {about['again']} other rows")
    figures.table(header, rows, fold=True)
    st.caption("The smallest share that each way of blending keeps, with its best weights. " + " ".join(ways))


def _overlaps(about: Mapping[str, Any]) -> None:
    st.markdown(f"#### Do the adapters use the same directions? {BADGE}")
    lines = {
        f"{side}: {name}": [share / about["chance"][side][name[-1]] for share in line]
        for side, them in about["overlap"].items()
        for name, line in them.items()
    }
    blocks = [str(number) for number in range(len(next(iter(lines.values()))))]
    figure = charts.heatmap([*lines.values()], "block", "", "times chance", blocks, [*lines])
    st.plotly_chart(figure, key="blend-overlap", config=charts.CONFIG)
    st.caption(
        "A is what an adapter reads, B what it writes. Overlap is the mean squared cosine of the principal angles; it "
        "is 1 for the same subspace. Random subspaces overlap by rank / width of the map. Each figure is the overlap "
        "divided by this chance overlap."
    )
