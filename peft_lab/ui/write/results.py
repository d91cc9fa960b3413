"""What the judge found of a program: the tests that passed and failed, the mistake, what was printed."""

from __future__ import annotations

import html
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import streamlit as st

from peft_lab.core import units
from peft_lab.core.asking import carried
from peft_lab.core.units import Source, several
from peft_lab.interview.write import judge
from peft_lab.interview.write.compare import Test
from peft_lab.interview.write.exercises import Exercise
from peft_lab.interview.write.judge import Verdict
from peft_lab.ui import state
from peft_lab.ui.components import figures
from peft_lab.ui.components.waiting import shown
from peft_lab.ui.foreign import plain

SCOPE = "write"
#: Programs that wait here for the judge, which runs each in a process of its own.
_judges = ThreadPoolExecutor(2, "write")


@dataclass(frozen=True)
class Run:
    """One run of a program. ``number``: of the session, from 1."""

    number: int
    program: str
    verdict: Future[Verdict]


def start(slot: str, exercise: Exercise, program: str) -> Run:
    """Have a program judged, and remember the run as the exercise's last one in the slot."""
    number = int(state.remembered(SCOPE, "runs", 0)) + 1
    state.remember(SCOPE, "runs", number)
    run = Run(number, program, _judges.submit(carried(judge.check), exercise.id, program))
    state.remember(SCOPE, "run", run, slot, exercise.id)
    return run


def ask_examples(exercise: Exercise) -> Future[tuple[tuple[str, str], ...]]:
    """Request what an exercise's examples give; the judge keeps the answers of the last exercises."""
    before = state.remembered(SCOPE, "examples", None, exercise.id)
    asked: Future[tuple[tuple[str, str], ...]] = before or _judges.submit(judge.examples, exercise.id)
    failed = asked.done() and asked.exception() is not None
    state.remember(SCOPE, "examples", None if failed else asked, exercise.id)
    return asked


def last_run(slot: str, exercise: Exercise) -> Run | None:
    """Return the session's last run of an exercise."""
    run = state.remembered(SCOPE, "run", None, slot, exercise.id)
    return run if isinstance(run, Run) else None


def in_words(verdict: Verdict) -> str:
    """Return how many tests passed and failed."""
    passed = sum(test.ok for test in verdict.tests)
    failed = len(verdict.tests) - passed
    return f"{passed} passed" + (f", {failed} failed" if failed else "")


def results(exercise: Exercise, run: Run | None) -> Verdict | None:
    """Draw the results of the last run, and return its verdict."""
    with st.container(border=True, key="write-results"):
        if run is None:
            st.markdown("### Results")
            st.markdown(
                "Nothing has run yet. The tests compare your program with a solution on random shapes."
            )
            return None
        return shown(
            run.verdict, lambda verdict: _drawn(exercise, verdict), "Running the tests…", patience=0.1
        )


def _drawn(exercise: Exercise, verdict: Verdict) -> Verdict:
    passed, _, failed = in_words(verdict).partition(", ")
    with st.container(horizontal=True, key="write-counts"):
        st.markdown(f"### {passed}" + (f", :red[{failed}]" if failed else ""), width="content")
        st.markdown(
            f":small[{units.seconds(verdict.seconds)}] {figures.badge(Source.MEASURED)}", width="content"
        )
    first = next((test for test in verdict.tests if not test.ok), None)
    for test in verdict.tests:
        st.html(_line(test, open_=test is first))
        if test is first:
            _reason(exercise, verdict)
    if first is None and verdict.message:
        st.markdown(plain(verdict.message))
    if verdict.printed:
        with st.expander(f"What it printed ({several(len(verdict.printed.splitlines()), 'line')})"):
            st.code(verdict.printed, language=None, wrap_lines=True)
    return verdict


def _reason(exercise: Exercise, verdict: Verdict) -> None:
    """Draw what is wrong: the mistake by its sentence and what happens then, or the judge's message."""
    mistake = next((one for one in exercise.mistakes if one.id == verdict.mistake), None)
    with st.container(key="write-reason"):
        if mistake is not None:
            st.markdown(f"**{mistake.sentence}** {mistake.explanation}")
        elif verdict.message:
            st.markdown(plain(verdict.message))


def _line(test: Test, open_: bool) -> str:
    """Return a test as HTML: a mark, its name and, where it failed, what was expected and got."""
    name = html.escape(test.name)
    if test.ok:
        return f'<p class="write-test ok"><span aria-label="passed">✓</span> {name}</p>'
    rows = "".join(
        f"<dt>{label}</dt><dd>{html.escape(text)}</dd>"
        for label, text in (("expected", test.expected), ("got", test.got))
        if text
    )
    return (
        f'<details class="write-test wrong"{" open" if open_ else ""}><summary><span aria-label="failed">✕</span> '
        f"<b>{name}</b></summary><dl>{rows}</dl></details>"
    )
