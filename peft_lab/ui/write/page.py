"""Write it: one exercise with its task, the editor and the results; and the list of all."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import streamlit as st

from peft_lab.core.form import Form, choice, yes_no
from peft_lab.interview.bank import get_question
from peft_lab.interview.learners.schedule import Learners
from peft_lab.interview.write import judge, progress
from peft_lab.interview.write.exercises import PATHS, Exercise, exercise, exercises
from peft_lab.interview.write.judge import Verdict
from peft_lab.ui import pages, state, web
from peft_lab.ui.components.form import Controls
from peft_lab.ui.components.frame import errors_boxed
from peft_lab.ui.components.rows import Column, RowOf, just_chosen, rows
from peft_lab.ui.components.waiting import shown
from peft_lab.ui.foreign import plain
from peft_lab.ui.method.scratch import FILES
from peft_lab.ui.practice import learner
from peft_lab.ui.practice.answering import bank_answer
from peft_lab.ui.practice.cards import open_card
from peft_lab.ui.write import results
from peft_lab.ui.write.editor import Desk, editor
from peft_lab.ui.write.results import SCOPE, last_run

#: In the page that the browser loads (:mod:`peft_lab.ui.shell.dress`).
WRITE_CSS = web.read("write_page.css")
_LADDER = ("Show a hint", "Show a bigger hint", "Show the line")


@dataclass(frozen=True)
class WriteForm(Form):
    """The exercise, whether the list of all is open, and whether the editor is a plain field."""

    id: str = choice(
        "", "Exercise", "", lambda: {"": ""} | {name: one.title for name, one in exercises().items()}
    )
    all: bool = yes_no(False, "All exercises", "")
    plain: bool = yes_no(False, "Plain text field, without colours and line numbers", "")


def write_controls() -> Controls[WriteForm]:
    """Return the page's controls, not yet drawn."""
    return Controls(WriteForm, SCOPE)


def write_page() -> None:
    """Draw the page."""
    pages.open_page()
    form = write_controls()
    form.read_address()
    with errors_boxed():
        file, name = learner.current_learner()
        for path in PATHS:
            if chosen := just_chosen(f"write-list-{path}"):
                form.put(id=chosen, all=False)
        if form.value("all"):
            _list(form, file, name)
        else:
            one = exercise(form.value("id") or next(iter(exercises())))
            _head(form, one)
            _bench(form, one, file, name)
    state.write_address(form.address())


# ----------------------------------------
# Which exercise: the one of the address, its neighbours, and the list of all by path.


def _head(form: Controls[WriteForm], one: Exercise) -> None:
    names = list(exercises())
    at = names.index(one.id)
    with st.container(horizontal=True, vertical_alignment="bottom", key="write-head"):
        st.title(one.title, width="content")
        place = f"Exercise {at + 1} of {len(names)} · {PATHS[one.path]} · about {one.minutes} minutes"
        st.markdown(f":small[{place}]", width="content")
        with st.container(horizontal=True, width="content", key="write-ways"):
            st.button(f"All {len(names)}", key="write-all", on_click=form.put, kwargs={"all": True})
            for label, to, icon in (("Previous", at - 1, "chevron_left"), ("Next", at + 1, "chevron_right")):
                there = 0 <= to < len(names)
                st.button(
                    label, key=f"write-{label.lower()}", icon=f":material/{icon}:", disabled=not there,
                    on_click=form.put, kwargs={"id": names[to] if there else one.id},
                )  # fmt: skip
    form.below("id")


def _list(form: Controls[WriteForm], file: Learners, name: str) -> None:
    """Draw every exercise by path, with level, minutes and where the learner stands."""
    known = progress.standing(file, name)
    passed = sum(one.passed for one in known.values())
    with st.container(horizontal=True, vertical_alignment="bottom", key="write-head"):
        st.title("Write it", width="content")
        st.markdown(
            f":small[{len(exercises())} exercises in plain torch. You have passed {passed}.]", width="content"
        )
        st.button("Back to the exercise", key="write-back", on_click=form.put, kwargs={"all": False})
    columns = (Column("Exercise"), Column("Level", True), Column("Minutes", True), Column("State"))
    places, half = st.columns(2, gap="medium"), len({one.path for one in exercises().values()}) // 2
    for number, (path, group) in enumerate(groupby(exercises().values(), lambda one: one.path)):
        lines = []
        for one in group:
            stands = known[one.id]
            state_of = "due" if stands.due else "passed" if stands.passed else "tried" if stands.tries else ""
            lines.append(RowOf(one.id, (one.title, str(one.level), str(one.minutes), state_of)))
        with places[number > half]:
            st.markdown(f"### {PATHS[path]}")
            rows(columns, lines, f"write-list-{path}", PATHS[path])


