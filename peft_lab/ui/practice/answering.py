"""A question on screen: its text, where the answer is typed, how it was judged, and the model answer."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from peft_lab.errors import PeftLabError
from peft_lab.quiz.answers import Grade, Verdict, shown_near_misses
from peft_lab.quiz.bank import compute_answer
from peft_lab.quiz.computed import Answer
from peft_lab.quiz.question import Question
from peft_lab.ui.components import figures
from peft_lab.ui.components.waiting import come_back, is_open
from peft_lab.ui.foreign import plain
from peft_lab.ui.practice.filters import topic_title
from peft_lab.ui.practice.following import defended, followed_up
from peft_lab.ui.practice.reading import checklist
from peft_lab.workers import inspector

_SHOWN: dict[Grade, tuple[str, str]] = {
    "right": ("success", "check_circle"),
    "close": ("info", "adjust"),
    "near_miss": ("warning", "near_me"),
    "wrong": ("error", "cancel"),
    "unreadable": ("warning", "help"),
}


def ask(question: Question, model: str | None, place: str = "") -> None:
    """Topic, level and the question itself."""
    st.markdown(f"## {topic_title(question.topic)} :gray-badge[{question.level}] {place}".strip())
    with st.container(key="question"):
        st.markdown(question.ask(model))


def entry(question: Question, model: str | None, key: str) -> str:
    """The control for the answer; what is in it, empty for nothing. An option is given by its number."""
    if question.kind == "choice":
        options = question.choices(model)
        index = st.radio(
            "Your choice", range(len(options)), index=None, key=key, format_func=options.__getitem__
        )
        return "" if index is None else str(index + 1)
    if question.kind == "free":
        return st.text_area(
            "Your answer", key=key, height=110, placeholder="As you would say it, in two or three sentences"
        )
    return st.text_input(
        "Your answer",
        key=key,
        placeholder="1,234,000, 1.2M, 2.5% or 1.5 GB",
        autocomplete="off",
    )


def solution(question: Question, model: str | None) -> tuple[Answer | None, bool]:
    """The computed answer, ``None`` for a written one; and whether it is known yet (else the page comes back).

    Raises:
        PeftLabError: it could not be computed.
    """
    if question.needs == "shape":
        return question.compute(model), True
    future = inspector.get_inspector(inspector.Worker.ANSWERS).submit(compute_answer, question.id, model)
    if is_open(future):
        come_back([future])
        return None, False
    return future.result(), True


def shown_solution(question: Question, model: str | None) -> tuple[Answer | None, bool]:
    """:func:`solution`; where it is not known, the page says that it is being computed, or why it cannot be."""
    try:
        answer, known = solution(question, model)
    except PeftLabError as error:
        st.error(plain(error))
        return None, False
    if not known:
        st.markdown("Computing the answer…")
    return answer, known


def judged(verdict: Verdict) -> None:
    """The verdict in one coloured line; the icon tells it without the colour."""
    kind, icon = _SHOWN[verdict.grade]
    getattr(st, kind)(verdict.message, icon=f":material/{icon}:")


def model_answer(question: Question, answer: Answer | None, model: str | None) -> None:
    """The answer and how it comes about."""
    st.markdown(f"### Model answer {figures.badge(question.source)}")
    st.markdown(question.explain(answer, model))
    if question.because:
        with st.expander("Wrong options, and the thought behind each"):
            _list(question.thoughts(answer, model))
    if answer is None:
        return
    working(answer.working)
    slips = shown_near_misses(answer)
    if slips:
        with st.expander("Wrong answers, and what each one forgets"):
            _list(slips)


def interviewer(question: Question, model: str | None, tick: bool = False) -> tuple[int, ...]:
    """Show what an interviewer makes of an answer, where to read on, and how the conversation goes on.

    Args:
        tick: whether the points are shown as checkboxes, for an answer that was just given.

    Returns:
        The indices of the points ticked.
    """
    left, right = st.columns(2, gap="medium")
    with left:
        st.markdown("#### An interviewer listens for")
        if tick:
            ticked = checklist(question, "said")
        else:
            ticked = ()
            _list(question.listen_for)
    with right:
        st.markdown("#### Often said, and wrong")
        _list(question.wrong)
        st.markdown("#### Sources")
        st.caption("\n".join(f"- {source}" for source in question.sources))
    followed_up(question, model)
    defended(question, model)
    return ticked


def working(steps: Sequence[str]) -> None:
    """The lines of the working. Formulas stand in the text, where a long one breaks on a narrow screen: as a display it
    would scroll, out of the keyboard's reach."""
    lines = (rf"$\displaystyle {step.strip('$')}$" if _is_formula(step) else step for step in steps)
    st.markdown("\n\n".join(lines))


def _is_formula(step: str) -> bool:
    return step.startswith("$") and step.endswith("$") and step.count("$") == 2


def _list(lines: Sequence[str]) -> None:
    st.markdown("\n".join(f"- {line}" for line in lines))
