"""My interview is on …: what is left for today, the days ahead, and how ready each topic is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, timedelta

import streamlit as st

from peft_lab.classroom import mode
from peft_lab.errors import PeftLabError
from peft_lab.learners.preparing import (
    ASKED,
    ENOUGH,
    FOR_NEW,
    KEPT_DAY,
    KEPT_ROLE,
    LONGEST,
    MINUTES,
    Day,
    Readiness,
    day_kept,
)
from peft_lab.learners.schedule import Learners
from peft_lab.quiz.bank import get_question, select
from peft_lab.quiz.interview import SECONDS
from peft_lab.quiz.question import topics
from peft_lab.quiz.roles import ROLES, role
from peft_lab.ui import state
from peft_lab.ui.components import figures
from peft_lab.ui.foreign import plain
from peft_lab.ui.practice.filters import ANY
from peft_lab.ui.practice.learner import SCOPE
from peft_lab.units import Source, in_words

AHEAD = 7  # days that are shown


def day_of(file: Learners, learner: str) -> date | None:
    """The day of the learner's interview; ``None`` where none is set or it has passed."""
    return day_kept(file.kept(learner, KEPT_DAY), file.now().date())


def role_of(file: Learners, learner: str) -> str:
    """The role that the learner's interview is for."""
    kept = file.kept(learner, KEPT_ROLE, ANY)
    return kept if isinstance(kept, str) and kept in ROLES else ANY


def today_first(file: Learners, learner: str, names: Sequence[str]) -> list[str]:
    """Of these questions, those that the plan has for today, in its order; empty without a day."""
    day = day_of(file, learner)
    if day is None:
        return []
    _, days = _planned(file, learner, day)
    return [name for name in days[0].questions if name in names]


def plan_to_date(file: Learners, learner: str) -> None:
    """The control for the day, and what follows from it."""
    today = file.now().date()
    before = day_of(file, learner)
    chosen = st.date_input(
        "My interview is on",
        value=before,
        min_value=today,
        max_value=today + timedelta(days=LONGEST),
        key=state.widget_key(SCOPE, "day", learner),
        format="YYYY-MM-DD",
        help="A day that is typed counts when you leave the field (Tab twice, or a click elsewhere), not at Enter. "
        f"Kept with the learner on {mode.machine()}, and in their exported file.",
    )
    day = chosen if isinstance(chosen, date) else None
    if day != before:
        file.keep(learner, KEPT_DAY, day.isoformat() if day else None)
        st.rerun()
    if day is None:
        st.caption(
            f"With a day set, {in_words(round(MINUTES))} minutes a day are laid out up to it, and cards come in that "
            "order. A day that you type counts when you leave the field, not at Enter."
        )
        return
    _for_role(file, learner)
    try:
        standing, days = _planned(file, learner, day)
    except PeftLabError as error:
        st.error(plain(error))
        return
    left = (day - today).days
    st.markdown(f"**{'Today' if not left else 'Tomorrow' if left == 1 else f'In {left} days'}**")
    _days(days)
    _standing(standing)


def _for_role(file: Learners, learner: str) -> None:
    """The control for the role; what its interviews ask about has more of the new questions."""
    before = role_of(file, learner)
    chosen = st.selectbox(
        "For the role",
        list(ROLES),
        index=list(ROLES).index(before),
        format_func=lambda name: ROLES[name].title,
        key=state.widget_key(SCOPE, "plan-role", learner),
        help=f"Topics that its interviews ask about weigh {ASKED:g} times as much among new questions. Kept with the "
        "learner.",
    )
    if chosen != before:
        file.keep(learner, KEPT_ROLE, chosen)
        st.rerun()


def _planned(file: Learners, learner: str, day: date) -> tuple[tuple[Readiness, ...], tuple[Day, ...]]:
    names: Mapping[str, Sequence[str]] = {
        topic: [question.id for question in select((topic,))] for topic in topics()
    }
    seconds = {name: float(SECONDS[get_question(name).level]) for each in names.values() for name in each}
    return file.days_to(learner, day, names, seconds, role(role_of(file, learner)).topics)


def _days(days: Sequence[Day]) -> None:
    st.markdown(f"##### The days ahead {figures.badge(Source.COUNTED)}")
    rows = []
    for each in days[:AHEAD]:
        about = dict.fromkeys(topics()[get_question(name).topic] for name in each.questions)
        rows.append(
            (
                f"{each.on:%a %d %b}",
                str(each.again),
                str(len(each.questions) - each.again),
                ", ".join(about) or "rest",
            )
        )
    figures.table(("Day", "Again", "New", "Topics, weak ones first"), rows, numeric=(1, 2), fold=True)
    more = len(days) - AHEAD
    st.caption(
        (f"And {more} more days. " if more > 0 else "")
        + "Each is laid out as if what comes before is known; your ratings change it. While there are new questions, "
        f"{FOR_NEW:.0%} of the time is kept for them up to the last day: spread over all topics, more of the weak ones "
        "and of those that the role asks about. Nothing is put off past the interview."
    )


def _standing(standing: Sequence[Readiness]) -> None:
    st.markdown(f"##### How ready each topic is {figures.badge(Source.COUNTED)}")
    rows = [
        (
            topics()[each.topic],
            f"{each.rated} of {each.questions}",
            f"{each.low:.0%} to {each.high:.0%}"
            if each.low is not None and each.high is not None
            else "not enough answered yet",
            "" if each.recalled is None else f"{each.recalled:.0%}",
        )
        for each in sorted(standing, key=lambda each: (not each.enough, -each.weakness))
    ]
    figures.table(("Topic", "Answered", "Known", "Recalled on the day"), rows, numeric=(1, 2, 3), fold=True)
    st.caption(
        f"Known: Wilson's 95% interval of the share whose last rating was better than *again*, from {ENOUGH} answered "
        "questions on. Recalled on the day: the mean chance by FSRS if nothing is repeated until then. Both are about "
        "the questions that you answered and rated yourself, not about an interviewer."
    )
