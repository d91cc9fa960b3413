"""Flash cards: the due one, its answer, and a rating; FSRS decides when it returns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta

import streamlit as st

from peft_lab.core import asking, units
from peft_lab.core.units import Source, in_words
from peft_lab.interview.answers import Grade, Verdict, judge
from peft_lab.interview.bank import all_questions, get_question, select
from peft_lab.interview.computed import Answer
from peft_lab.interview.learners import storage
from peft_lab.interview.learners.schedule import Learners, rating_of
from peft_lab.interview.learners.storage import RatingName
from peft_lab.interview.mock import SECONDS, all_roles, get_role, ticked_points
from peft_lab.interview.question import LEVELS, Question, topics
from peft_lab.interview.write import progress
from peft_lab.ui import pages, state, theme
from peft_lab.ui.components import figures
from peft_lab.ui.components.frame import errors_boxed
from peft_lab.ui.foreign import plain
from peft_lab.ui.practice import answering
from peft_lab.ui.practice import learner as filters
from peft_lab.ui.practice.learner import ANY, SCOPE

# ----------------------------------------
# My interview is on …: what is left for today, the days ahead, and how ready each topic is.


AHEAD = 7  # days that are shown


def day_of(file: Learners, learner: str) -> date | None:
    """Return the day of the learner's interview; ``None`` if it is not set or has passed."""
    return storage.day_kept(file.kept(learner, storage.KEPT_DAY), file.now().date())


def role_of(file: Learners, learner: str) -> str:
    """Return the role that the learner's interview is for."""
    kept = file.kept(learner, storage.KEPT_ROLE, ANY)
    return kept if isinstance(kept, str) and kept in all_roles() else ANY


def plan_to_date(file: Learners, learner: str) -> None:
    """Draw the control for the day, and the plan up to it."""
    today = file.now().date()
    before = day_of(file, learner)
    chosen = st.date_input(
        "My interview is on",
        value=before,
        min_value=today,
        max_value=today + timedelta(days=storage.LONGEST),
        key=state.widget_key(SCOPE, "day", learner),
        format="YYYY-MM-DD",
        help="If you type a date, press Tab twice or click elsewhere to apply it; Enter does not apply it. "
        f"The date is stored with the learner on {asking.here()} and in the exported file.",
    )
    day = chosen if isinstance(chosen, date) else None
    if day != before:
        file.keep(learner, storage.KEPT_DAY, day.isoformat() if day else None)
        st.rerun()
    if day is None:
        st.caption(
            f"Choose the date to get a study plan of {in_words(round(storage.MINUTES))} minutes a day; cards then "
            "come in its order. If you type the date, click elsewhere to apply it."
        )
        return
    _for_role(file, learner)
    with errors_boxed():
        standing, days = _planned(file, learner, day)
        left = (day - today).days
        st.markdown(f"**{'Today' if not left else 'Tomorrow' if left == 1 else f'In {left} days'}**")
        _days(days)
        _standing(standing)


def _for_role(file: Learners, learner: str) -> None:
    """Draw the control for the role; its topics weigh more among new questions."""
    before = role_of(file, learner)
    chosen = st.selectbox(
        "Role",
        list(all_roles()),
        index=list(all_roles()).index(before),
        format_func=lambda name: all_roles()[name].title,
        key=state.widget_key(SCOPE, "plan-role", learner),
        help=f"New questions on this role's topics are {storage.ASKED:g} times as likely to come up. The role is "
        "stored with the learner.",
    )
    if chosen != before:
        file.keep(learner, storage.KEPT_ROLE, chosen)
        st.rerun()


def _planned(
    file: Learners, learner: str, day: date
) -> tuple[tuple[storage.Readiness, ...], tuple[storage.Day, ...]]:
    names: Mapping[str, Sequence[str]] = {
        topic: [question.id for question in select((topic,))] for topic in topics()
    }
    seconds = {name: float(SECONDS[get_question(name).level]) for each in names.values() for name in each}
    return file.days_to(learner, day, names, seconds, get_role(role_of(file, learner)).topics)


def _days(days: Sequence[storage.Day]) -> None:
    st.markdown(f"##### Study plan {figures.badge(Source.COUNTED)}")
    rows = []
    for each in days[:AHEAD]:
        about = dict.fromkeys(topics()[get_question(name).topic] for name in each.questions)
        new = len(each.questions) - each.again
        rows.append((f"{each.on:%a %d %b}", str(each.again), str(new), ", ".join(about) or "rest"))
    figures.table(("Day", "Review", "New", "Topics, weakest first"), rows, numeric=(1, 2), fold=True)
    more = len(days) - AHEAD
    st.caption(
        (f"{units.several(more, 'more day')} not shown. " if more > 0 else "")
        + f"The plan assumes that you learn each day's cards; your ratings change the plan. New questions get "
        f"{storage.FOR_NEW:.0%} of each day's time as long as any are left. New questions come from all topics, with "
        "more from weak topics and from the role's topics. Every review is due before the interview."
    )


