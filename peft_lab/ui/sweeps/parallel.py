"""All settings of a sweep at once, as lines through what was varied."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from peft_lab.runs.spec import RunSpec
from peft_lab.sweeping import trials
from peft_lab.sweeping.trials import Setting
from peft_lab.ui.compare import drawings
from peft_lab.ui.components import figures
from peft_lab.ui.sweeps import choosing, pictures

LEAST = 2  # settings that can be told apart
MOST = 200  # lines: more of them nobody tells apart, and a browser draws them slowly


def section(settings: Sequence[Setting], names: Sequence[str], figure: str, spec: RunSpec) -> None:
    done = trials.comparable(settings, figure)
    if not names or len(done) < LEAST:
        return
    st.markdown(f"### What was varied {figures.badge('measured')}")
    st.markdown(
        "A line is a setting with all the seeds that any has done, the last axis their mean; the better, the more "
        "orange." + (f" Of {len(done):,} settings the best {MOST:,} are drawn." if len(done) > MOST else "")
    )
    drawn = pictures.parallel(done[:MOST], names, figure, choosing.titles(spec)[figure])
    st.plotly_chart(drawn, key="sweep-parallel", config=drawings.config("sweep-parallel"))
