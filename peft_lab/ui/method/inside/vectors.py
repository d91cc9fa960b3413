"""Look inside BitFit and IA³: how far each bias moved and what each kind is worth; what vectors amplify and inhibit."""

from __future__ import annotations

from itertools import pairwise
from statistics import fmean
from typing import Any

import streamlit as st

from peft_lab.core import inspector, units
from peft_lab.methods import get_method
from peft_lab.methods.bitfit import recording as bitfit
from peft_lab.methods.ia3 import recording as ia3
from peft_lab.methods.ia3 import spec as ia3_targets
from peft_lab.models.catalogue import catalogue, model_title
from peft_lab.training.tasks.own import task_title
from peft_lab.ui import state, theme
from peft_lab.ui.components import charts, figures
from peft_lab.ui.components.knobs import Choice
from peft_lab.ui.components.waiting import shown
from peft_lab.ui.foreign import plain
from peft_lab.ui.method.inside import layer_of, played, said, section, side_by_side
from peft_lab.ui.method.inside.recorded import opened_run
from peft_lab.ui.runs.shown import finished_of, read_insight

BITFIT, IA3 = "bitfit", "ia3"
KEY = "attention.self.key"
Row = dict[str, Any]


def show_bitfit(choice: Choice) -> None:
    identity = opened_run(choice, lambda found: found.get("snapshots"), "how the biases moved")
    if identity is not None:
        found = read_insight(identity)
        with section("bias moves"):
            _moves(found["snapshots"])
        with section("put back"):
            _put_back(found)
    side_by_side(lambda: _subsets(choice), _who_has_biases)


def grid(moves: list[Row]) -> tuple[list[str], list[int], list[list[float | None]]]:
    """Return kinds, layers, and each bias's movement; ``None`` if a layer has no such bias."""
    table: dict[str, dict[int, float]] = {}
    for row in moves:
        kind, layer = bitfit.kind_of(row["bias"])
        if layer is not None:
            table.setdefault(kind, {})[layer] = row["moved"]
    layers = sorted({layer for row in table.values() for layer in row})
    return list(table), layers, [[row.get(layer) for layer in layers] for row in table.values()]


def _moves(shots: list[Row]) -> None:
    limit = max(row["moved"] for shot in shots for row in shot["moves"])

    def draw(index: int) -> None:
        kinds, layers, cells = grid(shots[index]["moves"])
        filled = [[value or 0.0 for value in row] for row in cells]
        axes = ("layer", "bias", "RMS move", [str(layer) for layer in layers], kinds)
        figure = charts.heatmap(filled, *axes, height=90 + 30 * len(kinds), limit=limit)
        figure.update_yaxes(title=None)
        figure.update_xaxes(type="category")
        charts.draw(figure, f"{BITFIT}-moves")
        most, step = max(shots[index]["moves"], key=lambda row: row["moved"]), shots[index]["step"]
        still = f"After **{step} steps** no bias has changed."
        st.markdown(said("bias moved", step=step, **most) if most["moved"] else still)

    played(BITFIT, [shot["step"] for shot in shots], draw)
    outside = [row["bias"] for row in shots[-1]["moves"] if bitfit.kind_of(row["bias"])[1] is None]
    if outside:
        st.caption(f"Outside the layers, and not in the picture: {', '.join(outside)}.")


def _put_back(found: Row) -> None:
    moved: dict[str, list[float]] = {}
    for row in found["snapshots"][-1]["moves"]:
        moved.setdefault(bitfit.kind_of(row["bias"])[0], []).append(row["moved"])
    rows = [
        (f"`{row['kind']}`", f"{fmean(moved[row['kind']]):.3f}", f"{row['mean_change']:.3f}",
         f"{row['changed']} of {found['rows']}")
        for row in found["put_back"]
    ]  # fmt: skip
    header = ("Reset to the start", "Had moved", "Logit change", "Answers changed")
    figures.table(header, rows, numeric=(1, 2, 3))
    if any(row["kind"] == KEY for row in found["put_back"]):
        st.markdown(said("keys", dtype=found["dtype"]))


def _subsets(choice: Choice) -> None:
    spec, shape = get_method(BITFIT), choice.shape
    with section("subsets"):
        rows = []
        for subset, title in (("all", "All biases"), ("query_mlp", "Query and up map")):
            refused = spec.refusal(shape, {"subset": subset})
            full = {} if refused else spec.complete(shape, {"subset": subset})
            count = 0 if refused else spec.formula(shape, full).trainable
            rows.append((title, f"{count:,}", units.percent(100 * count / shape.total)))
        figures.table((shape.title, "Trained", "Of the model"), rows, numeric=(1, 2))
        lines = [
            (
                f"{model_title(line.model)}, {task_title(line.task)}, {line.steps:,} steps",
                str(line.spec.values.get("subset", "all")),
                f"{line.after:.1%}",
            )
            for line in finished_of(BITFIT)
            if line.after is not None and line.spec
        ]
        if lines:
            figures.table(("Finished runs", "Biases", "Score"), lines[:6], numeric=(2,))


def _who_has_biases() -> None:
    with section("who"):
        spec, seen = get_method(BITFIT), dict[str, tuple[str, str, str]]()
        for entry in catalogue().values():
            shape = entry.shape
            count = 0 if not shape.biases else spec.formula(shape, spec.complete(shape, {})).trainable
            share = units.percent(100 * count / shape.total)
            seen.setdefault(shape.model_type, (shape.title, f"{count:,}", share))
        rows = sorted(seen.values(), key=lambda row: row[1] == "0")
        figures.table(("Model", "Bias parameters", "Of the model"), rows, numeric=(1, 2))
        without = next(entry for entry in catalogue().values() if not entry.shape.biases)
        (problem,) = spec.problems(without.shape, {})
        st.markdown(f"With 0 biases there is nothing to train. BitFit reports: *{plain(problem.message)}*")


