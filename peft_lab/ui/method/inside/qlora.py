"""Look inside a QLoRA: how its base is stored, the corrections it learnt over it, and what merging does to it."""

from __future__ import annotations

from typing import Any

import streamlit as st

from peft_lab import units
from peft_lab.models.shapes import CLASSIFIERS, ModelKind
from peft_lab.ui.components import figures
from peft_lab.ui.components.knobs import Choice
from peft_lab.ui.foreign import plain
from peft_lab.ui.method.inside import lora
from peft_lab.ui.method.inside.storage import stored_base
from peft_lab.ui.runs.shown import read_insight
from peft_lab.units import Source

_WAYS = {
    "expanded": "into the rounded base, expanded",
    "fresh": "into a fresh base that was never rounded",
    "rounded again": "into the rounded base, rounded again",
    "repacked": "the same after an ordinary evaluation",
}
_VERDICTS = {
    "expanded": "the model that was trained, at full size.",
    "fresh": "usual, and close to the better base; not the model that was trained.",
    "rounded again": "small, but part of the correction is rounded away.",
    "repacked": "the evaluation had repacked the weights, and merging does not know about it.",
}
_EIGHT_BITS = {
    "expanded": "close, at full size: in 8 bits the inputs of every matrix are rounded too; once merged, they are not.",
    "fresh": "close as well, with nothing rounded at all.",
}


def show(choice: Choice) -> None:
    stored_base(choice)
    st.divider()
    identity = lora.chosen_run(choice.spec.slug, choice.entry.name)
    if identity is None:
        return
    known = read_insight(identity)
    rounding = known.get("rounding", {})
    kind, held = lora.kind_of(identity), lora.held_out(identity)
    _rounding(rounding, kind, held)
    _merges(known.get("merges", []), rounding.get("bits", 4), held)
    lora.trained(choice.spec.slug, identity)


def _rounding(found: dict[str, Any], kind: ModelKind | None, held: str) -> None:
    """What the fewer bits of the base did to its outputs, beside what training did. Earlier runs did not note it."""
    if not found:
        return
    st.markdown(f"#### What rounding the base does {figures.badge(Source.MEASURED)}")
    outputs, training = (units.percent(100 * found[name]) for name in ("outputs", "training"))
    small = " Its head starts at random, so they are small." if kind in CLASSIFIERS else ""
    st.markdown(
        f"Without an adapter, the outputs of the rounded base differ by **{outputs}** from those of the base in its "
        f"own precision; the trained adapter then moves them by **{training}**. Both in percent of the norm of the "
        f"base's outputs, on {held}.{small}"
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
    repacking = " So that none is merged wrongly, repacking is switched off here." if bits == 4 else ""
    st.caption(
        f"Against the trained model, adapter beside rounded base, on {held}. 100% is as far as the "
        "adapter itself moved the outputs, or the weights. Merged weights are rounded to the base's own precision, "
        f"which takes away much of a small correction.{repacking}"
    )


def _off(row: dict[str, Any]) -> tuple[str, str]:
    if "problem" in row:
        return "–", "–"
    return units.percent(100 * row["outputs"]), units.percent(100 * row["weights"])


def _verdict(row: dict[str, Any], bits: int) -> str:
    if "problem" in row:
        return f"fails: {plain(row['problem'])}."
    return (_VERDICTS | _EIGHT_BITS if bits == 8 else _VERDICTS)[row["way"]]
