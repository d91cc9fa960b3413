"""Look inside a QLoRA: how its base is stored, the corrections it learnt over it, and what merging does to it."""

from __future__ import annotations

from typing import Any

import streamlit as st

from peft_lab import units
from peft_lab.ui import figures
from peft_lab.ui.inside import lora
from peft_lab.ui.inside.storage import stored_base
from peft_lab.ui.knobs import Choice
from peft_lab.ui.runs import read_insight
from peft_lab.units import Source

_WAYS = {
    "expanded": "into the four-bit base, expanded",
    "fresh": "into a fresh base that was never rounded",
    "rounded again": "into the four-bit base, rounded again",
    "repacked": "the same after an ordinary evaluation",
}
_VERDICTS = {
    "expanded": "The model that was trained, at full size",
    "fresh": "Usual, and close to the better base; not the model that was trained",
    "rounded again": "Small, and the correction is rounded away in part",
    "repacked": "The evaluation had repacked the weights, which merging does not know of",
}


def show(choice: Choice) -> None:
    stored_base(choice)
    st.divider()
    identity = lora.chosen_run(choice.spec.slug)
    if identity is None:
        return
    _merges(read_insight(identity).get("merges", []))
    lora.trained(choice.spec.slug, identity)


def _merges(rows: list[dict[str, Any]]) -> None:
    if not rows:
        return
    st.markdown(f"#### Ways to merge {figures.badge(Source.MEASURED)}")
    figures.table(
        ("Merged", "Outputs off by", "Weights off by", ""),
        [(_WAYS[row["way"]], *_off(row)) for row in rows],
        numeric=(1, 2),
    )
    st.caption(
        "Against the trained model, adapter beside four-bit base, on held-out sentences. 100% is as far as the adapter "
        "itself moved the outputs, or the weights. So that none is merged wrongly, repacking is switched off here."
    )


def _off(row: dict[str, Any]) -> tuple[str, str, str]:
    if "problem" in row:
        return "–", "–", f"Fails: {row['problem']}"
    outputs, weights = (units.percent(100 * row[name]) for name in ("outputs", "weights"))
    return outputs, weights, _VERDICTS[row["way"]]