# ----------------------------------------
# Look inside IA³: what its vectors amplify and inhibit, the merge, and the paper's targets beside PEFT's.


def show_ia3(choice: Choice) -> None:
    identity = opened_run(choice, lambda found: found.get("snapshots"), "the learned vectors")
    if identity is not None:
        found = read_insight(identity)
        with section("vectors"):
            _vectors(found)
        side_by_side(lambda: _strongest(found["strongest"]), lambda: _merge(found))
    with section("targets"):
        shown(inspector.submit(ia3_targets.target_table), _targets, "Counting…")


def _vectors(found: Row) -> None:
    shots = found["snapshots"]
    kinds = list(dict.fromkeys(ia3.kind_of(row["module"]) for row in shots[0]["vectors"]))
    inputs = {ia3.kind_of(path) for path in found["on_input"]}
    start = state.remembered(IA3, "inside-kind", kinds[0])
    kind = st.segmented_control(
        "Vectors",
        kinds,
        default=start if start in kinds else kinds[0],
        key=state.widget_key(IA3, "inside-kind", "-".join(kinds)),
        format_func=lambda name: f"{name} · {'input' if name in inputs else 'output'}",
        required=True,
        help=said("kinds"),
    )
    state.remember(IA3, "inside-kind", kind)

    def of(shot: Row) -> list[Row]:
        return [row for row in shot["vectors"] if ia3.kind_of(row["module"]) == kind]

    limit = max(abs(cell) for row in of(shots[-1]) for cell in row["cells"]) or ia3.FELT
    most = max(max(shot["spread"][kind]) for shot in shots[1:] or shots)
    middles = [(low + high) / 2 for low, high in pairwise(found["edges"])]
    colours = [theme.TRAINABLE if middle > 1 else theme.QUANTISED for middle in middles]

    def draw(index: int) -> None:
        rows = of(shots[index])
        left, right = st.columns([3, 2], gap="large")
        with left:
            st.markdown("**Every layer's factors, distance from 1**")
            axes = ("channels, binned", "layer", "l − 1", None)
            names = [str(layer_of(row["module"]) or 0) for row in rows]
            cells = [row["cells"] for row in rows]
            figure = charts.heatmap(cells, *axes, names, diverging=True, limit=limit)
            figure.update_yaxes(type="category")
            charts.draw(figure, f"{IA3}-strip")
        with right:
            st.markdown("**How they are spread**")
            # At the start all stand in one bin, far above what the others ever reach.
            figure = charts.columns(middles, shots[index]["spread"][kind], "factor", "channels", top=most)
            figure.update_traces(marker={"color": colours})
            figure.update_layout(bargap=0)
            figure.update_xaxes(dtick=None)
            charts.draw(figure, f"{IA3}-spread")
        st.markdown(_described(shots[index]["step"], rows))

    played(IA3, [shot["step"] for shot in shots], draw)


def _described(step: int, rows: list[Row]) -> str:
    size, more, less = (sum(row[key] for row in rows) for key in ("size", "amplified", "inhibited"))
    if not more and not less:
        return said("no factors", step=step, size=size, felt=ia3.FELT)
    low, high = min(row["low"] for row in rows), max(row["high"] for row in rows)
    bounds = {"above": 1 + ia3.FELT, "below": 1 - ia3.FELT, "low": low, "high": high}
    return said("factors", step=step, size=size, more=more, less=less, **bounds)


def _strongest(found: dict[str, list[Row]]) -> None:
    with section("strongest"):
        rows = [
            (f"`layer {layer_of(row['module']) or 0} {ia3.kind_of(row['module'])}`", f"{row['channel']:,}",
             f"{row['factor']:.3f}")
            for key in ("amplified", "inhibited")
            for row in found[key][:5]
        ]  # fmt: skip
        figures.table(("Map", "Channel", "Factor"), rows, numeric=(1, 2))


def _merge(found: Row) -> None:
    with section("folded"):
        rows = [
            (row["dtype"], f"{row['max_difference']:.2g}",
             f"{row['unmerged_difference']:.2g}" if "unmerged_difference" in row else "–", f"{row['max_logit']:.3g}")
            for row in found["merge"]
        ]  # fmt: skip
        title = "Largest change of an output: when merged, and after unmerging"
        header = ("Precision", "Merged", "Unmerged again", "Largest output")
        figures.table(header, rows, numeric=(1, 2, 3), caption=title)
        st.markdown(said("diagonal"))
    if found.get("twins"):  # both the value map and the attention's output map have a vector
        with section("twins"):
            st.markdown(said("twin", **found["twins"]))


def _targets(rows: list[Row]) -> None:
    lines = [
        (
            f"{row['model']} ({row['architecture']})",
            row["peft"],
            f"{row['peft_count']:,}",
            "fused" if row["fused"] else "the same" if row["same"] else f"{row['paper_count']:,}",
        )
        for row in rows
    ]
    header = ("Counted on", "PEFT's default", "Factors", "Paper's choice")
    figures.table(header, lines, numeric=(2, 3))
    st.markdown(said("targets differ", other=sum(not row["same"] for row in rows), all=len(rows)))
