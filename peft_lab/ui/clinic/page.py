"""The Debug clinic: find the fault of a run that went wrong, or have one's own looked at."""

from __future__ import annotations

import streamlit as st

from peft_lab.clinic.cases import all_cases, get_case
from peft_lab.errors import PeftLabError, UnknownName
from peft_lab.ui import pages, state
from peft_lab.ui.clinic.case import solve
from peft_lab.ui.clinic.own import examine
from peft_lab.ui.clinic.progress import SCOPE, solved
from peft_lab.ui.components.tabs import tabs
from peft_lab.ui.foreign import plain
from peft_lab.ui.practice import learner

TABS = {"cases": "Find the fault", "own": "Your own run"}


def clinic_page() -> None:
    pages.open_page()
    st.title("Debug clinic")
    st.markdown(
        "Fine-tunes that went wrong the way they do for people. Every case was **really run**, beside a healthy one."
    )
    try:
        state.read_address(SCOPE, {"case": _take_case, "tab": _take_tab})
        file = learner.learners()
        name = learner.current(file)
        known = solved(file, name)
        cases = all_cases()
        first = next((case.number for case in cases if case.fault.name not in known), 1)
        shown = int(state.remembered(SCOPE, "case", first))
        sections = {
            TABS["cases"]: lambda: solve(shown, file, name, known),
            TABS["own"]: examine,
        }
        start = TABS[str(state.remembered(SCOPE, "tab", "cases"))]
        title = tabs(SCOPE, sections, start)
        tab = next(key for key, words in TABS.items() if words == title)
        state.remember(SCOPE, "tab", tab)
    except PeftLabError as error:
        st.error(plain(error))
        return
    state.write_address({"case": (int(state.remembered(SCOPE, "case", first)), first), "tab": (tab, "cases")})


def _take_case(text: str) -> None:
    state.remember(SCOPE, "case", get_case(text).number)


def _take_tab(text: str) -> None:
    if text not in TABS:
        raise UnknownName("tab", text, TABS, "tab")
    state.remember(SCOPE, "tab", text)
