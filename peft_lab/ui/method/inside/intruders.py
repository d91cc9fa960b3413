"""Look inside a LoRA: whether its strongest singular vectors resemble any of the pretrained matrix's."""

from __future__ import annotations

from typing import Any

import streamlit as st

from peft_lab.errors import PeftLabError
from peft_lab.insight.intruders import STRONGEST, THRESHOLD
from peft_lab.methods.lora import intruding
from peft_lab.ui import state
from peft_lab.ui.components import charts, figures
from peft_lab.ui.components.waiting import come_back
from peft_lab.ui.foreign import plain
from peft_lab.units import Source

PATIENCE = 1.5  # seconds
Row = dict[str, Any]


def intruders(slug: str, identity: str) -> None:
    """Offer to compare every matrix of the open run, and show the one that is looked at above."""
    st.markdown(f"#### Intruder dimensions {figures.badge(Source.MEASURED)}")
    st.markdown(
        r"The strongest left singular vectors of $W + \Delta W$, each against all of $W$'s. What training only "
        f"strengthened has a partner near a cosine of 1; an **intruder** has none above {THRESHOLD:g}."
    )
    if st.button("Compare the singular vectors", key=f"{slug}-intruders"):
        state.remember(slug, "intruders-of", identity)
    if state.remembered(slug, "intruders-of", None) != identity:
        return
    asked = intruding.ask(identity)
    try:
        rows = asked.result(timeout=PATIENCE)
    except TimeoutError:
        st.markdown("Decomposing every adapted matrix twice…")
        come_back([asked])
        return
    except PeftLabError as error:
        st.markdown(f":red[:material/error: {plain(error)}]")
        return
    _shown(slug, rows)


def _shown(slug: str, rows: list[Row]) -> None:
    chosen = state.remembered(slug, "inside-module", "")
    row = next((each for each in rows if each["module"] == chosen), rows[0])
    many = len(row["cosines"])
    left, right = st.columns(2, gap="large")
    with left:
        numbers = [str(number) for number in range(1, many + 1)]
        figure = charts.heatmap(
            row["cosines"], "pretrained vector", "tuned vector", "|cosine|", numbers, numbers, limit=1.0
        )
        st.plotly_chart(figure, key=f"{slug}-cosines", config=charts.CONFIG)
        st.caption(
            f"{plain(row['module'])}: the {many} strongest of each. A dark diagonal: nothing new. A row without a dark "
            "cell: new."
        )
    with right:
        figures.table(
            ("Tuned vector", "Singular value", "Nearest pretrained", ""),
            [
                (str(number), f"{value:.3g}", f"{cosine:.2f}", "intruder" if number in row["found"] else "")
                for number, (value, cosine) in enumerate(zip(row["tuned"], row["nearest"], strict=True), 1)
            ],
            numeric=(0, 1, 2),
        )
    with_any = [each for each in rows if each["found"]]
    total = sum(len(each["found"]) for each in rows)
    told = (
        f"**{total}** intruders in {len(with_any)} of {len(rows)} adapted matrices."
        if total
        else f"**None** of the {STRONGEST} strongest vectors of any of the {len(rows)} adapted matrices is an "
        "intruder: so short a training turned what was there and put nothing new on top."
    )
    st.markdown(f"{told} {figures.badge(Source.MEASURED)}")
    st.caption(
        f"How many vectors are looked at ({STRONGEST}) and where an intruder begins ({THRESHOLD:g}) are the defaults "
        "of PEFT's reduce_intruder_dimension. The effect was found in longer trainings of larger models: Shuttleworth "
        "et al. 2024, arXiv 2410.21228."
    )
