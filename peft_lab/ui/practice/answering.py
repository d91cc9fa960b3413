"""A question on screen: its text, the answer field, the verdict, and the model answer."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial

import streamlit as st

from peft_lab.core import inspector
from peft_lab.core.field import as_text
from peft_lab.interview.answers import Grade, Verdict
from peft_lab.interview.bank import chain, compute_answer
from peft_lab.interview.computed import Answer, show
from peft_lab.interview.question import Opens, Question
from peft_lab.ui import pages, state
from peft_lab.ui.components import figures
from peft_lab.ui.components.frame import errors_boxed, open_button
from peft_lab.ui.components.waiting import shown
from peft_lab.ui.foreign import plain
from peft_lab.ui.practice.learner import SCOPE, topic_title

# ----------------------------------------
# What an interviewer asks next, one thing after the other, and a doubt that the learner holds against or gives way
# to.
#
# Each is asked first, and answered once the learner has tried or said that they do not know.


_TRIED, _STAND = "tried", "stand"
UNKNOWN = "I don't know"
HOLD, GIVE_WAY = "Keep my answer", "Change my answer"
_ADVICE = {HOLD: "keep your answer", GIVE_WAY: "change your answer"}


def forget(name: str) -> None:
    """Forget what was opened after a question, which starts afresh."""
    for entry in (_STAND, _TRIED):
        state.scope(SCOPE).pop(f"{entry}.{name}", None)


def followed_up(question: Question, model: str | None) -> None:
    """Draw the chain of follow-ups to the first one not answered yet."""
    links = chain(question)[1:]
    tried: tuple[str, ...] = state.remembered(SCOPE, _TRIED, (), question.id)
    st.markdown("#### Follow-up questions")
    for index, link in enumerate(links[: len(tried) + 1]):
        assert link.follow_up is not None  # only a chain's first link has none
        about = model if link.after is question else None
        asked, answer = link.after.explain_follow_up(link.follow_up, about)
        st.markdown(f":gray-badge[{index + 1} of {len(links)}] **{asked}**")
        if index < len(tried):
            st.markdown(f"You said: {plain(tried[index])}" if tried[index] else "You didn't know.")
            if link.asks is not None:
                if link.asks.needs == "shape":
                    st.markdown(f"*{link.asks.ask()}*")
                bank_answer(link.asks)
                continue
            st.markdown(f"{answer} {figures.badge(link.after.source_of(link.follow_up.answer))}")
            _sources(link.follow_up.sources)
            show_in_lab(link.follow_up.opens, f"{question.id}-{index}")
            continue
        key = state.widget_key(SCOPE, "then", question.id, str(index))
        field = partial(st.text_area, "Your answer to the follow-up", key=key, height=80)
        said = attempt(f"then-{question.id}-{index}", field, "Show the answer")
        if said is not None:
            state.remember(SCOPE, _TRIED, (*tried, said), question.id)
            st.rerun()


def attempt(key: str, field: Callable[[], str], show: str, give_up: str = UNKNOWN) -> str | None:
    """Draw a form for an answer, since what is called to mind stays and what is only read does not.

    Args:
        field: draws the field and returns what is in it. show, give_up: the labels of its buttons.

    Returns:
        the answer, an empty text where the learner gave up, and None until then.
    """
    with st.form(key, border=False):
        text = field()
        first, second, _ = st.columns([2, 2, 3])
        shown = first.form_submit_button(show, type="primary", width="stretch")
        given_up = second.form_submit_button(give_up, width="stretch")
    if shown and not text.strip():
        st.markdown(f":red[:material/edit: Type an answer first, or press “{give_up}”.]")
    return "" if given_up else text.strip() or None if shown else None


def bank_answer(question: Question) -> None:
    """Draw the answer of another question of the bank."""
    if question.needs != "shape":
        st.markdown("This question is also a flash card; its answer is measured when the card comes up.")
        return
    with errors_boxed():
        answer = question.explain(question.compute())
        st.markdown(f"{answer} {figures.badge(question.source)}")
        _sources(question.sources)


def defended(question: Question, model: str | None) -> None:
    """Draw the interviewer's doubt about this question's answer, if there is one."""
    about = question.doubt
    if about is None:
        return
    said, doubt, because = question.explain_doubt(about, model)
    st.markdown("#### Defend your answer")
    st.markdown(f"You said: *{said}* {figures.badge(question.source_of(about.said))}")
    st.markdown(f"The interviewer: **{doubt}**")
    taken = state.remembered(SCOPE, _STAND, "", question.id)
    if not taken:
        row = st.container(horizontal=True)
        for stand in (HOLD, GIVE_WAY):
            if row.button(stand, key=f"{stand}-{question.id}"):
                state.remember(SCOPE, _STAND, stand, question.id)
                st.rerun()
        return
    right = HOLD if about.holds else GIVE_WAY
    if taken == right:
        st.success(f"Right: {_ADVICE[right]}.", icon=":material/check_circle:")
    else:
        st.warning(f"Not quite. The better choice: {_ADVICE[right]}.", icon=":material/near_me:")
    st.markdown(f"{because} {figures.badge(question.source_of(about.because))}")
    _sources(about.sources)
    show_in_lab(about.opens, f"doubt-{question.id}")


def _sources(sources: Sequence[str]) -> None:
    st.caption("; ".join(sources))


def show_in_lab(opens: Opens | None, key: str) -> None:
    """Draw a button that opens the lab with these settings, if there are any."""
    if opens is not None:
        label = f"Show me: {pages.titles()[opens.page]}"
        open_button(opens.page, address(opens), label, f"lab-{key}", "", icon=":material/science:")


def address(opens: Opens) -> dict[str, str]:
    """Return the page's URL parameters."""
    return {name: as_text(value) for name, value in opens.values.items()}


