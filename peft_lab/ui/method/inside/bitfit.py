"""Look inside BitFit: how far each bias moved while it learnt, what each kind is worth, and who has biases at all."""

from __future__ import annotations

from typing import Any

import streamlit as st

from peft_lab.core import units
from peft_lab.core.units import Source
from peft_lab.methods import get_method
from peft_lab.methods.bitfit import recording as bitfit
from peft_lab.models.catalogue import catalogue, model_title
from peft_lab.training.tasks.titles import task_title
from peft_lab.ui.components import charts, figures
from peft_lab.ui.components.knobs import Choice
from peft_lab.ui.foreign import plain
from peft_lab.ui.method.inside.playing import played
from peft_lab.ui.runs.shown import finished_of, nothing_to_open, pick_run, read_insight

SLUG = "bitfit"
KEY = "attention.self.key"


def show(choice: Choice) -> None:
    runs = [line for line in finished_of(SLUG) if read_insight(line.id).get("snapshots")]
    if runs:
        found = read_insight(pick_run(SLUG, runs, choice.entry.name))
        _moves(found)
        _put_back(found)
    else:
        nothing_to_open(SLUG, "how the biases moved")
    left, right = st.columns(2, gap="large")
    with left:
        _subsets(choice)
    with right:
        _who_has_biases()


def grid(moves: list[dict[str, Any]]) -> tuple[list[str], list[int], list[list[float | None]]]:
    """Return kinds, layers, and how far each bias moved: ``None`` where a layer has no such bias."""
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
        st.plotly_chart(figure, key=f"{SLUG}-moves", config=charts.CONFIG)
        most = max(shots[index]["moves"], key=lambda row: row["moved"])
        if not most["moved"]:
            st.markdown(f"After **{shots[index]['step']} steps** no bias has moved.")
            return
        st.markdown(
            f"After **{shots[index]['step']} steps** `{most['bias']}` has moved furthest: its entries by "
            f"**{most['moved']:.3f}** (root mean square), from values of {most['start']:.3f}."
        )

    played(SLUG, [shot["step"] for shot in shots], draw)
    outside = [row["bias"] for row in shots[-1]["moves"] if bitfit.kind_of(row["bias"])[1] is None]
    if outside:
        st.caption(f"Outside the layers, and not in the picture: {', '.join(outside)}.")


def _put_back(found: dict[str, Any]) -> None:
    st.markdown(f"#### What each kind is worth {figures.badge(Source.MEASURED)}")
    moved: dict[str, list[float]] = {}
    for row in found["snapshots"][-1]["moves"]:
        moved.setdefault(bitfit.kind_of(row["bias"])[0], []).append(row["moved"])
    figures.table(
        ("Put back to the start", "Had moved", "Logit change", "Answers changed"),
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
    st.caption("Moves as root mean squares, logit changes as means. One kind at a time, in all layers.")
    if any(row["kind"] == KEY for row in found["put_back"]):
        st.markdown(
            "**The keys' biases move, but have no effect.** A bias on the key adds the same number to all scores "
            "of one query, and softmax does not see what is added to all of them. Their gradient is nothing but "
            "rounding, which Adam scales up to full steps. Any change that remains here is rounding in "
            f"{found['dtype']}."
        )


def _subsets(choice: Choice) -> None:
    st.markdown(f"#### All biases, or the paper's two {figures.badge(Source.COUNTED)}")
    spec, shape = get_method(SLUG), choice.shape
    rows = []
    for subset, title in (("all", "All biases"), ("query_mlp", "Query and widening map")):
        problems = spec.problems(shape, {"subset": subset})
        wrong = next((problem.message for problem in problems if problem.level == "error"), None)
        if wrong:
            rows.append((title, "0", "0%"))
            continue
        count = spec.formula(shape, spec.complete(shape, {"subset": subset})).trainable
        rows.append((title, f"{count:,}", units.percent(100 * count / shape.total)))
    figures.table((shape.title, "Trained", "Of the model"), rows, numeric=(1, 2))
    lines = [line for line in finished_of(SLUG) if line.after is not None and line.spec]
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
        "The paper's smaller choice: the query's bias and that of the feed-forward part's first map. Change "
        "*Biases* above and train again to see both here."
    )


def _who_has_biases() -> None:
    st.markdown(f"#### Which models have biases {figures.badge(Source.COUNTED)}")
    spec = get_method(SLUG)
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
    st.markdown(f"With 0 there is nothing to train, and BitFit says so: *{plain(problem.message)}*")
