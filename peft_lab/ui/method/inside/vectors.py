"""Look inside BitFit: how far each bias moved while it learned, what each kind is worth, and who has biases at all."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import plotly.graph_objects as go
import streamlit as st

from peft_lab.core import inspector, units
from peft_lab.core.units import Source
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
from peft_lab.ui.method.inside import layer_of, played, side_by_side
from peft_lab.ui.method.inside.recorded import opened_run
from peft_lab.ui.runs.shown import finished_of, read_insight

BITFIT = "bitfit"
KEY = "attention.self.key"


def show_bitfit(choice: Choice) -> None:
    identity = opened_run(choice, lambda found: found.get("snapshots"), "how the biases moved")
    if identity is not None:
        found = read_insight(identity)
        _moves(found)
        _put_back(found)
    side_by_side(lambda: _subsets(choice), _who_has_biases)


def grid(moves: list[dict[str, Any]]) -> tuple[list[str], list[int], list[list[float | None]]]:
    """Return kinds, layers, and each bias's movement; ``None`` if a layer has no such bias."""
    table: dict[str, dict[int, float]] = {}
    for row in moves:
        kind, layer = bitfit.kind_of(row["bias"])
        if layer is not None:
            table.setdefault(kind, {})[layer] = row["moved"]
    layers = sorted({layer for row in table.values() for layer in row})
    return list(table), layers, [[row.get(layer) for layer in layers] for row in table.values()]


def _moves(found: dict[str, Any]) -> None:
    st.markdown(f"#### How far each bias moved {figures.badge(Source.MEASURED)}")
    shots = found["snapshots"]
    limit = max(row["moved"] for shot in shots for row in shot["moves"])

    def draw(index: int) -> None:
        kinds, layers, cells = grid(shots[index]["moves"])
        figure = charts.heatmap(
            [[value or 0.0 for value in row] for row in cells], "layer", "bias", "RMS move",
            [str(layer) for layer in layers], kinds, height=90 + 30 * len(kinds), limit=limit,
        )  # fmt: skip
        figure.update_yaxes(title=None)
        figure.update_xaxes(type="category")
        charts.draw(figure, f"{BITFIT}-moves")
        most = max(shots[index]["moves"], key=lambda row: row["moved"])
        if not most["moved"]:
            st.markdown(f"After **{shots[index]['step']} steps** no bias has changed.")
            return
        st.markdown(
            f"After **{shots[index]['step']} steps**, `{most['bias']}` has changed most: its entries started at "
            f"{most['start']:.3f} and changed by **{most['moved']:.3f}** (root mean squares)."
        )

    played(BITFIT, [shot["step"] for shot in shots], draw)
    outside = [row["bias"] for row in shots[-1]["moves"] if bitfit.kind_of(row["bias"])[1] is None]
    if outside:
        st.caption(f"Outside the layers, and not in the picture: {', '.join(outside)}.")


def _put_back(found: dict[str, Any]) -> None:
    st.markdown(f"#### Effect of each kind of bias {figures.badge(Source.MEASURED)}")
    moved: dict[str, list[float]] = {}
    for row in found["snapshots"][-1]["moves"]:
        moved.setdefault(bitfit.kind_of(row["bias"])[0], []).append(row["moved"])
    figures.table(
        ("Reset to the start", "Had moved", "Logit change", "Answers changed"),
        [
            (
                f"`{row['kind']}`",
                f"{sum(moved[row['kind']]) / len(moved[row['kind']]):.3f}",
                f"{row['mean_change']:.3f}",
                f"{row['changed']} of {found['rows']}",
            )
            for row in found["put_back"]
        ],
        numeric=(1, 2, 3),
    )
    st.caption(
        "One kind of bias is reset at a time, in all layers. Moves are root mean squares; changes of logits are means."
    )
    if any(row["kind"] == KEY for row in found["put_back"]):
        st.markdown(
            "**The keys' biases change, but have no effect.** A bias on the key adds the same number to all scores "
            "of one query, and softmax ignores a constant added to all scores. So the gradient of a key's bias is "
            "only a rounding error, which Adam scales up to full steps. Any change that remains here is rounding in "
            f"{found['dtype']}."
        )


