"""Flash cards: the due one, the answer, and how well it was known; when it comes back is FSRS's matter."""

from __future__ import annotations

from datetime import datetime, timedelta

import streamlit as st

from peft_lab import units
from peft_lab.learners.interviews import rating_of
from peft_lab.learners.records import RATINGS, RatingName
from peft_lab.learners.schedule import Learners
from peft_lab.quiz.answers import Grade, Verdict, judge
from peft_lab.quiz.bank import get_question
from peft_lab.quiz.computed import Answer
from peft_lab.quiz.interview import ticked_points
from peft_lab.quiz.question import Question
from peft_lab.ui import rooms, state
from peft_lab.ui.foreign import plain
from peft_lab.ui.practice import filters
from peft_lab.ui.practice.answering import ask, entry, interviewer, judged, model_answer, shown_solution
from peft_lab.ui.practice.dated import plan_to_date, today_first
from peft_lab.ui.practice.following import ANSWER_FIRST, forget
from peft_lab.ui.practice.learner import SCOPE
from peft_lab.ui.practice.reading import shown_answer
from peft_lab.ui.practice.worked import worked_first

_FITTING: dict[Grade, RatingName] = {
    "right": "good", "close": "hard", "near_miss": "hard", "wrong": "again", "unreadable": "again",
}  # fmt: skip


def cards(file: Learners, learner: str) -> None:
    table = st.container(key="practice-table")
    table.html(rooms.KEPT)
    with st.expander("Which questions", expanded=filters.untold(), icon=":material/tune:"):
        cells = st.columns(3)
        filters.topic_filter(cells[0])
        filters.level_filter(cells[1])
        filters.model_filter(cells[2])
        names = [question.id for question in filters.pool()]
        due, fresh = file.due(learner, names), file.fresh(learner, names)
        st.markdown(f"**{len(due)}** due · **{len(fresh)}** new · {len(names)} questions in this selection")
        st.caption("Numbers are computed for the model you choose, and a near miss says what was forgotten.")
    with st.expander("My interview is on …", icon=":material/event:"):
        plan_to_date(file, learner)
    with table:
        _table(file, learner, names, due, fresh)


def _table(file: Learners, learner: str, names: list[str], due: list[str], fresh: list[str]) -> None:
    """The card that is up, or why there is none."""
    last = state.remembered(SCOPE, "last", "")
    if last:
        st.caption(last)
    if not names:
        st.info("There are no questions on this topic at this level. Choose another level.")
        return
    name = _on_table(file, learner, due, fresh)
    if name is None:
        _nothing_due(file, learner, names)
        return
    with st.container(border=True):
        _card(file, learner, get_question(name), name in due)


def _on_table(file: Learners, learner: str, due: list[str], fresh: list[str]) -> str | None:
    """The card that is up: it stays until it is rated or the choice excludes it. Then what the plan to the interview
    has for today, then due ones, then new ones."""
    name = state.remembered(SCOPE, "card", "")
    if name in due or name in fresh:
        return str(name)
    skipped = state.remembered(SCOPE, "skipped", ())
    ahead = list(dict.fromkeys((*today_first(file, learner, [*due, *fresh]), *due, *fresh)))
    following = [each for each in ahead if each not in skipped] or ahead
    _put(following[0] if following else "")
    return following[0] if following else None


def _put(name: str) -> None:
    for entry_name in ("typed", "revealed", "since"):
        state.scope(SCOPE).pop(entry_name, None)
    forget(name)
    state.remember(SCOPE, "card", name)


def _nothing_due(file: Learners, learner: str, names: list[str]) -> None:
    known = {name: card.due for name, card in file.cards(learner).items() if name in names}
    soonest = min(known.values())
    st.success(
        f"Nothing is due in this selection. The next card comes up in {away(soonest - file.now())}, {date(soonest)}.",
        icon=":material/event_available:",
    )
    if st.button("Look again", icon=":material/refresh:"):
        st.rerun()