def _standing(standing: Sequence[storage.Readiness]) -> None:
    st.markdown(f"##### How ready you are {figures.badge(Source.COUNTED)}")
    rows = [
        (
            topics()[each.topic],
            f"{each.rated} of {each.questions}",
            f"{each.low:.0%} to {each.high:.0%}"
            if each.low is not None and each.high is not None
            else "too few answers",
        )
        for each in sorted(standing, key=lambda each: (not each.enough, -each.weakness))
    ]
    figures.table(("Topic", "Answered", "Known"), rows, numeric=(1, 2), fold=True)
    st.caption(
        "Known: the share of cards that you last rated better than *again*, as Wilson's 95% interval. The interval "
        f"needs at least {storage.ENOUGH} answers. It is computed from your own ratings, not from an interviewer's."
    )


# ----------------------------------------
# A worked example first, where a topic is new to the learner: another question of it, with its answer step by step.


def worked_first(file: Learners, learner: str, question: Question) -> None:
    """Offer another question of a topic that is new to the learner, the simplest with its answer step by step; closed:
    the page starts with one question and one field."""
    topic = [other for other in all_questions().values() if other.topic == question.topic]
    if {other.id for other in topic} & set(file.cards(learner)):
        return
    worked = [
        other
        for other in topic
        if other.id != question.id and other.kind == "numeric" and other.needs == "shape"
        if other.calculate is not question.calculate
    ]
    found = min(worked, key=lambda other: LEVELS.index(other.level), default=None)
    if found is None:
        return
    with st.expander("New to this topic? Read a worked example first", icon=":material/lightbulb:"):
        model = filters.model_for(found)
        st.markdown(found.ask(model))
        answer = found.compute(model)
        st.markdown(f"{found.explain(answer, model)} {figures.badge(found.source)}")
        if answer is not None:
            answering.working(answer.working)


_FITTING: dict[Grade, RatingName] = {
    "right": "good", "close": "hard", "near_miss": "hard", "wrong": "again", "unreadable": "again",
}  # fmt: skip


def cards(file: Learners, learner: str) -> None:
    table = st.container(key="practice-table")
    table.html(theme.KEPT_ROOM)
    with st.expander("Choose questions", expanded=filters.misread(), icon=":material/tune:"):
        form = filters.controls()
        for name, cell in zip(("topic", "level", "model"), st.columns(3), strict=True):
            form.draw(name, cell)
        names = [question.id for question in filters.question_pool()]
        due, fresh = file.due(learner, names), file.fresh(learner, names)
        st.markdown(f"**{len(due)}** due · **{len(fresh)}** new · {len(names)} in this selection")
        st.caption(
            "Answers are computed for the model that you choose. If your answer is close, you learn what you forgot."
        )
    with st.expander("Plan for my interview", icon=":material/event:"):
        plan_to_date(file, learner)
    with table:
        _table(file, learner, names, due, fresh)
    _written(file, learner)


def _written(file: Learners, learner: str) -> None:
    """Draw where the learner stands with the exercises to write, with the way to them."""
    known = progress.standing(file, learner).values()
    passed, due = sum(one.passed for one in known), sum(one.due for one in known)
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.markdown(f"{passed} of {len(known)} exercises written · {due} due", width="content")
        pages.link("write", "Write it", width="content")


def _table(file: Learners, learner: str, names: list[str], due: list[str], fresh: list[str]) -> None:
    """Draw the current card, or the reason why there is none."""
    last = state.remembered(SCOPE, "last", "")
    if last:
        st.caption(last)
    if not names:
        st.info("There are no questions on this topic at this level. Choose another level.")
        return
    name = _on_table(file, learner, due, fresh)
    if name is None:
        soonest = min(card.due for each, card in file.cards(learner).items() if each in names)
        when = f"{away(soonest - file.now())}, on {interview_date(soonest)}"
        st.success(
            f"Nothing is due in this selection. The next card is due in {when}.",
            icon=":material/event_available:",
        )
        return
    with st.container(border=True):
        badge = ":orange-badge[due]" if name in due else ":blue-badge[new]" if name in fresh else ""
        _card(file, learner, get_question(name), badge)


