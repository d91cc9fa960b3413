"""The run that Inside opens: one's own, or until there is one the recorded training that ships with the app."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import streamlit as st

from peft_lab.core import units
from peft_lab.core.errors import PeftLabError
from peft_lab.core.units import Source
from peft_lab.drawing.trajectory import format
from peft_lab.drawing.trajectory.format import RecordedPart, RecordedTensor, Trajectory
from peft_lab.methods import get_method
from peft_lab.training.tasks.own import task_title
from peft_lab.ui.components import charts, figures
from peft_lab.ui.components.form import choose
from peft_lab.ui.components.knobs import Choice
from peft_lab.ui.foreign import plain
from peft_lab.ui.method.inside import played
from peft_lab.ui.runs.shown import finished_of, nothing_to_open, pick_run, read_insight

#: What is shown of a part: the first of these that was recorded, with its title, axes and a sentence.
SEEN = {
    "ΔW": (
        "ΔW",
        "inputs",
        "outputs",
        "Stripes, not speckle: whole rows and columns change together: the rank is low.",
    ),
    "l": (
        "The factors",
        "features",
        "",
        "Each feature's factor, less 1: orange is amplified, blue inhibited.",
    ),
    "Δb": ("The biases", "features", "", "How far each feature's bias moved: orange is up, blue down."),
    "key": ("The keys", "features", "virtual tokens", "Every token of the text can attend to them."),
    "p": ("The embeddings", "features", "virtual tokens", "They stand before the text."),
    "down": (
        "The way down",
        "features",
        "bottleneck",
        "This matrix squeezes the features into the bottleneck.",
    ),
}
MOVED = "‖change‖ / ‖start‖"


def opened_run(
    choice: Choice, recorded: Callable[[dict[str, Any]], object], what: str, verb: str = "is"
) -> str | None:
    """Draw the choice of a finished run whose insight has what is ``recorded``.

    Without one draw the recorded training that ships with the app, and return None.
    """
    slug = choice.spec.slug
    runs = [line for line in finished_of(slug) if recorded(read_insight(line.id))]
    if runs:
        return pick_run(slug, runs, choice.entry.name)
    shipped = recording(choice)
    if shipped is not None:
        name_recorded(slug, shipped)
    nothing_to_open(slug, what, verb)
    if shipped is not None:
        show_recorded(slug, shipped)
    return None


def recording(choice: Choice) -> Trajectory | None:
    """Return the shipped training on the chosen model, else the method's own; None if none can be read."""
    try:
        return format.shipped_on(choice.spec.slug, choice.entry.name) or format.shipped(choice.spec.slug)
    except PeftLabError:
        return None


def name_recorded(slug: str, run: Trajectory) -> None:
    """Say which training is shown."""
    st.markdown(
        f"**Recorded run**: {run.steps[-1]} steps of {plain(get_method(slug).title)} on {plain(run.model.title)}, "
        f"{plain(task_title(run.spec['task']))}, {plain(run.label)}. {figures.badge(Source.MEASURED)}"
    )


def show_recorded(slug: str, run: Trajectory) -> None:
    """Draw a recorded training: one of its trained parts at a step, and how far each block had moved by then."""
    pictured = {part.path: part for part in run.parts if part.tensors}
    if not pictured:
        return
    moved = {path: part.change[-1] or 0.0 for path, part in pictured.items()}
    path = next(iter(pictured))
    if len(pictured) > 1:
        first = max(moved, key=lambda path: moved[path])
        path = choose(slug, "inside-recorded", "Trained part", list(pictured), first)
    played(slug, run.steps, lambda index: _state(slug, run, pictured[path], index), "inside-recording")


def _state(slug: str, run: Trajectory, part: RecordedPart, index: int) -> None:
    left, right = st.columns(2, gap="large")
    with left:
        _tensor(slug, part, index)
    with right:
        if part.spectrum[index]:
            values, top = part.spectrum[index], max(max(state, default=0.0) for state in part.spectrum)
            st.markdown(f"#### Its {len(values)} strongest directions {figures.badge(Source.MEASURED)}")
            numbers = list(range(1, len(values) + 1))
            figure = charts.columns(numbers, values, "singular value number", "singular value of ΔW")
            figure.update_yaxes(range=[0, 1.05 * top or 1.0])
            st.plotly_chart(figure, key=f"{slug}-recorded-spectrum", config=charts.CONFIG)
            st.caption(f"The rank is {part.rank}: ΔW cannot have more than {part.rank} directions.")
        else:
            _growth(slug, run, part)
    _by_block(slug, run, index)


def _tensor(slug: str, part: RecordedPart, index: int) -> None:
    name = next(name for name in SEEN if name in part.tensors)
    title, across, down, text = SEEN[name]
    states = [part.tensor(name, state) for state in range(len(part.change))]
    limit = max((state.scale for state in states if state is not None), default=1.0)
    st.markdown(f"#### {title} {figures.badge(Source.MEASURED)}")
    found = states[index]
    if found is None:
        st.markdown("Not recorded at this step.")
        return
    rows = cells(found)
    figure = charts.heatmap(
        rows, across, down, "", diverging=True, limit=limit, height=320 if len(rows) > 1 else 170
    )
    figure.update_layout(xaxis_showticklabels=False, yaxis_showticklabels=False)  # a cell is a patch of many
    st.plotly_chart(figure, key=f"{slug}-recorded-tensor", config=charts.CONFIG)
    st.caption(f"{plain(part.path)}. {text} Each cell is the largest entry of a patch, with its sign.")


def cells(tensor: RecordedTensor) -> list[list[float]]:
    """Return a recorded picture as rows of numbers."""
    width = tensor.shape[1]
    flat = [
        (byte - 256 if byte > 127 else byte) * tensor.scale / 127 for byte in base64.b64decode(tensor.data)
    ]
    return [flat[start : start + width] for start in range(0, len(flat), width)]


def _growth(slug: str, run: Trajectory, part: RecordedPart) -> None:
    st.markdown(f"#### How far it moved {figures.badge(Source.MEASURED)}")
    series = {MOVED: (run.steps, [value or 0.0 for value in part.change])}
    st.plotly_chart(charts.curves(series, "step", MOVED), key=f"{slug}-recorded-growth", config=charts.CONFIG)


def _by_block(slug: str, run: Trajectory, index: int) -> None:
    """Draw how far each block's trained parts have moved, on axes that fit the whole training."""
    kinds: dict[str, dict[int, RecordedPart]] = {}
    for part in run.parts:
        if part.layer is not None:
            kinds.setdefault(part.path.rpartition(f".{part.layer}.")[2], {})[part.layer] = part
    if not kinds:
        return
    series = {
        kind: ([layer + 1 for layer in parts], [part.change[index] or 0.0 for part in parts.values()])
        for kind, parts in kinds.items()
    }
    st.markdown(f"#### How far each block moved {figures.badge(Source.MEASURED)}")
    figure = charts.curves(series, "block", MOVED)
    top = max(value or 0.0 for part in run.parts if part.layer is not None for value in part.change)
    figure.update_yaxes(range=[0, 1.05 * top or 1.0], tickformat=".1%")
    st.plotly_chart(figure, key=f"{slug}-recorded-blocks", config=charts.CONFIG)
    st.caption(
        f"After step {run.steps[index]}. The furthest any moves by the end is {units.percent(100 * top)}."
    )