def _subsets(choice: Choice) -> None:
    st.markdown(f"#### All biases, or the paper's two {figures.badge(Source.COUNTED)}")
    spec, shape = get_method(BITFIT), choice.shape
    rows = []
    for subset, title in (("all", "All biases"), ("query_mlp", "Query and up map")):
        if spec.refusal(shape, {"subset": subset}):
            rows.append((title, "0", "0%"))
            continue
        count = spec.formula(shape, spec.complete(shape, {"subset": subset})).trainable
        rows.append((title, f"{count:,}", units.percent(100 * count / shape.total)))
    figures.table((shape.title, "Trained", "Of the model"), rows, numeric=(1, 2))
    lines = [line for line in finished_of(BITFIT) if line.after is not None and line.spec]
    if lines:
        figures.table(
            ("Finished runs", "Biases", "Score"),
            [
                (
                    f"{model_title(line.model)}, {task_title(line.task)}, {line.steps:,} steps",
                    str(line.spec.values.get("subset", "all")) if line.spec else "",
                    f"{line.after:.1%}",
                )
                for line in lines[:6]
            ],
            numeric=(2,),
        )
    st.caption(
        "The paper's smaller choice trains only the biases of the query and of the feed-forward part's first map. "
        "Change *Biases* above and train again to see both choices here."
    )


def _who_has_biases() -> None:
    st.markdown(f"#### Which models have biases {figures.badge(Source.COUNTED)}")
    spec = get_method(BITFIT)
    seen: dict[str, tuple[str, str, str]] = {}
    for entry in catalogue().values():
        shape = entry.shape
        count = 0 if not shape.biases else spec.formula(shape, spec.complete(shape, {})).trainable
        seen.setdefault(
            shape.model_type, (shape.title, f"{count:,}", units.percent(100 * count / shape.total))
        )
    rows = sorted(seen.values(), key=lambda row: row[1] == "0")
    figures.table(("Model", "Bias parameters", "Of the model"), rows, numeric=(1, 2))
    without = next(entry for entry in catalogue().values() if not entry.shape.biases)
    (problem,) = spec.problems(without.shape, {})
    st.markdown(f"With 0 biases there is nothing to train. BitFit reports: *{plain(problem.message)}*")


# ----------------------------------------
# Look inside IA³: what its vectors amplify and inhibit, the merge, and the paper's targets beside PEFT's.


IA3 = "ia3"


def show_ia3(choice: Choice) -> None:
    identity = opened_run(choice, lambda found: found.get("snapshots"), "the learned vectors")
    if identity is not None:
        found = read_insight(identity)
        _vectors(found)
        left, right = st.columns(2, gap="large")
        with left:
            _strongest(found)
        with right:
            _merge(found["merge"])
            _twins(found.get("twins", {}))
    _targets()


def _vectors(found: dict[str, Any]) -> None:
    st.markdown(f"#### What is amplified, what inhibited {figures.badge(Source.MEASURED)}")
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
        help="Vectors are grouped by map, and by whether they multiply the map's input or its output.",
    )
    state.remember(IA3, "inside-kind", kind)
    limit = max(abs(cell) for row in _of(shots[-1], kind) for cell in row["cells"]) or ia3.FELT
    most = max(max(shot["spread"][kind]) for shot in shots[1:] or shots)

    def draw(index: int) -> None:
        rows = _of(shots[index], kind)
        left, right = st.columns([3, 2], gap="large")
        with left:
            st.markdown("**Every layer's factors, distance from 1**")
            names = [str(layer_of(row["module"]) or 0) for row in rows]
            figure = charts.heatmap(
                [row["cells"] for row in rows], "channels, binned", "layer", "l − 1", None, names,
                diverging=True, limit=limit,
            )  # fmt: skip
            figure.update_yaxes(type="category")
            charts.draw(figure, f"{IA3}-strip")
        with right:
            st.markdown("**How they are spread**")
            counts = shots[index]["spread"][kind]
            charts.draw(_spread(found["edges"], counts, most), f"{IA3}-spread")
        st.markdown(_described(shots[index]["step"], rows))

    played(IA3, [shot["step"] for shot in shots], draw)
    st.caption(
        "A cell stands for several channels and shows the factor furthest from 1. All factors start at exactly 1: "
        "before the first step the model is the base model."
    )


