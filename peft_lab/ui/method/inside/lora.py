"""Look inside a LoRA: ΔW of every layer along the training, its singular values, the step-0 gradients, the merge."""

from __future__ import annotations

from functools import partial
from typing import Any

import streamlit as st

from peft_lab.core import units
from peft_lab.core.errors import PeftLabError
from peft_lab.core.units import Source
from peft_lab.methods.lora.recording import GRID
from peft_lab.methods.recording.recorder import INTRUDER_THRESHOLD, STRONGEST
from peft_lab.models.shapes import ModelKind
from peft_lab.runs import store
from peft_lab.runs.spec import entry_of
from peft_lab.studies import blending
from peft_lab.ui import pages, state
from peft_lab.ui.components import charts, figures
from peft_lab.ui.components.form import choose
from peft_lab.ui.components.knobs import Choice
from peft_lab.ui.components.waiting import shown
from peft_lab.ui.foreign import plain
from peft_lab.ui.method.inside import by_kind, layer_of, played, said, section, side_by_side
from peft_lab.ui.method.inside.recorded import opened_run
from peft_lab.ui.runs.shown import read_arrays, read_insight

PATIENCE = 1.5  # seconds
Row = dict[str, Any]


def show(choice: Choice) -> None:
    slug = choice.spec.slug
    identity = chosen_run(choice)
    if identity is None:
        return
    trained(slug, identity)
    with section("intruders", threshold=INTRUDER_THRESHOLD):
        if st.button("Compare the singular vectors", key=f"{slug}-intruders"):
            state.remember(slug, "intruders-of", identity)
        if state.remembered(slug, "intruders-of", None) == identity:
            doing = "Decomposing every adapted matrix twice…"
            shown(blending.ask_intruders(identity), partial(_intruders, slug), doing, patience=PATIENCE)
    pages.link("ship", "Blend several adapters of one base: Ship it", query={"tab": "blend"})


def chosen_run(choice: Choice) -> str | None:
    """Draw the choice of a finished run; None, with advice, if there is none."""

    def complete(found: dict[str, Any]) -> bool:  # earlier versions recorded less
        return bool(found.get("corrections")) and "singular_values" in found["growth"][0]

    return opened_run(choice, complete, "what the run learned")


def trained(slug: str, identity: str) -> None:
    """Draw what one finished run learned."""
    found = read_insight(identity)
    rows, growth, merge = found["corrections"], found["growth"], found["merge"]
    with section("matrix"):
        names = [row["module"] for row in rows]
        largest = max(rows, key=lambda row: row["ratio"])["module"]
        text = "Shown first: the matrix that changed most relative to its size."
        module = choose(slug, "inside-module", "Adapted matrix", names, largest, text=text)
        row = rows[names.index(module)]
        played(slug, [snapshot["step"] for snapshot in growth], lambda index: _at(slug, identity, row, index))
    side_by_side(lambda: _relative(slug, rows), lambda: _growth(slug, growth))
    side_by_side(
        lambda: _gradients(found["step0_gradients"]),
        lambda: _merge(merge, held_out(identity)) if merge else None,
    )


def _at(slug: str, identity: str, row: Row, index: int) -> None:
    """Draw one matrix at one snapshot, with axes that fit the whole training, so that growth is visible."""
    found = read_insight(identity)
    growth, name = found["growth"], row["module"]
    snapshot, values = growth[index], growth[index]["singular_values"][name]
    out, into = row["shape"]
    at = [each["module"] for each in found["corrections"]].index(name)
    grids = read_arrays(identity)["grids"][:, at, : min(GRID, out), : min(GRID, into)].astype(float)
    grids *= found["largest_cell"]
    left, right = st.columns(2, gap="large")
    with left:
        st.markdown(f"**ΔW, {out:,} × {into:,}**")
        axes = ("input, binned", "output, binned", "root mean square")
        charts.draw(charts.heatmap(grids[index].tolist(), *axes, limit=float(grids.max())), f"{slug}-delta")
        st.caption(said("cells", rows=grids.shape[1], columns=grids.shape[2]))
    with right:
        st.markdown(f"**Its {len(values)} singular values**")
        top = max(max(each["singular_values"][name]) for each in growth)
        numbers, named = range(1, len(values) + 1), ("singular value number", "singular value of ΔW")
        charts.draw(charts.columns(numbers, values, *named, top=top), f"{slug}-singular")
        share = units.percent(100 * snapshot["norms"][name] / row["base_norm"])
        zero, effective = min(out, into) - len(values), snapshot["effective_ranks"][name]
        st.markdown(said("ranks", zero=zero, rank=len(values), effective=effective, share=share))
    knobs = store.get(identity).spec.values
    for text, applies in (
        ("pissa", knobs.get("init_lora_weights") == "pissa"),
        ("dora", knobs.get("use_dora")),
    ):
        if applies:
            st.caption(said(text))


