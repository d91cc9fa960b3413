"""One case: the symptoms, hints by degree, the learner's answer, then the explanation beside a healthy run."""

from __future__ import annotations

from typing import Any

import streamlit as st

from peft_lab import units
from peft_lab.clinic.cases import Case, all_cases
from peft_lab.clinic.faults import all_faults
from peft_lab.learners.schedule import Learners
from peft_lab.ui import state
from peft_lab.ui.clinic.progress import SCOPE, record
from peft_lab.ui.clinic.symptoms import beside, show_fix, symptoms
from peft_lab.ui.foreign import plain


def solve(shown: int, file: Learners, learner: str, known: dict[str, dict[str, Any]]) -> None:
    """Choose a case, and work on it."""
    cases = all_cases()
    problem = state.address_problem(SCOPE, "case")
    if problem:
        st.markdown(f":red[:material/link_off: {plain(problem)}]")
    pick, following = st.columns([5, 1], vertical_alignment="bottom")

    def title(number: int) -> str:
        done = known.get(cases[number - 1].fault.name)
        mark = "" if done is None else " (found)" if done["right"] else " (missed)"
        return f"Case {number}{mark}"

    numbers = [case.number for case in cases]
    chosen: int = pick.selectbox(
        f"{sum(case.fault.name in known for case in cases)} of {len(cases)} cases answered",
        numbers,
        numbers.index(shown),
        key=state.widget_key(SCOPE, "case"),
        format_func=title,
    )
    if following.button("Next", icon=":material/arrow_forward:", width="stretch", key="clinic-next"):
        chosen = numbers[shown % len(numbers)]
        state.remember(SCOPE, "case", chosen)
        state.renew(SCOPE)
        st.rerun()
    state.remember(SCOPE, "case", chosen)
    if chosen != shown:
        st.rerun()
    _work(cases[chosen - 1], file, learner, known)


def _work(case: Case, file: Learners, learner: str, known: dict[str, dict[str, Any]]) -> None:
    before = known.get(case.fault.name)
    again = state.remembered(SCOPE, "again", None) == case.number
    with st.container(border=True):
        if before is not None and not again:
            _explained(case, before)
            return
        started = state.remembered(SCOPE, "since", file.now(), str(case.number))
        state.remember(SCOPE, "since", started, str(case.number))
        symptoms(case)
        hints = _hints(case)
        with st.form(f"clinic-{case.number}", border=False):
            options = case.options()
            guess = st.radio(
                "What is wrong?",
                range(len(options)),
                index=None,
                format_func=lambda at: plain(options[at].title),
                key=state.widget_key(SCOPE, "guess", str(case.number)),
            )
            pressed = st.form_submit_button("Answer", type="primary", icon=":material/check:")
    if pressed and guess is None:
        st.markdown(":red[:material/edit: Choose one first.]")
    elif pressed and guess is not None:
        seconds = (file.now() - started).total_seconds()
        record(file, learner, case.fault.name, options[int(guess)].name, seconds, hints)
        for entry in ("since", "hints"):
            state.scope(SCOPE).pop(f"{entry}.{case.number}", None)
        state.scope(SCOPE).pop("again", None)
        st.rerun()


def _hints(case: Case) -> int:
    """The hints that were asked for; how many."""
    given = int(state.remembered(SCOPE, "hints", 0, str(case.number)))
    texts = case.hints()
    for text in texts[:given]:
        st.markdown(f":material/lightbulb: {plain(text)}")
    if given < len(texts) and st.button(
        "Hint" if not given else "Another hint",
        icon=":material/lightbulb:",
        type="tertiary",
        key="clinic-hint",
    ):
        state.remember(SCOPE, "hints", given + 1, str(case.number))
        st.rerun()
    return given


def _explained(case: Case, before: dict[str, Any]) -> None:
    fault = case.fault
    guess = all_faults().get(before["guess"])
    if before["right"]:
        st.success(f"Found in {units.seconds(before['seconds'])}, with {int(before['hints'])} hints.")
    else:
        st.warning(f"You said “{plain(guess.title if guess else '')}”. It is something else.")
    st.markdown(f"## {plain(fault.title)}")
    st.markdown(plain(fault.why))
    show_fix(fault)
    st.markdown(f"**Met in** [{plain(fault.reference.title)}]({fault.reference.url})")
    beside(case)
    if st.button("Try again", icon=":material/replay:", key="clinic-again"):
        state.remember(SCOPE, "again", case.number)
        st.rerun()
