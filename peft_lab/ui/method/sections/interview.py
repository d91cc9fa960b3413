"""Interview questions on the method of a page, asked about the model that is chosen there, each answer folded away."""

from __future__ import annotations

import streamlit as st

from peft_lab.methods.base import MethodSpec
from peft_lab.models.catalogue import ModelEntry, readers_of_text
from peft_lab.quiz.bank import select
from peft_lab.quiz.question import LEVELS, Question
from peft_lab.ui import pages, state
from peft_lab.ui.components.knobs import Choice
from peft_lab.ui.practice.answering import interviewer, model_answer, shown_solution
from peft_lab.ui.practice.learner import SCOPE as PRACTICE


def interview_questions(choice: Choice) -> None:
    """One question a level, and the way to all of them."""
    st.markdown(f"#### Interview questions on {choice.spec.title}")
    if choice.entry.kind == "vision":
        st.caption("Questions are asked about models that read text; this one reads images.")
    elif choice.entry.name not in readers_of_text():
        st.caption("Questions are asked about the models in the list only; yours is not one of them.")
    for question, model in chosen_questions(choice.spec, choice.entry):
        with st.container(border=True):
            _question(question, model)
    _to_practice(choice)


def chosen_questions(spec: MethodSpec, entry: ModelEntry) -> list[tuple[Question, str | None]]:
    """One question of the method for each level that has any, with the model to ask it about.

    A question whose answer is computed for this model comes before one that no model matters to, and that before one
    about another model. ``None`` stands for the question's own model. Models that are not in the catalogue would have
    to be read with torch, so their questions are asked about the questions' own models.
    """
    name = entry.name if entry.name in readers_of_text() else None

    def fits(question: Question) -> bool:
        return name is not None and question.accepts(name)

    def rank(question: Question) -> int:
        if question.computed and fits(question):
            return 0
        return 1 if question.model is None else 2

    found = []
    for level in LEVELS:
        bank = select((spec.slug,), (level,))
        if bank:
            question = min(bank, key=rank)
            found.append((question, name if fits(question) else None))
    return found


def _question(question: Question, model: str | None) -> None:
    st.markdown(f":gray-badge[{question.level}] {question.ask(model)}")
    if question.kind == "choice":
        st.markdown("\n".join(f"- {option}" for option in question.choices(model)))
    with st.expander("Answer", icon=":material/visibility:"):
        answer, known = shown_solution(question, model)
        if not known:
            return
        model_answer(question, answer, model)
        interviewer(question, model)


def _to_practice(choice: Choice) -> None:
    """The way to all questions of the topic. A page's address is read once a session, so the choice is set here too."""
    wanted = {"topic": choice.spec.slug}
    if choice.entry.name in readers_of_text():
        wanted["model"] = choice.entry.name
    if st.button(
        f"Practise {choice.spec.title}",
        icon=":material/arrow_forward:",
        key=f"practise-{choice.spec.slug}",
        help="All questions of this topic as flash cards, with a schedule.",
    ):
        for name, value in ({"level": "", "model": "", "tab": "cards"} | wanted).items():
            state.remember(PRACTICE, name, value)
        state.renew(PRACTICE)
        st.switch_page(pages.page("practice", pages.titles()["practice"]), query_params=wanted)