def _card(file: Learners, learner: str, question: Question, due: bool) -> None:
    model = filters.model_for(question)
    since = state.remembered(SCOPE, "since", None) or file.now()
    state.remember(SCOPE, "since", since)
    ask(question, model, ":orange-badge[due]" if due else ":blue-badge[new]")
    if filters.chosen("model") and question.model and model is None:
        st.caption("This question cannot be asked about the chosen model; it uses a model of its own.")
    if not state.remembered(SCOPE, "revealed", False):
        _answer_form(question, model)
        worked_first(file, learner, question)
        return
    answer, known = shown_solution(question, model)
    if not known:
        return
    verdict = _verdict(question, answer, model)
    model_answer(question, answer, model)
    # Without a verdict the learner has to compare, and then to rate.
    if verdict is None:
        typed = bool(str(state.remembered(SCOPE, "typed", "")).strip())
        ticked = interviewer(question, model, tick=typed)
        share = rating_of(ticked_points(question, ticked)) if ticked else None
        _rating(file, learner, question, share if typed else "again", since)
    else:
        _rating(file, learner, question, _FITTING[verdict.grade], since)
        interviewer(question, model)


def _answer_form(question: Question, model: str | None) -> None:
    free = question.kind == "free"
    with st.form(f"answer-{question.id}", border=False):
        text = entry(question, model, state.widget_key(SCOPE, "answer", question.id))
        first, second, _ = st.columns([2, 2, 3])
        check = first.form_submit_button(
            "Show the model answer" if free else "Check", type="primary", width="stretch"
        )
        unknown = second.form_submit_button("I don't know", width="stretch")
    if st.button("Another question", type="tertiary", icon=":material/skip_next:"):
        skipped = (*state.remembered(SCOPE, "skipped", ()), question.id)
        state.remember(SCOPE, "skipped", skipped)
        state.scope(SCOPE).pop("card", None)
        st.rerun()
    if check and not text.strip():
        st.markdown(ANSWER_FIRST)
        return
    if check or unknown:
        state.remember(SCOPE, "typed", text if check else "")
        state.remember(SCOPE, "revealed", True)
        st.rerun()


def _verdict(question: Question, answer: Answer | None, model: str | None) -> Verdict | None:
    typed = str(state.remembered(SCOPE, "typed", ""))
    if not typed.strip():
        return None
    if question.kind == "free":
        shown_answer(question, typed, model)
        return None
    verdict = judge(question, answer, typed, model)
    if question.kind == "numeric":
        st.markdown(f"You said **{plain(typed)}**.")
    judged(verdict)
    return verdict


def _rating(
    file: Learners, learner: str, question: Question, fitting: RatingName | None, since: datetime
) -> None:
    """Offer the four ratings. ``fitting``: the one that is suggested; ``None`` suggests none."""
    st.markdown("### How well did you know it?")
    coming = file.preview(learner, question.id)
    row = st.container(horizontal=True)
    for rating in RATINGS:
        pressed = row.button(
            f"{rating.capitalize()} · {away(coming[rating] - file.now())}",
            key=f"rate-{rating}",
            type="primary" if rating == fitting else "secondary",
            width="stretch",
            help=f"Next on {date(coming[rating])}",
        )
        if pressed:
            taken = round((file.now() - since) / timedelta(milliseconds=1))
            card = file.rate(learner, question.id, rating, taken)
            state.remember(
                SCOPE,
                "last",
                f"{filters.topic_title(question.topic)} question rated {rating}: due again {date(card.due)}.",
            )
            state.scope(SCOPE).pop("card", None)
            st.rerun()


def away(length: timedelta) -> str:
    """'6 min', '3 h', '12 days': how long until then."""
    return units.coarse(length.total_seconds())


def date(moment: datetime) -> str:
    """On this machine's clock."""
    return moment.astimezone().strftime("%d %b %Y, %H:%M").lstrip("0")
