"""Memory: every method's training step on one model, against the memory of a real device."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import streamlit as st

from peft_lab.core import units
from peft_lab.engine.timing import kernels
from peft_lab.engine.work import copied
from peft_lab.methods import all_methods
from peft_lab.ui import pages, state
from peft_lab.ui.components import figures
from peft_lab.ui.components.frame import tabs
from peft_lab.ui.memory.bars import Simulated, curves, overview, timeline
from peft_lab.ui.memory.controls import DEFAULTS, SCOPE, TABS, address, controls, readers
from peft_lab.ui.memory.fitting import fitting
from peft_lab.ui.memory.lessons import lessons
from peft_lab.ui.memory.published import published_peaks

# ----------------------------------------
# What activations that wait in main memory cost, said under the controls.


def offloaded(answers: Simulated) -> None:
    """Draw one sentence of the method in view, or of the first that runs; nothing until one has run."""
    wanted = state.remembered(SCOPE, "method", DEFAULTS["method"])
    slug = wanted if wanted in answers.found else next(iter(answers.found), None)
    if slug is None:
        return
    both_ways = copied(answers.found[slug].work[-1])
    st.caption(
        f"Offloading takes time: with {all_methods()[slug].title} a step copies {units.size(both_ways)} over the "
        f"bus, there and back, for {units.seconds(both_ways / kernels.PINNED)} that nothing hides. "
        f"{figures.badge('simulated')} Assumed: {kernels.REACHED:.0%} of PCIe 4.0's "
        f"{units.size(kernels.LINKS['pcie'])} a second."
    )


def memory_page() -> None:
    pages.open_page()
    state.read_address(SCOPE, readers())
    st.title("Memory")
    st.markdown(
        "What a training step needs, before anything is downloaded: the real step is run on tensors that have shapes "
        f"but no data, and every byte is added up. {figures.badge('simulated')}"
    )
    with st.container(key="memory-controls"):
        chosen = controls()
        below = st.container(key="memory-offload")
    answers = overview(chosen) if not chosen.problems else None
    if answers is not None and chosen.offload:
        with below:
            offloaded(answers)
    if answers is None:
        st.info(
            "One of the settings above is not possible; the reason is written under it. Change it to see the bars."
        )
    sections: dict[str, Callable[[], None]] = {TABS["published"]: published_peaks}
    if answers is not None:
        own = {
            "timeline": partial(timeline, chosen, answers),
            "fits": partial(fitting, chosen, answers),
            "curves": partial(curves, chosen, answers),
            "why": partial(lessons, chosen, answers),
        }
        sections = {TABS[name]: draw for name, draw in own.items()} | sections
    _tabs(sections)
    state.write_address(address(chosen))


def _tabs(sections: dict[str, Callable[[], None]]) -> None:
    wanted = TABS.get(str(state.remembered(SCOPE, "tab", DEFAULTS["tab"])), "")
    title = tabs(SCOPE, sections, wanted if wanted in sections else next(iter(sections)))
    state.remember(SCOPE, "tab", next(name for name, text in TABS.items() if text == title))