def _on_table(file: Learners, learner: str, due: list[str], fresh: list[str]) -> str | None:
    """Return the current card until it is rated or filtered out; then a planned, a due or a new one."""
    name = state.remembered(SCOPE, "card", "")
    if name in due or name in fresh or (name and name == state.remembered(SCOPE, "opened", "")):
        return str(name)
    skipped = state.remembered(SCOPE, "skipped", ())
    day = day_of(file, learner)
    planned = _planned(file, learner, day)[1][0].questions if day is not None else ()
    ahead = list(dict.fromkeys((*(each for each in planned if each in (*due, *fresh)), *due, *fresh)))
    following = [each for each in ahead if each not in skipped] or ahead
    _put(following[0] if following else "")
    return following[0] if following else None


def _put(name: str) -> None:
    for entry_name in ("typed", "revealed", "since"):
        state.scope(SCOPE).pop(entry_name, None)
    answering.forget(name)
    state.remember(SCOPE, "card", name)


def open_card(question: Question) -> None:
    """Open the page with this question's card, due or not."""
    state.begin_afresh(SCOPE, keep=("profile",))
    _put(question.id)
    state.remember(SCOPE, "opened", question.id)
    pages.go_to("practice")


def _card(file: Learners, learner: str, question: Question, badge: str) -> None:
    model = filters.model_for(question)
    since = state.remembered(SCOPE, "since", None) or file.now()
    state.remember(SCOPE, "since", since)
    answering.ask(question, model, badge)
    if filters.controls().value("model") and question.model and model is None:
        st.caption(
            "This question does not apply to the model that you chose. The question uses another model."
        )
    if not state.remembered(SCOPE, "revealed", False):
        _answer_form(question, model)
        worked_first(file, learner, question)
        return
    answer, known = answering.shown_solution(question, model)
    if not known:
        return
    verdict = _verdict(question, answer, model)
    answering.model_answer(question, answer, model)
    # Without a verdict the learner has to compare, and then to rate.
    if verdict is None:
        typed = bool(str(state.remembered(SCOPE, "typed", "")).strip())
        ticked = answering.interviewer(question, model, tick=typed)
        share = rating_of(ticked_points(question, ticked)) if ticked else None
        _rating(file, learner, question, share if typed else "again", since)
    else:
        _rating(file, learner, question, _FITTING[verdict.grade], since)
        answering.interviewer(question, model)


def _answer_form(question: Question, model: str | None) -> None:
    key = state.widget_key(SCOPE, "answer", question.id)
    show = "Show the model answer" if question.kind == "free" else "Check"
    said = answering.attempt(f"answer-{question.id}", lambda: answering.entry(question, model, key), show)
    if st.button("Skip this question", type="tertiary", icon=":material/skip_next:"):
        skipped = (*state.remembered(SCOPE, "skipped", ()), question.id)
        state.remember(SCOPE, "skipped", skipped)
        state.scope(SCOPE).pop("card", None)
        st.rerun()
    if said is not None:
        state.remember(SCOPE, "typed", said)
        state.remember(SCOPE, "revealed", True)
        st.rerun()


def _verdict(question: Question, answer: Answer | None, model: str | None) -> Verdict | None:
    typed = str(state.remembered(SCOPE, "typed", ""))
    if not typed.strip():
        return None
    if question.kind == "free":
        answering.shown_answer(typed)
        return None
    verdict = judge(question, answer, typed, model)
    if question.kind == "numeric":
        st.markdown(f"You said **{plain(typed)}**.")
    answering.judged(verdict)
    return verdict


def _rating(
    file: Learners, learner: str, question: Question, fitting: RatingName | None, since: datetime
) -> None:
    """Draw the four ratings. ``fitting``: the suggested one, or ``None``."""
    st.markdown("### How well did you know it?")
    coming = file.preview(learner, question.id)
    row = st.container(horizontal=True)
    for rating in storage.RATINGS:
        pressed = row.button(
            f"{rating.capitalize()} · {away(coming[rating] - file.now())}",
            key=f"rate-{rating}",
            type="primary" if rating == fitting else "secondary",
            width="stretch",
            help=f"Due again on {interview_date(coming[rating])}",
        )
        if pressed:
            taken = round((file.now() - since) / timedelta(milliseconds=1))
            card = file.rate(learner, question.id, rating, taken)
            title, due = filters.topic_title(question.topic), interview_date(card.due)
            state.remember(SCOPE, "last", f"{title} card rated {rating}: due again on {due}.")
            for entry_name in ("card", "opened"):
                state.scope(SCOPE).pop(entry_name, None)
            st.rerun()


def away(length: timedelta) -> str:
    """Return a duration as text: '6 min', '3 h', '12 days'."""
    return units.coarse(length.total_seconds())


def interview_date(moment: datetime) -> str:
    """Return date and time in this machine's time zone."""
    return moment.astimezone().strftime("%d %b %Y, %H:%M").lstrip("0")