def _relative(slug: str, rows: list[Row]) -> None:
    shares = {row["module"]: units.percent(100 * row["ratio"]) for row in rows}
    top = max(rows, key=lambda row: row["ratio"])["module"]
    outside = ", ".join(f"{name} {share}" for name, share in shares.items() if layer_of(name) is None)
    more = f" Outside the layers: {outside}." if outside else ""
    with section("relative", module=top, share=shares[top], outside=more):
        layers = by_kind({row["module"]: row["ratio"] for row in rows if layer_of(row["module"]) is not None})
        series = {kind: (list(values), list(values.values())) for kind, values in layers.items()}
        charts.draw(charts.curves(series, "layer", "‖ΔW‖ / ‖W‖"), f"{slug}-relative")


def _growth(slug: str, growth: list[Row]) -> None:
    with section("growth"):
        steps = [snapshot["step"] for snapshot in growth]
        totals = [sum(norm**2 for norm in snapshot["norms"].values()) ** 0.5 for snapshot in growth]
        figure = charts.curves({"‖ΔW‖": (steps, totals)}, "optimizer step", "‖ΔW‖ over all layers")
        charts.draw(figure, f"{slug}-growth")


def _gradients(gradients: dict[str, dict[str, float]]) -> None:
    def among(values: list[float]) -> str:
        low, high = min(values), max(values)
        return f"{high:.3g} in all {len(values)}" if low == high else f"{low:.3g} to {high:.3g}"

    a, b = ([row[matrix] for row in gradients.values()] for matrix in ("A", "B"))
    at_zero = max(a) == 0
    starts = ("random", "zero") if at_zero else ("W's top directions",) * 2
    with section("gradients"):
        rows = [("A", starts[0], among(a)), ("B", starts[1], among(b))]
        figures.table(("Matrix", "Starts as", "Gradient norm at step 0"), rows, numeric=(2,))
        nonzero = "Neither matrix starts at zero, so both move from the first step on."
        st.markdown(said("zero start") if at_zero else nonzero)


def _merge(rows: list[Row], held: str) -> None:
    with section("merge", held=held):
        cells = [
            ("Merged: outputs differ by", *(f"{row['max_difference']:.2g}" for row in rows)),
            ("of the largest output", *(units.percent(100 * row["relative"]) for row in rows)),
            ("Unmerged again: outputs differ by", *(f"{row['unmerged_difference']:.2g}" for row in rows)),
            ("Entries of W that changed", *(units.percent(100 * row["changed_share"]) for row in rows)),
        ]
        figures.table(("", *(row["dtype"] for row in rows)), cells, numeric=range(1, len(rows) + 1))


def _intruders(slug: str, rows: list[Row]) -> None:
    """Draw the matrix chosen above, and how many of all have intruders."""
    chosen = state.remembered(slug, "inside-module", "")
    row = next((each for each in rows if each["module"] == chosen), rows[0])
    many = len(row["cosines"])
    left, right = st.columns(2, gap="large")
    with left:
        numbers = [str(number) for number in range(1, many + 1)]
        axes = ("pretrained vector", "tuned vector", "|cosine|", numbers, numbers)
        charts.draw(charts.heatmap(row["cosines"], *axes, limit=1.0), f"{slug}-cosines")
        st.caption(said("cosines", module=plain(row["module"]), many=many))
    with right:
        lines = [
            (str(number), f"{value:.3g}", f"{cosine:.2f}", "intruder" if number in row["found"] else "")
            for number, (value, cosine) in enumerate(zip(row["tuned"], row["nearest"], strict=True), 1)
        ]
        head = ("Tuned vector", "Singular value", "Nearest pretrained", "")
        figures.table(head, lines, numeric=(0, 1, 2))
    total, with_any = sum(len(each["found"]) for each in rows), sum(bool(each["found"]) for each in rows)
    told = f"**{total}** intruders in {with_any} of {len(rows)} adapted matrices."
    told = told if total else said("no intruders", strongest=STRONGEST, matrices=len(rows))
    st.markdown(f"{told} {figures.badge(Source.MEASURED)}")
    st.caption(said("intruders found", strongest=STRONGEST, threshold=INTRUDER_THRESHOLD))


def kind_of(identity: str) -> ModelKind | None:
    """Return the kind of a run's model; ``None`` if its folder is gone."""
    try:
        return entry_of(store.get(identity).spec.model).kind
    except PeftLabError:
        return None


def held_out(identity: str) -> str:
    """Return the words for a run's held-out inputs: sentences, images or, if unknown, rows."""
    kind = kind_of(identity)
    return f"held-out {'images' if kind == 'vision' else 'sentences' if kind else 'rows'}"
