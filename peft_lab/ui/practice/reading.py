"""What a reading by patterns finds in a free answer, in the learner's own words; it judges nothing."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from peft_lab.errors import PeftLabError
from peft_lab.quiz.question import Question
from peft_lab.quiz.reading.measured import measured
from peft_lab.quiz.reading.opinion import Endpoint, endpoint, second_opinion
from peft_lab.quiz.reading.reader import AnswerRead, PointRead, read_answer, readable
from peft_lab.quiz.reading.text import Span
from peft_lab.ui import state
from peft_lab.ui.components import figures
from peft_lab.ui.foreign import plain
from peft_lab.ui.practice.learner import SCOPE
from peft_lab.units import Source

_OPINION = "opinion"
NO_READING = "Answers to this question cannot be read by patterns yet: compare with the points yourself."


def shown_reading(question: Question, answer: str, model: str | None = None) -> None:
    """The answer with the words in which points were found, and what was found, is open or was not found.

    Of a question without facets it says so.
    """
    found = read_answer(question.id, answer)
    if found is None:
        st.markdown("**You wrote**")
        st.text(answer)
        st.caption(NO_READING)
        return
    st.markdown("**You wrote**")
    st.markdown(marked(answer, found))
    with st.container(key="reading"):
        _points(found)
        _words()
    _opinion(question, answer, model)


def marked(answer: str, found: AnswerRead) -> str:
    """The answer as Markdown: words in which a point was found on green, words that may be wrong on orange."""
    made = [(span, "green") for each in found.of("made") for span in each.spans]
    wrong = [(span, "orange") for each in found.of("contradicted") for span in each.spans]
    wrong += [(span, "orange") for each in found.errors for span in each.spans]
    return "\n\n".join(_paragraphs(answer, sorted(_apart(made + wrong))))


def _apart(spans: Sequence[tuple[Span, str]]) -> list[tuple[Span, str]]:
    """Those that do not overlap one before."""
    taken: list[tuple[Span, str]] = []
    for span, colour in sorted(spans):
        if not taken or span[0] >= taken[-1][0][1]:
            taken.append((span, colour))
    return taken


def _paragraphs(answer: str, spans: Sequence[tuple[Span, str]]) -> list[str]:
    pieces, start = [], 0
    for (first, last), colour in spans:
        pieces += [_plain(answer[start:first]), f":{colour}-background[{plain(answer[first:last])}]"]
        start = last
    text = "".join((*pieces, _plain(answer[start:])))
    return [line for line in text.splitlines() if line.strip()]


def _plain(text: str) -> str:
    """:func:`plain` line by line, with the spaces at the ends that stand between it and its neighbours."""
    return "\n".join(
        " " * line[:1].isspace() + plain(line) + " " * (len(line) > 1 and line[-1:].isspace())
        for line in text.split("\n")
    )


def _points(found: AnswerRead) -> None:
    lines = [f"- :green[:material/check:] Seems to be said: {each.point.text}" for each in found.of("made")]
    lines += [_against(each) for each in found.of("contradicted")]
    lines += [
        f"- :orange[:material/help:] Look again. This is often said, and wrong: {plain(each.error.text)}"
        for each in found.errors
    ]
    lines += [
        f"- :gray[:material/question_mark:] Cannot tell: {each.point.text}" for each in found.of("unsure")
    ]
    lines += [f"- :gray[:material/remove:] Not found: {each.point.text}" for each in found.of("missing")]
    st.markdown(f"**What was found in it** {figures.badge(Source.CITED)}")
    st.markdown("\n".join(lines))


def _against(each: PointRead) -> str:
    wrong = plain(each.error)
    return f"- :orange[:material/help:] Look again. The point is: {each.point.text} Yours reads like this: {wrong}"


def _words() -> None:
    """What the reading can and cannot do, with the figures of its measurement."""
    seen = measured()
    st.caption(
        "This is no mark. Patterns look for words, numbers and negations; they do not understand. "
        f"Of {seen.made} points that they called said in {seen.answers} answers kept for the test, "
        f"{seen.made_right} were; of {seen.against} hints to look again, {seen.against_right} were right; "
        f"{seen.points - seen.decided} of {seen.points} points they left open. Compare with the model answer, and "
        "rate yourself. " + figures.badge(Source.MEASURED)
    )


def _opinion(question: Question, answer: str, model: str | None) -> None:
    """The button for a second opinion, where the environment names an endpoint, and what it said."""
    try:
        where = endpoint()
    except PeftLabError as error:
        st.caption(plain(error))
        return
    if where is None:
        return
    kept = state.remembered(SCOPE, _OPINION, None, question.id)
    if kept is not None and kept[0] == answer:
        _said(where, kept[1])
    elif st.button(f"Send it to {plain(where.host)} for a second opinion", icon=":material/forum:"):
        points = [each.text for each in readable()[question.id].points]
        try:
            said = second_opinion(where, question.ask(model), points, answer)
        except PeftLabError as error:
            st.error(plain(error))
            return
        state.remember(SCOPE, _OPINION, (answer, said), question.id)
        st.rerun()


def _said(where: Endpoint, said: str) -> None:
    st.markdown(
        f"**Second opinion** by {plain(where.model)} at {plain(where.host)}, a language model; unchecked"
    )
    st.text(said)