# ----------------------------------------
# A free answer beside the points of its question, for the learner to tick; nothing here grades it.


SELF_CHECK = "PEFT Lab does not grade free answers. Tick each point that you made."


def shown_answer(answer: str) -> None:
    """Draw the answer as typed."""
    st.markdown("**You wrote**")
    st.text(answer)


def checklist(question: Question, key: str) -> tuple[int, ...]:
    """Draw the points of a free question as checkboxes; return the indices of the ticked ones. ``key``: start of the
    checkboxes' keys; the question's id and the point's index follow."""
    st.caption(SELF_CHECK)
    ticks = [
        st.checkbox(point, key=f"{key}.{question.id}.{index}")
        for index, point in enumerate(question.listen_for)
    ]
    return tuple(index for index, ticked in enumerate(ticks) if ticked)


_SHOWN: dict[Grade, tuple[str, str]] = {
    "right": ("success", "check_circle"),
    "close": ("info", "adjust"),
    "near_miss": ("warning", "near_me"),
    "wrong": ("error", "cancel"),
    "unreadable": ("warning", "help"),
}


def ask(question: Question, model: str | None, place: str = "") -> None:
    """Draw topic, level and the question itself."""
    st.markdown(f"## {topic_title(question.topic)} :gray-badge[{question.level}] {place}".strip())
    with st.container(key="question"):
        st.markdown(question.ask(model))


def entry(question: Question, model: str | None, key: str) -> str:
    """Draw the control for the answer; return its text, the number of an option, or an empty text."""
    if question.kind == "choice":
        options = question.choices(model)
        index = st.radio(
            "Your answer", range(len(options)), index=None, key=key, format_func=options.__getitem__
        )
        return "" if index is None else str(index + 1)
    if question.kind == "free":
        return st.text_area(
            "Your answer", key=key, height=110, placeholder="Two or three sentences, as you would say them"
        )
    return st.text_input(
        "Your answer",
        key=key,
        placeholder="1,234,000, 1.2M, 2.5% or 1.5 GB",
        autocomplete="off",
    )


def shown_solution(question: Question, model: str | None) -> tuple[Answer | None, bool]:
    """Return the computed answer (None for a written one) and whether it is known; else draw the reason."""
    ask = partial(ask_solution, question, model)
    return shown(ask, lambda answer: (answer, True), "Computing the answer…", where=question.id) or (
        None,
        False,
    )


def ask_solution(question: Question, model: str | None) -> Future[Answer | None]:
    """Request the computed answer, from a worker unless it needs shapes only. Raises PeftLabError."""
    if question.needs != "shape":
        return inspector.get_inspector(inspector.Worker.ANSWERS).submit(compute_answer, question.id, model)
    known: Future[Answer | None] = Future()
    known.set_result(question.compute(model))
    return known


def judged(verdict: Verdict) -> None:
    """Draw the verdict in one coloured line, with an icon that needs no colour."""
    kind, icon = _SHOWN[verdict.grade]
    getattr(st, kind)(verdict.message, icon=f":material/{icon}:")


def model_answer(question: Question, answer: Answer | None, model: str | None) -> None:
    """Draw the answer and its derivation."""
    st.markdown(f"### Model answer {figures.badge(question.source)}")
    st.markdown(question.explain(answer, model))
    if question.explained:
        with st.expander("Why the other options are wrong"):
            _list(question.thoughts(answer, model))
    if answer is None:
        return
    working(answer.working)
    if answer.near_misses:
        with st.expander("Common wrong answers, and what is wrong in each"):
            _list([f"{show(miss.value, answer.unit)}: forgets {miss.forgot}" for miss in answer.near_misses])


def interviewer(question: Question, model: str | None, tick: bool = False) -> tuple[int, ...]:
    """Draw the interviewer's points, common errors, sources, and the follow-up questions. ``tick``: whether to draw the
    points as checkboxes, for an answer just given. Returns the indices of the ticked points."""
    left, right = st.columns(2, gap="medium")
    with left:
        st.markdown("#### What an interviewer listens for")
        if tick:
            ticked = checklist(question, "said")
        else:
            ticked = ()
            _list(question.listen_for)
    with right:
        st.markdown("#### Common mistakes")
        _list(question.wrong)
        st.markdown("#### Sources")
        st.caption("\n".join(f"- {source}" for source in question.sources))
    followed_up(question, model)
    defended(question, model)
    return ticked


def working(steps: Sequence[str]) -> None:
    """Draw the derivation's lines; formulas are inline, as long display formulas do not wrap on a phone."""
    whole = re.compile(r"\$([^$]*)\$")
    lines = (rf"$\displaystyle {found[1]}$" if (found := whole.fullmatch(step)) else step for step in steps)
    st.markdown("\n\n".join(lines))


def _list(lines: Sequence[str]) -> None:
    st.markdown("\n".join(f"- {line}" for line in lines))
