"""Look inside a LoRA: ΔW of every layer, its singular values and growth, the step-0 gradients, and the merge check."""

from __future__ import annotations

from typing import Any

import streamlit as st

from peft_lab import units
from peft_lab.ui import charts, figures, state
from peft_lab.ui.knobs import Choice
from peft_lab.ui.runs import finished_of, pick_run, read_insight
from peft_lab.units import Source


def show(choice: Choice) -> None:
    slug = choice.spec.slug
    runs = [line for line in finished_of(slug) if read_insight(line.id).get("corrections")]
    if not runs:
        st.info(
            "Nothing has been trained yet. Train on the Train tab; what the run learnt is opened up here."
        )
        return
    identity = pick_run(slug, runs)
    found = read_insight(identity)
    rows = found["corrections"]
    _correction(slug, rows)
    left, right = st.columns(2, gap="large")
    with left:
        _relative(slug, rows)
    with right:
        _growth(slug, found["growth"])
    left, right = st.columns(2, gap="large")
    with left:
        _gradients(found["step0_gradients"])
    with right:
        _merge(found["merge"])


def _correction(slug: str, rows: list[dict[str, Any]]) -> None:
    names = [row["module"] for row in rows]
    largest = max(rows, key=lambda row: row["ratio"])["module"]
    index = state.one_of(slug, "inside-module", names, largest)
    key = state.widget_key(slug, "inside-module")
    st.markdown(f"#### What was added to one matrix {figures.badge(Source.MEASURED)}")
    module = st.selectbox(
        "Adapted matrix",
        names,
        index=index,
        key=key,
        help="It opens on the matrix that changed most for its size.",
    )
    state.remember(slug, "inside-module", module)
    row = next(row for row in rows if row["module"] == module)
    left, right = st.columns(2, gap="large")
    with left:
        out, into = row["shape"]
        st.markdown(f"**ΔW, {out:,} × {into:,}**")
        cells = f"{len(row['grid'])} × {len(row['grid'][0])}"
        figure = charts.heatmap(row["grid"], "input, binned", "output, binned", "ΔW", diverging=True)
        st.plotly_chart(figure, key=f"{slug}-delta", config=charts.CONFIG)
        st.caption(
            f"Shrunk to {cells} cells; each shows the entry of its patch that is largest in magnitude."
        )
    with right:
        values = row["singular_values"]
        st.markdown(f"**Its {len(values)} singular values**")
        figure = charts.columns(
            list(range(1, len(values) + 1)), values, "singular value number", "singular value of ΔW"
        )
        st.plotly_chart(figure, key=f"{slug}-singular", config=charts.CONFIG)
        st.markdown(
            f"At most {row['rank']} can differ from zero: that is what rank {row['rank']} means. The effective rank "
            f"(exponential of the entropy of their shares) is **{row['effective_rank']:.1f}**."
        )


def _relative(slug: str, rows: list[dict[str, Any]]) -> None:
    st.markdown(f"#### How much each layer moved {figures.badge(Source.MEASURED)}")
    layers = by_layer(rows)
    series = {kind: (list(values), [values[layer] for layer in values]) for kind, values in layers.items()}
    figure = charts.curves(series, "layer", "‖ΔW‖ / ‖W‖", height=300)
    st.plotly_chart(figure, key=f"{slug}-relative", config=charts.CONFIG)
    top = max(rows, key=lambda row: row["ratio"])
    st.caption(
        f"Frobenius norms. The largest change is {units.percent(100 * top['ratio'])} of its matrix, in {top['module']}."
    )


def by_layer(rows: list[dict[str, Any]]) -> dict[str, dict[int, float]]:
    """The ratio by kind of module and layer index."""
    from peft_lab.meta import pattern

    table: dict[str, dict[int, float]] = {}
    for row in rows:
        path, layer = pattern(row["module"])
        table.setdefault(path.split("{}.")[-1], {})[layer or 0] = row["ratio"]
    return table


def _growth(slug: str, growth: list[dict[str, Any]]) -> None:
    st.markdown(f"#### How ΔW grows while training {figures.badge(Source.MEASURED)}")
    steps = [point["step"] for point in growth]
    total = [sum(norm**2 for norm in point["norms"].values()) ** 0.5 for point in growth]
    figure = charts.curves({"‖ΔW‖": (steps, total)}, "optimizer step", "‖ΔW‖, all layers", height=300)
    st.plotly_chart(figure, key=f"{slug}-growth", config=charts.CONFIG)
    st.caption(
        "It starts at exactly zero, because B does: before the first step the model is the base model."
    )


def _gradients(gradients: dict[str, dict[str, float]]) -> None:
    st.markdown(f"#### Gradients in the first step {figures.badge(Source.MEASURED)}")
    a = max(row["A"] for row in gradients.values())
    b = [row["B"] for row in gradients.values()]
    figures.table(
        ("Matrix", "Starts as", "Gradient norm at step 0"),
        [
            ("A", "random", f"{a:.3g} (largest of {len(gradients)})"),
            ("B", "zero", f"{min(b):.3g} to {max(b):.3g}"),
        ],
        numeric=(2,),
    )
    st.markdown(
        r"$\partial L/\partial A$ contains $B$, which is zero, so A cannot move yet. $\partial L/\partial B$ contains "
        "$A$, which is not. With **both** at zero nothing would ever move."
    )


def _merge(rows: list[dict[str, Any]]) -> None:
    st.markdown(f"#### Merged against unmerged {figures.badge(Source.MEASURED)}")
    if not rows:
        st.markdown("Merging into a four-bit base is not exact, and is not checked for this run.")
        return
    figures.table(
        ("Precision", "Largest difference of outputs", "Relative to the largest output"),
        [
            (row["dtype"], f"{row['max_difference']:.2g}", units.percent(100 * row["relative"]))
            for row in rows
        ],
        numeric=(1, 2),
    )
    st.caption(
        "The same held-out sentences with the adapter beside W and with BA added into W. What differs is rounding."
    )
