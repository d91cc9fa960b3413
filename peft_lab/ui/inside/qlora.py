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
}
_VERDICTS = {
    "expanded": "The model that was trained, at full size",
    "fresh": "Usual, and close to the better base; not the model that was trained",
    "rounded again": "Small, and the correction is rounded away in part",
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
    st.markdown(f"#### Three ways to merge {figures.badge(Source.MEASURED)}")
    figures.table(
        ("Merged", "Outputs off by", "Weights off by", ""),
        [
            (
                _WAYS[row["way"]],
                units.percent(100 * row["outputs"]),
                units.percent(100 * row["weights"]),
                _VERDICTS[row["way"]],
            )
            for row in rows
        ],
        numeric=(1, 2),
    )
    st.caption(
        "Against the trained model, adapter beside four-bit base, on held-out sentences. 100% is as far as the adapter "
        "itself moved the outputs, or the weights. On some processors bitsandbytes repacks four-bit weights in the "
        "first evaluation, after which a merge is wrong: that is switched off here, and each way starts afresh."
    )
