"""Look inside a QLoRA: how its base is stored, the corrections it learned over it, and what merging does to it."""

from __future__ import annotations

from functools import partial
from typing import Any

import streamlit as st

from peft_lab.core import units
from peft_lab.core.units import Source
from peft_lab.methods.qlora import spec
from peft_lab.methods.qlora.spec import BLOCK
from peft_lab.models.catalogue import weights_here
from peft_lab.models.shapes import CLASSIFIERS, ModelKind
from peft_lab.ui import theme
from peft_lab.ui.components import charts, figures
from peft_lab.ui.components.form import choose
from peft_lab.ui.components.knobs import Choice
from peft_lab.ui.components.waiting import shown
from peft_lab.ui.foreign import plain
from peft_lab.ui.method.inside import layer_of, lora, side_by_side
from peft_lab.ui.runs.shown import read_insight

# ----------------------------------------
# How a base is stored in few bits: the code book over its weights, the error by layer, bits and bytes.


TITLES = {"nf4": "NF4", "nf4 double": "NF4, double quantisation", "fp4": "FP4", "int8": "int8"}


def stored_base(choice: Choice) -> None:
    """Draw the chosen model's own weights after quantisation; needs no run."""
    if not weights_here(choice.entry):
        st.info(
            f"The weights of {plain(choice.entry.title)} are not on this machine, so their rounding cannot be shown. "
            "Choose a model that can be trained."
        )
        return
    asked = spec.ask_survey(choice.entry.name)
    shown(asked, partial(_stored, choice), "Quantising every matrix of the model in each format…")


def _stored(choice: Choice, found: dict[str, Any]) -> None:
    slug = choice.spec.slug
    kind = "int8" if choice.values["load_in_8bit"] else choice.values["bnb_4bit_quant_type"]
    side_by_side(lambda: _code_book(slug, found, kind), lambda: _errors(slug, found))
    _sizes(found)


def _code_book(slug: str, found: dict[str, Any], kind: str) -> None:
    """Draw a histogram of one matrix's weights, as shares of their block's largest, and the code's values."""
    number = "255" if kind == "int8" else "Sixteen"
    st.markdown(f"#### {number} possible values for each weight {figures.badge(Source.MEASURED)}")
    paths = [row["path"] for row in found["modules"]]
    path = choose(slug, "stored-module", "Matrix", paths)
    row = next(row for row in found["modules"] if row["path"] == path)
    counts, unit = (row["row_histogram"], "row") if kind == "int8" else (row["histogram"], "block")
    width = 2 / len(counts)
    centres = [-1 + width * (index + 0.5) for index in range(len(counts))]
    figure = charts.columns(centres, counts, f"weight / largest of its {unit}", "weights", colour=theme.QUIET)
    figure.update_layout(bargap=0)
    figure.update_xaxes(dtick=0.5)
    codes = found["codes"].get(kind, ())
    for value in codes:
        figure.add_vline(x=value, line={"width": 1.5, "color": theme.QUANTISED})
    charts.draw(figure, f"{slug}-code-book")
    lost = f"Error in this matrix: **{units.percent(100 * row['errors'][kind])}** of its norm."
    if kind == "int8":
        st.markdown(
            "In 8 bits the values are evenly spaced from minus to plus the largest magnitude of a row. There are "
            f"too many of them to draw. Each weight is rounded to the nearest value. {lost}"
        )
        return
    st.markdown(
        f"Blue: the {len(set(codes))} different values of {kind.upper()}. In each block of {BLOCK} weights, these "
        "values are multiplied by the block's largest magnitude. Each weight is rounded to the nearest product. "
        f"{lost}"
    )


def _errors(slug: str, found: dict[str, Any]) -> None:
    """Draw the root mean square error in each layer's matrices, by format."""
    st.markdown(f"#### Rounding error by layer {figures.badge(Source.MEASURED)}")
    series: dict[str, tuple[list[float], list[float]]] = {}
    for form in ("nf4", "fp4", "int8"):
        layers: dict[int, list[float]] = {}
        for row in found["modules"]:
            layer = layer_of(row["path"])
            if layer is not None:
                layers.setdefault(layer, []).append(row["errors"][form])
        means = [(sum(error**2 for error in errors) / len(errors)) ** 0.5 for errors in layers.values()]
        series[TITLES[form]] = ([float(layer) for layer in layers], means)
    charts.draw(charts.curves(series, "layer", "‖W stored − W‖ / ‖W‖", height=340), f"{slug}-errors")
    most = max(abs(row["errors"]["nf4 double"] - row["errors"]["nf4"]) for row in found["modules"])
    st.caption(
        "Root mean square over a layer's matrices. Double quantisation changes no matrix's error by more than "
        f"{units.percent(100 * most)}."
    )


