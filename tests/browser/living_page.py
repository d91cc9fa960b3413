"""A page with nothing but the living block, for the browser tests and the measurement of its frames."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from peft_lab.methods import get_method
from peft_lab.ui.components.block import block, handles
from tests.ui import living

MINE = "set by hand"
TOLD = "steps told"  # of a run that goes on, ``?live=1``: another one at every look


def keep(values: Mapping[str, Any]) -> None:
    st.session_state.setdefault(MINE, {}).update(values)


st.set_page_config(page_title="The living block")
shape, method = living.shape(), get_method("lora")
values = method.complete(shape, st.session_state.get(MINE, {}))
st.title("The living block")


def under_way() -> None:
    """A run of 12 steps that recorded eight, and whose events come one by one."""
    told = st.session_state.get(TOLD, 8)
    st.session_state[TOLD] = min(12, told + 1)
    block(
        shape,
        method.parts(shape, values),
        tokens=("it", "was", "fine", "."),
        trajectory=living.trajectory(ended=False),
        title="Your run",
        key="under-way",
        live_events=[{"step": step, "loss": 0.1} for step in range(9, told + 1)],
    )


if st.query_params.get("live") == "1":
    st.fragment(under_way, run_every=0.5)()
    st.stop()
chosen = block(
    shape,
    method.parts(shape, values),
    method.quantization(values),
    tokens=("it", "was", "fine", "."),
    trajectory=living.trajectory(),
    playing=st.query_params.get("play") == "1",
    handles=handles(method, shape, values),
    on_values=keep,
)
st.text(f"rank {values['r']}, targets {', '.join(values['target_modules'])}, chosen {chosen}")
