"""What a comparison found: sentences, table, curves, Pareto plot, exports."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from peft_lab import units
from peft_lab.compare import pareto
from peft_lab.compare.pareto import AXES, Axis
from peft_lab.models.catalogue import model_title
from peft_lab.tasks.titles import each_of, task_title
from peft_lab.ui import state
from peft_lab.ui.compare import drawings, table
from peft_lab.ui.compare.setup import SCOPE
from peft_lab.ui.components import figures
from peft_lab.ui.foreign import plain

Document = Mapping[str, Any]


def show(found: Document) -> None:
    """Everything below the progress; nothing but the table while no run is done."""
    scored = [row for row in found["rows"] if row["metric_mean"] is not None]
    if scored:
        st.markdown(f"### What this shows {figures.badge('measured')}")
        _sentences(found)
    st.markdown("### Methods")
    st.html(table.html_table(found))
    if not scored:
        return
    st.markdown(f"{figures.badge('measured')} {_place(found)} {_marked(found)}")
    _exports(found)
    _plots(found)
    st.markdown("### Learning curves")
    window = drawings.window_of(found["plan"]["steps"])
    latest = f" and the latest {window} steps" if window > 1 else ""
    st.markdown(
        f"Training loss, mean over seeds{latest}; the bands are one standard deviation over the seeds. All methods "
        f"see the same {each_of(found['plan']['task'])}s in the same order. {figures.badge('measured')}"
    )
    figure = drawings.learning_curves([row for row in scored if row["loss"]["mean"]])
    st.plotly_chart(figure, key="compare-curves", config=drawings.config(f"{found['id']}-curves"))


def _sentences(found: Document) -> None:
    st.markdown("\n".join(f"- {sentence}" for sentence in found["says"]))
    if not found["pairs"]:
        return
    titles = {row["method"]: row["title"] for row in found["rows"]}
    pairs = len(found["pairs"])
    with st.expander(f"All {pairs} pairs" if pairs > 1 else "The pair in figures"):
        figures.table(
            ("Better", "Worse", "Difference, points", "Noise, points", ""),
            [
                (
                    titles[pair["better"]],
                    titles[pair["worse"]],
                    f"{100 * pair['difference']:.1f}",
                    f"{100 * pair['noise']:.1f}",
                    "told apart" if pair["apart"] else "noise",
                )
                for pair in found["pairs"]
            ],
            numeric=(2, 3),
        )
        st.markdown(
            "Noise: only a difference above this value counts. It is twice the standard deviation of a difference "
            f"over these seeds. {figures.badge('measured')}"
        )


def _place(found: Document) -> str:
    """Where and when the figures were measured."""
    places = "; ".join(
        f"{machine['cores']} cores of {plain(machine['processor'])}, {units.size(machine['memory_bytes'])} of memory"
        for machine in found["machines"]
    )
    note = f" {plain(found['note'])}" if found.get("note") else ""
    device = plain(f"{found['device']}, {found['dtype']}")
    return f"on {places or 'an unknown machine'} ({device}), {plain(found['created'])}.{note}"


def _marked(found: Document) -> str:
    names = axis_titles(found)
    x, y = (names[found["pareto_axes"][name]].lower() for name in "xy")
    return (
        f"In colour: the Pareto front of {x} and {y}. No other method is better on one of the two without being "
        "worse on the other."
    )


def _before(found: Document) -> str:
    before = [row["metric_before"] for row in found["rows"] if row["metric_before"] is not None]
    low, high = f"{min(before):.1%}", f"{max(before):.1%}"
    return f"{found['metric']['title']} before training: {low if low == high else f'{low} to {high}'}."


def _cut(found: Document) -> str:
    """Where long texts end; images are read whole."""
    if each_of(found["plan"]["task"]) == "image":
        return ""
    return f"; rows are cut at {found['plan']['max_length']} tokens"


def _how(found: Document) -> str:
    """How each figure was taken, as a list."""
    versions = ", ".join(f"{name} {' and '.join(each)}" for name, each in found["packages"].items())
    python = ", ".join(dict.fromkeys(machine["python"] for machine in found["machines"]))
    head = (
        " The task's head is trained too, but not included."
        if any(row["head"] for row in found["rows"])
        else ""
    )
    missing = next((row["forgetting_why"] for row in found["rows"] if row["forgetting_why"]), "")
    known = next((row for row in found["rows"] if row["forgetting_tokens"]), None)
    parts = [
        f"Trained: {figures.badge('counted')} on the adapted model.{head}",
        f"All other figures {figures.badge('measured')}: means over seeds, ± the sample standard deviation.",
        _before(found),
        "Peak of a step: tensors alive at once in one training step, the largest over seeds.",
        "Stored: the file of what was trained. Training: the steps alone.",
        f"Added per {found['inference_unit']}: one request at a time, adapter unmerged, alternating with the "
        f"base model in its own precision; the median difference.",
        f"Learning rates are each method's default{_cut(found)}.",
        f"Python {python}, {versions}.",
    ]
    if missing:
        parts.insert(-2, f"Forgetting: {missing}.")
    elif known:
        parts.insert(
            -2,
            f"Unrelated loss: nats per token over {known['forgetting_tokens']:,} tokens of held-out "
            f"'{known['forgetting_task']}' sentences, from base to tuned model, with the adapter in place.",
        )
    return "\n".join(f"- {part}" for part in parts)


def _exports(found: Document) -> None:
    left, right = st.columns([1, 3], vertical_alignment="center")
    left.download_button(
        "Table as CSV",
        lambda: table.as_csv(
            found
        ),  # when it is asked for: while runs come in, each drawing would be another file
        f"{found['id']}.csv",
        "text/csv",
        icon=":material/download:",
        width="stretch",
    )
    right.markdown(":small[The camera button at a figure's corner saves it as an image (SVG).]")
    with st.expander("How these figures were measured, and the command that repeats them"):
        st.markdown(_how(found))
        st.code(found["command"], language="bash", wrap_lines=True)


def _plots(found: Document) -> None:
    st.markdown("### Against each other")
    left, right = st.columns(2)
    x = _axis_control(left, "x", "Across", pareto.DEFAULT[0], found)
    y = _axis_control(right, "y", "Up", pareto.DEFAULT[1], found)
    if x == y:
        st.markdown(":red[:material/error: Choose two different figures.]")
        return
    _ours(found, AXES[x], AXES[y])


def _axis_control(place: Any, name: str, label: str, default: str, found: Document) -> str:
    options = list(AXES)
    names = axis_titles(found)
    index = state.one_of(SCOPE, name, options, default)
    value: str = place.selectbox(
        label, options, index=index, format_func=lambda axis: names[axis], key=state.widget_key(SCOPE, name)
    )
    state.remember(SCOPE, name, value)
    return value


def axis_titles(found: Document) -> dict[str, str]:
    """What stands at each axis, with this comparison's metric and unit."""
    return {
        name: axis.title.format(metric=found["metric"]["title"], unit=found["inference_unit"])
        for name, axis in AXES.items()
    }


def _ours(found: Document, x: Axis, y: Axis) -> None:
    plan = found["plan"]
    sources = " ".join(figures.badge(source) for source in dict.fromkeys((x.source, y.source)))
    st.markdown(f"#### {plain(model_title(plan['model']))}, {plain(task_title(plan['task']))} {sources}")
    front = pareto.front(found["rows"], x.name, y.name)
    titles = {row["method"]: row["title"] for row in found["rows"]}
    if not front:
        st.markdown(f"No method here has both figures: {_reason(found, x, y)}")
        return
    st.markdown(f":small[Pareto front, from left to right: {', '.join(titles[name] for name in front)}.]")
    figure = drawings.scatter(found["rows"], x, y, axis_titles(found), front, drawings.colours(), front)
    st.plotly_chart(figure, key="compare-pareto", config=drawings.config(f"{found['id']}-{x.name}-{y.name}"))


def _reason(found: Document, x: Axis, y: Axis) -> str:
    if "forgetting_change" in (x.name, y.name):
        why = next((row["forgetting_why"] for row in found["rows"] if row["forgetting_why"]), "")
        if why:
            return f"the loss on unrelated text is {why}."
    return "no run has measured them yet."