def _described(step: int, rows: list[dict[str, Any]]) -> str:
    size = sum(row["size"] for row in rows)
    more, less = (sum(row[key] for row in rows) for key in ("amplified", "inhibited"))
    if not more and not less:
        return f"After **{step} steps** none of the {size:,} factors is further than {ia3.FELT:g} from 1."
    return (
        f"After **{step} steps**, **{more:,}** of {size:,} factors amplify (above {1 + ia3.FELT:g}) and **{less:,}** "
        f"inhibit (below {1 - ia3.FELT:g}); the factors range from {min(row['low'] for row in rows):.2f} to "
        f"{max(row['high'] for row in rows):.2f}."
    )


def _of(shot: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    return [row for row in shot["vectors"] if ia3.kind_of(row["module"]) == kind]


def _spread(edges: list[float], counts: list[int], most: int) -> go.Figure:
    """Return a histogram; bins below 1 in the colour for inhibition, above in that for amplification."""
    middles = [(low + high) / 2 for low, high in pairwise(edges)]
    figure = charts.columns(middles, counts, "factor", "channels", height=320)
    colours = [theme.TRAINABLE if middle > 1 else theme.QUANTISED for middle in middles]
    figure.update_traces(marker={"color": colours})
    figure.update_layout(bargap=0)
    # At the start all stand in one bin, far above what the others ever reach.
    figure.update_yaxes(range=[0, 1.1 * most])
    figure.update_xaxes(dtick=None)
    return figure


def _strongest(found: dict[str, Any]) -> None:
    st.markdown(f"#### The strongest factors {figures.badge(Source.MEASURED)}")
    rows = [
        (f"`{_named(row['module'])}`", f"{row['channel']:,}", f"{row['factor']:.3f}")
        for key in ("amplified", "inhibited")
        for row in found["strongest"][key][:5]
    ]
    figures.table(("Map", "Channel", "Factor"), rows, numeric=(1, 2))


def _named(path: str) -> str:
    return f"layer {layer_of(path) or 0} {ia3.kind_of(path)}"


def _merge(rows: list[dict[str, Any]]) -> None:
    st.markdown(f"#### Merged against unmerged {figures.badge(Source.MEASURED)}")
    figures.table(
        ("Precision", "Merged", "Unmerged again", "Largest output"),
        [
            (
                row["dtype"],
                f"{row['max_difference']:.2g}",
                f"{row['unmerged_difference']:.2g}" if "unmerged_difference" in row else "–",
                f"{row['max_logit']:.3g}",
            )
            for row in rows
        ],
        numeric=(1, 2, 3),
        caption="Largest change of an output: when merged, and after unmerging",
    )
    st.markdown(
        r"$l \odot (W x) = (\mathrm{diag}(l)\,W)\,x$: a factor on the output multiplies a row of $W$ (and of the "
        r"bias); a factor on the input multiplies a column. The differences are rounding errors."
    )


def _twins(twins: dict[str, Any]) -> None:
    """Draw the correlation of two vectors, if both the value map and the attention's output map have one."""
    if not twins:
        return
    st.markdown(
        f"#### {twins['size']:,} redundant factors {figures.badge(Source.MEASURED)}\n\nPEFT's `output.dense` also "
        "matches the attention's output map. A factor on that map's input has the same effect as a factor on the "
        "value, because attention only averages values over tokens. So the two get equal gradients: their correlation "
        f"is **{twins['correlation']:.4f}**."
    )


def _targets() -> None:
    st.markdown(f"#### The paper's targets and PEFT's defaults {figures.badge(Source.COUNTED)}")
    shown(inspector.submit(ia3_targets.target_table), _targets_table, "Counting…")


def _targets_table(rows: list[dict[str, Any]]) -> None:
    figures.table(
        ("Counted on", "PEFT's default", "Factors", "Paper's choice"),
        [
            (
                f"{row['model']} ({row['architecture']})",
                row["peft"],
                f"{row['peft_count']:,}",
                "fused" if row["fused"] else "the same" if row["same"] else f"{row['paper_count']:,}",
            )
            for row in rows
        ],
        numeric=(2, 3),
    )
    other = sum(not row["same"] for row in rows)
    st.markdown(
        "The paper's choice is k, v and ff: keys, values and the activations inside the feed-forward part (o is the "
        f"attention's output map). On **{other} of {len(rows)}** architectures PEFT's default differs from the "
        "paper's choice. Where query, key and value are one fused map, the paper's choice is not possible. Where "
        "this difference matters, set the targets yourself."
    )