def _sizes(found: dict[str, Any]) -> None:
    st.markdown(f"#### Bits and bytes {figures.badge(Source.COUNTED)}")
    rows = []
    for form, size in found["sizes"].items():
        rows.append(
            (
                TITLES.get(form, form),
                f"{size['bits']:.3f}",
                units.size(size["memory"]),
                units.size(size["disk"]),
                units.size(size["memory"] + found["kept"]),
            )
        )
    header = ("Stored as", "Bits per weight", "In memory", "On disk", "Memory of all weights")
    figures.table(header, rows, numeric=(1, 2, 3, 4))
    st.caption(
        f"The table counts the {units.count(found['weights'])} weights of the linear maps, with their constants and "
        f"code books. Everything else, mainly the embeddings, stays in {found['dtype']}: {units.size(found['kept'])}."
    )


_WAYS = {
    "expanded": "into the rounded base, dequantised",
    "fresh": "into a fresh base that was never rounded",
    "rounded again": "into the rounded base, rounded again",
    "repacked": "rounded again, after an ordinary evaluation",
}
_VERDICTS = {
    "expanded": "gives the model that was trained, at full size.",
    "fresh": "the usual way. It starts from the better, unrounded base; the result is not the model that was trained.",
    "rounded again": "keeps the model small, but part of the correction is rounded away.",
    "repacked": "the evaluation had repacked the weights, and merging does not take this into account.",
}
_EIGHT_BITS = {
    "expanded": "close, at full size: in 8 bits the inputs of every matrix are also rounded; once merged, they are "
    "not.",
    "fresh": "also close, with nothing rounded at all.",
}


def show(choice: Choice) -> None:
    stored_base(choice)
    st.divider()
    identity = lora.chosen_run(choice)
    if identity is None:
        return
    known = read_insight(identity)
    rounding = known.get("rounding", {})
    kind, held = lora.kind_of(identity), lora.held_out(identity)
    _rounding(rounding, kind, held)
    _merges(known.get("merges", []), rounding.get("bits", 4), held)
    lora.trained(choice.spec.slug, identity)


def _rounding(found: dict[str, Any], kind: ModelKind | None, held: str) -> None:
    """Draw the effect of the rounded base on outputs, beside that of training; earlier runs lack it."""
    if not found:
        return
    st.markdown(f"#### What rounding the base does {figures.badge(Source.MEASURED)}")
    outputs, training = (units.percent(100 * found[name]) for name in ("outputs", "training"))
    small = " The base's head starts at random, so its outputs are small." if kind in CLASSIFIERS else ""
    st.markdown(
        f"Without an adapter, the outputs of the rounded base differ by **{outputs}** from those of the base in its "
        f"own precision; the trained adapter then changes the outputs by **{training}**. Both figures are shares of "
        f"the norm of the base's outputs, on {held}.{small}"
    )


def _merges(rows: list[dict[str, Any]], bits: int, held: str) -> None:
    if not rows:
        return
    st.markdown(f"#### Ways to merge {figures.badge(Source.MEASURED)}")
    figures.table(
        ("Merged", "Outputs off by", "Weights off by"),
        [(_WAYS[row["way"]], *_off(row)) for row in rows],
        numeric=(1, 2),
    )
    lines = (f"- **{_WAYS[row['way']].capitalize()}:** {_verdict(row, bits)}" for row in rows)
    st.markdown("\n".join(lines))
    repacking = " Repacking is switched off here, so that every merge is right." if bits == 4 else ""
    st.caption(
        f"Each figure is a difference from the trained model (adapter beside the rounded base), on {held}. 100% is the "
        "change that the adapter itself made to the outputs or weights. Merged weights are rounded to the base's own "
        f"precision, which removes much of a small correction.{repacking}"
    )


def _off(row: dict[str, Any]) -> tuple[str, str]:
    if "problem" in row:
        return "–", "–"
    return units.percent(100 * row["outputs"]), units.percent(100 * row["weights"])


def _verdict(row: dict[str, Any], bits: int) -> str:
    if "problem" in row:
        return f"fails: {plain(row['problem'])}."
    return (_VERDICTS | _EIGHT_BITS if bits == 8 else _VERDICTS)[row["way"]]
