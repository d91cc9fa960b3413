"""The run that Inside opens: one's own, or until there is one the recorded training that ships with the app."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import streamlit as st

from peft_lab.core.units import Source
from peft_lab.drawing.trajectory import format
from peft_lab.drawing.trajectory.format import RecordedPart, RecordedTensor, Trajectory
from peft_lab.training.tasks.own import task_title
from peft_lab.ui.components import charts, figures
from peft_lab.ui.components.form import choose
from peft_lab.ui.components.knobs import Choice
from peft_lab.ui.foreign import plain
from peft_lab.ui.method.inside import played
from peft_lab.ui.runs.shown import finished_of, nothing_to_open, pick_run, read_insight

#: What is shown of a part: the first of these that was recorded, with its title, axes and a sentence.
SEEN = {
    "ΔW": ("ΔW", "inputs", "outputs", "Whole rows and columns change together: the rank is low."),
    "l": ("Factors minus 1", "features", "", "Orange features are amplified, blue features inhibited."),
    "Δb": ("Moves of the biases", "features", "", "Orange biases went up, blue biases went down."),
    "key": ("Keys", "features", "virtual tokens", "Every token of the text can attend to the keys."),
    "p": ("Embeddings", "features", "virtual tokens", "Virtual tokens stand before the text."),
    "down": ("Down-projection", "features", "width", "This matrix maps the features to a few numbers."),
}
MOVED = "‖change‖ / ‖start‖"


def opened_run(choice: Choice, recorded: Callable[[dict[str, Any]], object], what: str) -> str | None:
    """Draw the choice of a finished run whose insight has what is ``recorded``. Without one draw the recorded training
    that ships with the app, of the chosen model or else of another, and return None."""
    slug = choice.spec.slug
    runs = [line for line in finished_of(slug) if recorded(read_insight(line.id))]
    if runs:
        return pick_run(slug, runs, choice.entry.name)
    run = format.shipped_of(slug, choice.entry.name)
    if run is None:
        nothing_to_open(slug, what)
        return None
    st.markdown(
        f"**Recorded run**: {run.steps[-1]} steps of {plain(choice.spec.title)} on {plain(run.model.title)}, "
        f"{plain(task_title(run.spec['task']))}, {plain(run.label)}. {figures.badge(Source.MEASURED)}"
    )
    nothing_to_open(slug, what)
    parts = {part.path: part for part in run.parts if part.tensors}
    path = max(parts, key=lambda path: parts[path].change[-1] or 0.0)
    if len(parts) > 1:
        path = choose(slug, "inside-recorded", "Trained part", list(parts), path)
    played(slug, run.steps, lambda index: _state(slug, run, parts[path], index), "inside-recording")
    return None


def _state(slug: str, run: Trajectory, part: RecordedPart, index: int) -> None:
    """Draw one of the trained parts at a step, and how far each block had moved by then."""
    left, right = st.columns(2, gap="large")
    with left:
        _tensor(slug, part, index)
    with right:
        if part.spectrum[index]:
            title, values = "Its strongest directions", part.spectrum[index]
            numbers = list(range(1, len(values) + 1))
            figure = charts.columns(numbers, values, f"of at most {part.rank}", "singular value of ΔW")
            figure.update_yaxes(range=[0, 1.05 * max(map(max, part.spectrum)) or 1.0])
        else:
            title, moved = "How far it moved", [value or 0.0 for value in part.change]
            figure = charts.curves({MOVED: (run.steps, moved)}, "step", MOVED)
        st.markdown(f"#### {title} {figures.badge(Source.MEASURED)}")
        charts.draw(figure, f"{slug}-recorded-beside")
    blocks = [each for each in run.parts if each.layer is not None]
    series: dict[str, tuple[list[float], list[float]]] = {}
    for each in blocks:
        layers, moves = series.setdefault(each.path.rpartition(f".{each.layer}.")[2], ([], []))
        layers.append((each.layer or 0) + 1)
        moves.append(each.change[index] or 0.0)
    if series:
        st.markdown(
            f"#### How far each block moved by step {run.steps[index]} {figures.badge(Source.MEASURED)}"
        )
        figure = charts.curves(series, "block", MOVED)
        top = max(value or 0.0 for each in blocks for value in each.change)  # axes fit the whole training
        figure.update_yaxes(range=[0, 1.05 * top or 1.0], tickformat=",.1~%")
        charts.draw(figure, f"{slug}-recorded-blocks")


def _tensor(slug: str, part: RecordedPart, index: int) -> None:
    name = next(name for name in SEEN if name in part.tensors)
    title, across, down, text = SEEN[name]
    states = [part.tensor(name, state) for state in range(len(part.change))]
    st.markdown(f"#### {title} {figures.badge(Source.MEASURED)}")
    found = states[index]
    if found is None:
        st.markdown("Not recorded at this step.")
        return
    rows, limit = cells(found), max(state.scale for state in states if state is not None)
    high = 320 if len(rows) > 1 else 170
    figure = charts.heatmap(rows, across, down, "", diverging=True, limit=limit, height=high)
    unnumbered = {"showticklabels": False, "ticks": ""}  # a cell is a patch of many
    figure.update_layout(xaxis=unnumbered, yaxis=unnumbered)
    charts.draw(figure, f"{slug}-recorded-tensor")
    st.caption(f"{plain(part.path)}. {text} Each cell shows the largest entry of its patch, with its sign.")


def cells(tensor: RecordedTensor) -> list[list[float]]:
    """Return a recorded picture as rows of numbers."""
    width, signed = tensor.shape[1], memoryview(base64.b64decode(tensor.data)).cast("b")
    return [
        [byte * tensor.scale / 127 for byte in signed[start : start + width]]
        for start in range(0, len(signed), width)
    ]
