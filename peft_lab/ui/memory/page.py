"""Memory: every method's training step on one model, against the memory of a real device."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import streamlit as st

from peft_lab.core import units
from peft_lab.engine.timing import kernels
from peft_lab.engine.work import copied
from peft_lab.methods import all_methods
from peft_lab.ui import pages
from peft_lab.ui.components import figures
from peft_lab.ui.components.frame import tabs
from peft_lab.ui.memory.bars import Simulated, curves, overview, timeline
from peft_lab.ui.memory.controls import SCOPE, TABS, controls, form_controls, read_address, write_address
from peft_lab.ui.memory.fitting import fitting
from peft_lab.ui.memory.lessons import lessons
from peft_lab.ui.memory.published import published_peaks

# ----------------------------------------
# What activations that wait in main memory cost, said under the controls.


def offloaded(answers: Simulated) -> None:
    """Draw one sentence of the method in view, or of the first that runs; nothing until one has run."""
    wanted = form_controls().value("method")
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
    read_address()
    st.title("Memory")
    st.markdown(
        "What a training step needs, before anything is downloaded: the real step is run on tensors that have shapes "
        f"but no data, and every byte is added up. {figures.badge('simulated')}"
    )
    with st.container(key="memory-controls"):
        chosen = controls()
        below = st.container(key="memory-offload")
    answers = None if chosen.problems() else overview(chosen)
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
    write_address(chosen)


def _tabs(sections: dict[str, Callable[[], None]]) -> None:
    wanted = TABS[form_controls().value("tab")]
    title = tabs(SCOPE, sections, wanted if wanted in sections else next(iter(sections)))
    form_controls().remember("tab", next(name for name, text in TABS.items() if text == title))