# ----------------------------------------
# One exercise: its task, the editor, what came of the last run.


def _bench(form: Controls[WriteForm], one: Exercise, file: Learners, name: str) -> None:
    refused = judge.refusal()
    if refused:
        st.info(plain(refused), icon=":material/lock:")
    with st.container(key="write-bench"):
        left, middle, right = st.columns([252, 462, 286], gap="small")
    with left, st.container(border=True, key="write-task"):
        _task(one)
    desk = Desk(file, name)
    judge.warm()
    state.remember(SCOPE, "since", state.remembered(SCOPE, "since", file.now(), one.id), one.id)
    run = last_run(desk.slot, one)
    with right:
        verdict = results.results(one, run)
        if run is not None and verdict is not None:
            _record(desk, one, run.number, verdict)
        _hints(one)
        _next_questions(one)
    with middle, st.container(key="write-middle", gap="small"):
        editor(desk, one, form.value("plain"))
        form.draw("plain")
    if progress.standing(file, name)[one.id].passed:
        solution(one)


def _record(desk: Desk, one: Exercise, run: int, verdict: Verdict) -> None:
    """Store how a run went with the learner, once."""
    if state.remembered(SCOPE, "recorded", 0, one.id) == run:
        return
    state.remember(SCOPE, "recorded", run, one.id)
    before = progress.standing(desk.file, desk.learner)[one.id]
    tries = 1 + int(state.remembered(SCOPE, "tries", 0 if before.passed else before.tries, one.id))
    state.remember(SCOPE, "tries", 0 if verdict.passed else tries, one.id)
    now = desk.file.now()
    seconds = (now - state.remembered(SCOPE, "since", now, one.id)).total_seconds()
    if verdict.passed:
        state.remember(SCOPE, "since", now, one.id)
    hints = int(state.remembered(SCOPE, "hints", 0, one.id))
    progress.record(desk.file, desk.learner, verdict, tries, hints, seconds)


def _task(one: Exercise) -> None:
    st.markdown("### The task")
    st.markdown(one.task)
    st.markdown("### Examples")
    shown(lambda: results.ask_examples(one), _examples, "Computing the results…", patience=0.05)


def _examples(pairs: Sequence[tuple[str, str]]) -> None:
    for code, gives in pairs:
        st.code(f"{code}\n# {gives}", language=None, wrap_lines=True)


def _hints(one: Exercise) -> None:
    """Draw the hints asked for so far, and a button for the next one."""
    given = int(state.remembered(SCOPE, "hints", 0, one.id))
    with st.container(border=True, key="write-hints"):
        st.markdown("### Hints")
        for number, hint in enumerate(one.hints[:given], start=1):
            st.markdown(f":orange-badge[{number}] {hint}")
        if given < len(one.hints):
            st.button(
                _LADDER[given], key="write-hint", type="tertiary", icon=":material/lightbulb:",
                on_click=state.remember, args=(SCOPE, "hints", given + 1, one.id),
            )  # fmt: skip


def _next_questions(one: Exercise) -> None:
    """Draw what an interviewer asks next, each answer folded, with the way to its card."""
    with st.container(border=True, key="write-asked"):
        st.markdown("### An interviewer would now ask")
        for question in map(get_question, one.questions):
            st.markdown(question.ask())
            with st.expander("See an answer"):
                bank_answer(question)
            if st.button(
                "Open its card", key=f"card-{question.id}", icon=":material/arrow_forward:", type="tertiary"
            ):
                open_card(question)


def solution(one: Exercise) -> None:
    """Draw the solution line by line, and where the same thing stands in the method from scratch."""
    with st.container(border=True, key="write-solution"):
        st.markdown("### The solution, line by line")
        left, right = st.columns(2, gap="medium")
        with left:
            st.code(one.solution, language=None, wrap_lines=True)
        with right:
            st.markdown("\n".join(f"- {line}" for line in one.explanation))
            place = scratch_place(one.scratch)
            if place is not None:
                where, code = place
                st.markdown(f"**In the whole method from scratch:** `{where}`")
                st.code(code, language=None, wrap_lines=True)


def scratch_place(name: str) -> tuple[str, str] | None:
    """Return place and source of what ``lora.merge`` names in the methods from scratch; None if it is not there."""
    module, _, inner = name.partition(".")
    if module not in FILES:
        return None
    text = FILES[module].text
    found: Any = ast.parse(text)
    for part in filter(None, inner.split(".")):
        named = (node for node in found.body if getattr(node, "name", "") == part)
        found = next(named, None)
        if found is None:
            return None
    code = ast.get_source_segment(text, found) if inner else text
    return f"peft_lab/scratch/{module}.py, line {getattr(found, 'lineno', 1)}", code or ""
