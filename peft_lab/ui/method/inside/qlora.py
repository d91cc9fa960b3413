"""Look inside a QLoRA: how its base is stored, the corrections it learned over it, and what merging does to it."""

from __future__ import annotations

from functools import partial
from typing import Any

import streamlit as st

from peft_lab.core import units
from peft_lab.methods.qlora import spec
from peft_lab.methods.qlora.spec import BLOCK
from peft_lab.models.catalogue import weights_here
from peft_lab.models.shapes import CLASSIFIERS
from peft_lab.ui import theme
from peft_lab.ui.components import charts, figures
from peft_lab.ui.components.form import choose
from peft_lab.ui.components.knobs import Choice
from peft_lab.ui.components.waiting import shown
from peft_lab.ui.foreign import plain
from peft_lab.ui.method.inside import layer_of, lora, said, section, side_by_side
from peft_lab.ui.runs.shown import read_insight

TITLES = {"nf4": "NF4", "nf4 double": "NF4, double quantisation", "fp4": "FP4", "int8": "int8"}
_WAYS = {
    "expanded": "into the rounded base, dequantised",
    "fresh": "into a fresh base that was never rounded",
    "rounded again": "into the rounded base, rounded again",
    "repacked": "rounded again, after an ordinary evaluation",
}


def show(choice: Choice) -> None:
    _stored_base(choice)
    st.divider()
    identity = lora.chosen_run(choice)
    if identity is None:
        return
    known, held = read_insight(identity), lora.held_out(identity)
    rounding, merges = known.get("rounding", {}), known.get("merges", [])  # earlier runs lack both
    if rounding:
        shares = {name: units.percent(100 * rounding[name]) for name in ("outputs", "training")}
        classifies = lora.kind_of(identity) in CLASSIFIERS
        head = " The base's head starts at random, so its outputs are small." if classifies else ""
        with section("rounding"):
            st.markdown(said("rounded", held=held, head=head, **shares))
    if merges:
        _merges(merges, rounding.get("bits", 4), held)
    lora.trained(choice.spec.slug, identity)


# ----------------------------------------
# How a base is stored in few bits: the code book over its weights, the error by layer, bits and bytes.


def _stored_base(choice: Choice) -> None:
    """Draw the chosen model's own weights after quantisation; needs no run."""
    if not weights_here(choice.entry):
        st.info(said("no weights", model=plain(choice.entry.title)))
        return
    asked = spec.ask_survey(choice.entry.name)
    shown(asked, partial(_stored, choice), "Quantising every matrix of the model in each format…")


def _stored(choice: Choice, found: dict[str, Any]) -> None:
    slug = choice.spec.slug
    kind = "int8" if choice.values["load_in_8bit"] else choice.values["bnb_4bit_quant_type"]
    side_by_side(lambda: _code_book(slug, found, kind), lambda: _errors(slug, found))
    sizes = {
        "weights": units.count(found["weights"]),
        "dtype": found["dtype"],
        "kept": units.size(found["kept"]),
    }
    with section("sizes", **sizes):
        rows = [
            (
                TITLES.get(form, form),
                f"{size['bits']:.3f}",
                *map(units.size, (size["memory"], size["disk"], size["memory"] + found["kept"])),
            )
            for form, size in found["sizes"].items()
        ]
        header = ("Stored as", "Bits per weight", "In memory", "On disk", "Memory of all weights")
        figures.table(header, rows, numeric=(1, 2, 3, 4))


def _code_book(slug: str, found: dict[str, Any], kind: str) -> None:
    """Draw a histogram of one matrix's weights, as shares of their block's largest, and the code's values."""
    eight = kind == "int8"
    with section("code book", number="255" if eight else "Sixteen"):
        path = choose(slug, "stored-module", "Matrix", [row["path"] for row in found["modules"]])
        row = next(row for row in found["modules"] if row["path"] == path)
        counts, unit = (row["row_histogram"], "row") if eight else (row["histogram"], "block")
        width = 2 / len(counts)
        centres = [-1 + width * (index + 0.5) for index in range(len(counts))]
        figure = charts.columns(
            centres, counts, f"weight / largest of its {unit}", "weights", colour=theme.QUIET
        )
        figure.update_layout(bargap=0)
        figure.update_xaxes(dtick=0.5)
        codes = found["codes"].get(kind, ())
        for value in codes:
            figure.add_vline(x=value, line={"width": 1.5, "color": theme.QUANTISED})
        charts.draw(figure, f"{slug}-code-book")
        many = {"values": len(set(codes)), "kind": kind.upper(), "block": BLOCK}
        lost = said("lost", share=units.percent(100 * row["errors"][kind]))
        st.markdown(f"{said('int8') if eight else said('four bits', **many)} {lost}")


def _errors(slug: str, found: dict[str, Any]) -> None:
    """Draw the root mean square error in each layer's matrices, by format."""
    most = max(abs(row["errors"]["nf4 double"] - row["errors"]["nf4"]) for row in found["modules"])
    with section("errors", most=units.percent(100 * most)):
        series: dict[str, tuple[list[float], list[float]]] = {}
        for form in ("nf4", "fp4", "int8"):
            layers: dict[int, list[float]] = {}
            for row in found["modules"]:
                if (layer := layer_of(row["path"])) is not None:
                    layers.setdefault(layer, []).append(row["errors"][form])
            means = [(sum(error**2 for error in errors) / len(errors)) ** 0.5 for errors in layers.values()]
            series[TITLES[form]] = ([float(layer) for layer in layers], means)
        charts.draw(charts.curves(series, "layer", "‖W stored − W‖ / ‖W‖", height=340), f"{slug}-errors")


def _merges(rows: list[dict[str, Any]], bits: int, held: str) -> None:
    repacking = " Repacking is switched off here, so that every merge is right." if bits == 4 else ""
    with section("merges", held=held, repacking=repacking):
        cells, lines = [], []
        for row in rows:
            way, failed = row["way"], row.get("problem")
            off = (
                ("–", "–") if failed else [units.percent(100 * row[name]) for name in ("outputs", "weights")]
            )
            cells.append((_WAYS[way], *off))
            own = f"{way}, 8 bits" if bits == 8 and way in ("expanded", "fresh") else way
            told = f"fails: {plain(failed)}." if failed else said(own)
            lines.append(f"- **{_WAYS[way].capitalize()}:** {told}")
        figures.table(("Merged", "Outputs off by", "Weights off by"), cells, numeric=(1, 2))
        st.markdown("\n".join(lines))
