"""Choose a method: a tree to walk, the same as numbers, and what comes of it."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import asdict, replace
from typing import Any

import streamlit as st

from peft_lab.advise import ask
from peft_lab.advise.answers import found_answer
from peft_lab.advise.flips import Flip
from peft_lab.advise.recommend import Recommendation, find_place, reach
from peft_lab.advise.situation import Situation
from peft_lab.advise.tree import ROOT
from peft_lab.core.errors import BadInput
from peft_lab.methods import all_methods
from peft_lab.ui import pages, state
from peft_lab.ui.choose import form, outcome, tree
from peft_lab.ui.choose.outcome import evidence
from peft_lab.ui.choose.tree import walk
from peft_lab.ui.components.frame import error_line
from peft_lab.ui.components.waiting import Look, come_back, look, shown
from peft_lab.workers import inspector

PATIENCE = 0.8  # seconds that the page waits for a recommendation before it is drawn without
_PATH = "known-path"


def choose_page() -> None:
    pages.open_page()
    form.read_address()
    st.title("Choose a method")
    with st.container(border=True, key="situation"):
        st.markdown("### Your situation")
        situation = form.form()
        if st.button("Back to the first example", key="choose-reset"):
            form.take(Situation())
            st.rerun()
    answer = st.container(key="choose-answer")
    seen = _recommendation(situation, answer)
    found = seen.answer
    with answer:
        if found is not None:
            outcome.headline(situation, found)
        elif seen.open is not None:
            st.markdown("Simulating training steps…")
    with st.container(key="choose-tree"):
        st.markdown("### The way there")
        st.markdown(
            "Choose an answer and the path lights up. Some questions only you can answer; whether a training step "
            "fits is **simulated**, and facts about the model are **counted**. Arrow keys move through the tree; Enter "
            "chooses."
        )
        chosen = walk(_lit(situation, found))
    if chosen:
        _go(situation, chosen)
    if found is not None:
        _outcome(situation, found)
        _below(situation, found)
    come_back(seen)
    state.write_address(form.address())


def _recommendation(situation: Situation, place: Any) -> Look[Recommendation]:
    """Return what is recommended, or what is still waited for; neither, with a line, where there is an error."""
    try:
        situation.check()
        seen: Look[Recommendation] = look(
            _ask(ask.recommendation, situation, inspector.Worker.CHOOSE), PATIENCE
        )
    except BadInput as error:
        seen = Look(error=error)
    if seen.error is not None:
        if getattr(seen.error, "field", None) not in Situation.fields():  # else it stands at its control
            error_line(seen.error, place)
    elif seen.answer is not None:
        path = {step.question: step.value for step in seen.answer.path}
        st.session_state[_PATH] = (asdict(situation), path)
    return seen


def _ask(function: Any, situation: Situation, worker: inspector.Worker) -> Future[Any]:
    return inspector.get_inspector(worker).submit(function, asdict(situation))


def _lit(situation: Situation, found: Recommendation | None) -> Sequence[str]:
    """Return the path; while it is not known, as far as it goes without the simulation."""
    if found is not None:
        return tree.lit_places([(step.node, step.value) for step in found.path])
    return tree.lit_places([(ROOT, found_answer(ROOT, situation)[0])])


def _go(situation: Situation, place: str) -> None:
    """Answer what leads to the place, and draw the page again."""
    told_for, known = st.session_state.get(_PATH, ({}, {}))
    form.take(reach(situation, find_place(place), known if told_for == asdict(situation) else {}))
    st.rerun()


def _outcome(situation: Situation, found: Recommendation) -> None:
    left, right = st.columns([4, 7], gap="large")
    with left:
        outcome.reasons(found)
        outcome.unknown(found)
    with right:
        outcome.configuration(situation, found)


def _below(situation: Situation, found: Recommendation) -> None:
    first, second = st.columns(2, gap="large")
    with first:
        outcome.trace(found)
    if found.method in all_methods():
        evidence(found.method)
    with second:  # last: it is waited for
        flip = _flips(situation)
    if flip is not None:
        form.take(replace(situation, **flip.changes))
        st.rerun()


def _flips(situation: Situation) -> Flip | None:
    asked = _ask(ask.flips, situation, inspector.Worker.FLIPS)
    st.markdown("#### What would change the answer")
    return shown(asked, outcome.flipping, "Changing one answer at a time…", patience=PATIENCE)
