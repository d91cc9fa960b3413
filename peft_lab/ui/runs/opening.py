"""Opening a run: its method's page with the knobs and the data of one's own that it had, and the run itself."""

from __future__ import annotations

import streamlit as st

from peft_lab.methods import all_methods
from peft_lab.runs.summary import RunSummary
from peft_lab.ui import pages, state
from peft_lab.ui.components.knobs import restore
from peft_lab.ui.runs.shown import show_run


def open_run(line: RunSummary, tab: str = "train") -> None:
    """Leave for the method's page, on whose ``tab`` ``line`` is the run shown, with its knobs set."""
    if line.spec is not None:
        restore(line.spec)
    show_run(line.method, line.id)
    state.remember(line.method, "tab", tab)
    st.switch_page(pages.page(line.method, all_methods()[line.method].title))
