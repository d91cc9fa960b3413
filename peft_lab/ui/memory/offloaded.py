"""What activations that wait in main memory cost, said under the controls."""

from __future__ import annotations

import streamlit as st

from peft_lab import units
from peft_lab.memory.work import copied
from peft_lab.methods import all_methods
from peft_lab.timing import kernels, links
from peft_lab.ui import state
from peft_lab.ui.components import figures
from peft_lab.ui.memory.answers import Answers
from peft_lab.ui.memory.controls import DEFAULTS, SCOPE


def offloaded(answers: Answers) -> None:
    """One sentence: of the method that the page looks at, or of the first that runs; nothing as long as none has."""
    wanted = state.remembered(SCOPE, "method", DEFAULTS["method"])
    slug = wanted if wanted in answers.found else next(iter(answers.found), None)
    if slug is None:
        return
    both_ways = copied(answers.found[slug].work[-1])
    st.caption(
        f"Offloading takes time: with {all_methods()[slug].title} a step copies {units.size(both_ways)} over the "
        f"bus, there and back, for {units.seconds(both_ways / kernels.PINNED)} that nothing hides. "
        f"{figures.badge('simulated')} Assumed: {links.REACHED:.0%} of PCIe 4.0's "
        f"{units.size(links.LINKS['pcie'])} a second."
    )
