"""What an interviewer asks next, one thing after the other, and a doubt that the learner holds against or gives way to.

Each is asked first, and answered once the learner has tried or said that they do not know.
"""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from peft_lab.errors import PeftLabError
from peft_lab.quiz.chains import Link, chain
from peft_lab.quiz.challenge import Challenge
from peft_lab.quiz.challenges import all_challenges
from peft_lab.quiz.follow_up import Opens
from peft_lab.quiz.question import Question
from peft_lab.ui import pages, state
from peft_lab.ui.components import figures
from peft_lab.ui.foreign import plain
from peft_lab.ui.practice.learner import SCOPE

_OPENED, _TRIED, _STAND = "opened", "tried", "stand"
#: What is called to mind stays; what is only read does not.
ANSWER_FIRST = ":red[:material/edit: Answer first, as well as you can, or say that you don't know.]"
HOLD, GIVE_WAY = "Hold to it", "Give way"


def forget(name: str) -> None:
    """The question comes up anew: nothing after it is open."""
    for entry in (_OPENED, _STAND, _TRIED):
        state.scope(SCOPE).pop(f"{entry}.{name}", None)


def followed_up(question: Question, model: str | None) -> None:
    """The chain up to the first link that is not answered yet."""
    links = chain(question)[1:]
    opened = int(state.remembered(SCOPE, _OPENED, 0, question.id))
    st.markdown("#### Then asks")
    for index, link in enumerate(links[: opened + 1]):
        about = model if link.after is question else None
        _asked(link, about, f"{index + 1} of {len(links)}")
        if index < opened:
            tried = state.remembered(SCOPE, _TRIED, (), question.id)[index]
            st.markdown(f"You said: {plain(tried)}" if tried else "You did not know.")
            _answered(link, about, f"{question.id}-{index}")
        else:
            _attempt(question, index)


def _attempt(question: Question, index: int) -> None:
    """The answer comes only after one of one's own, or after giving up."""
    with st.form(f"then-{question.id}-{index}", border=False):
        said = st.text_area(
            "Your answer to this",
            key=state.widget_key(SCOPE, "then", question.id, str(index)),
            height=80,
            placeholder="In a sentence or two",
        )
        row = st.container(horizontal=True)
        show = row.form_submit_button("Show the answer to this", icon=":material/visibility:")
        unknown = row.form_submit_button("I don't know")
    if show and not said.strip():
        st.markdown(ANSWER_FIRST)
    elif show or unknown:
        tried = state.remembered(SCOPE, _TRIED, (), question.id)
        state.remember(SCOPE, _TRIED, (*tried, said.strip() if show else ""), question.id)
        state.remember(SCOPE, _OPENED, index + 1, question.id)
        st.rerun()


def _asked(link: Link, model: str | None, place: str) -> None:
    assert link.follow_up is not None  # only a chain's first link has none
    asked, _ = link.after.explain_follow_up(link.follow_up, model)
    st.markdown(f":gray-badge[{place}] **{asked}**")


def _answered(link: Link, model: str | None, key: str) -> None:
    assert link.follow_up is not None
    if link.asks is not None:
        _of_the_bank(link.asks)
        return
    _, answer = link.after.explain_follow_up(link.follow_up, model)
    source = link.after.source_of(link.follow_up.answer)
    st.markdown(f"{answer} {figures.badge(source)}")
    _sources(link.follow_up.sources)
    show_in_lab(link.follow_up.opens, key)


def _of_the_bank(question: Question) -> None:
    """Another question of the bank: what it asks in full, and its answer."""
    if question.needs != "shape":
        st.markdown("This is a question of its own; its figure is measured when it comes up.")
        return
    st.markdown(f"*{question.ask()}*")
    try:
        answer = question.explain(question.compute())
    except PeftLabError as error:
        st.error(plain(error))
        return
    st.markdown(f"{answer} {figures.badge(question.source)}")
    _sources(question.sources)


def defended(question: Question, model: str | None) -> None:
    """The doubt about this question's answer, if there is one."""
    challenge = all_challenges().get(question.id)
    if challenge is None:
        return
    said, doubt, because = question.fill_in(
        (challenge.said, challenge.doubt, challenge.because), challenge.calculate, model
    )
    st.markdown("#### Defend it")
    st.markdown(f"You have said: *{said}* {figures.badge(question.source_of(challenge.said))}")
    st.markdown(f"The interviewer: **{doubt}**")
    taken = state.remembered(SCOPE, _STAND, "", question.id)
    if not taken:
        row = st.container(horizontal=True)
        for stand in (HOLD, GIVE_WAY):
            if row.button(stand, key=f"{stand}-{question.id}"):
                state.remember(SCOPE, _STAND, stand, question.id)
                st.rerun()
        return
    _reaction(challenge, str(taken), because, figures.badge(question.source_of(challenge.because)))
    show_in_lab(challenge.opens, f"doubt-{question.id}")


def _reaction(challenge: Challenge, taken: str, because: str, source: str) -> None:
    right = HOLD if challenge.holds else GIVE_WAY
    if taken == right:
        st.success(f"Right: {right.lower()}.", icon=":material/check_circle:")
    else:
        st.warning(f"Better: {right.lower()}.", icon=":material/near_me:")
    st.markdown(f"{because} {source}")
    _sources(challenge.sources)


def _sources(sources: Sequence[str]) -> None:
    st.caption("; ".join(sources))


def show_in_lab(opens: Opens | None, key: str) -> None:
    """A button, as a link that carries settings is read only by a page that begins afresh."""
    if opens is None:
        return
    title = pages.titles()[opens.page]
    if st.button(f"Show me on {title}", icon=":material/science:", key=f"lab-{key}"):
        state.begin_afresh(opens.page)
        st.switch_page(pages.page(opens.page, title), query_params=address(opens))


def address(opens: Opens) -> dict[str, str]:
    """What the page's address has to say."""
    return {name: state.as_text(value) for name, value in opens.values.items()}
