"""The mock interview: questions against the clock. It is kept with the learner, so a reload does not end it."""

from __future__ import annotations

from typing import Any

import streamlit as st

from peft_lab import units
from peft_lab.kinds import misfit
from peft_lab.learners.interviews import LATELY, count_as_reviews, to_avoid
from peft_lab.learners.schedule import Learners
from peft_lab.quiz import roles
from peft_lab.quiz.answers import judge
from peft_lab.quiz.bank import get_question
from peft_lab.quiz.interview import MIX, Interview, begin, make_plan, ticked_points
from peft_lab.quiz.question import Question
from peft_lab.quiz.report import report
from peft_lab.ui import state
from peft_lab.ui.components import figures
from peft_lab.ui.components.parts import part
from peft_lab.ui.foreign import plain
from peft_lab.ui.practice import filters
from peft_lab.ui.practice.answering import ask, entry, shown_solution
from peft_lab.ui.practice.cards import date
from peft_lab.ui.practice.learner import SCOPE
from peft_lab.ui.practice.reading import checklist, shown_answer
from peft_lab.ui.practice.report import show_report

KEPT = "interview"
HOLDS = {"interview": dict}
TICK = 1.0  # seconds between looks at the clock


def interview(file: Learners, learner: str) -> None:
    kept = file.kept(learner, KEPT)
    if isinstance(kept, dict) and not misfit(HOLDS, kept):
        _under_way(file, learner, Interview.from_dict(kept["interview"]), kept.get("said"))
        return
    done = file.results(learner, KEPT, HOLDS)
    if state.remembered(SCOPE, "report", False) and done:
        show_report(Interview.from_dict(done[-1].content["interview"]))
        if st.button("New interview", type="primary", icon=":material/restart_alt:"):
            state.remember(SCOPE, "report", False)
            st.rerun()
        return
    _before(file, learner)


def _before(file: Learners, learner: str) -> None:
    mix = ", ".join(f"{count} {level}" for level, count in MIX.items()) + " out of ten"
    st.markdown("## Questions against the clock")
    st.markdown(
        f"{mix}; easy ones first, topics as varied as possible. Numbers and choices are marked at once; you see the "
        "result at the end. After a free answer you tick which of the interviewer's points you made. Questions that "
        f"you had in an interview before, or rated good or easy in the last {LATELY.days} days, come only where there "
        "are no others. What you answer or pass counts as a review of its flash card."
    )
    first = st.columns(2)
    role = filters.role_filter(first[0])
    length = filters.length_filter(first[1])
    cells = st.columns([3, 3, 2], vertical_alignment="bottom")
    topic = filters.topic_filter(cells[0])
    model = filters.model_filter(cells[1])
    seed = cells[2].number_input(
        "Seed",
        min_value=0,
        step=1,
        value=int(state.remembered(SCOPE, "seed", filters.SEED)),
        key=state.widget_key(SCOPE, "seed"),
        disabled=state.is_fixed("seed"),
        help="The same seed gives the same questions to whoever has had none of them: send the address to a class, or "
        "change the seed for other questions.",
    )
    problem = state.address_problem(SCOPE, "seed")
    if problem:
        cells[2].markdown(f":red[:material/link_off: {plain(problem)} The default is used.]")
    state.remember(SCOPE, "seed", int(seed))
    fixed = state.is_fixed("seed")  # a class has the same questions
    plan = make_plan(
        int(seed),
        roles.size(length),
        (topic,) if topic else roles.role(role).topics,
        model or None,
        frozenset() if fixed else _had(file, learner),
    )
    if st.button(
        f"Start · {units.coarse(plan.seconds)}", type="primary", icon=":material/timer:", key="start"
    ):
        _keep(file, learner, begin(plan, file.now()))
        st.rerun()
    _past(file, learner)


def _had(file: Learners, learner: str) -> frozenset[str]:
    earlier = [Interview.from_dict(each.content["interview"]) for each in file.results(learner, KEPT, HOLDS)]
    return to_avoid(earlier, file.reviews(learner), file.now())


def _past(file: Learners, learner: str) -> None:
    done = file.results(learner, KEPT, HOLDS)
    if not done:
        return
    st.markdown("### Interviews so far")
    rows = []
    for result in reversed(done):
        held = Interview.from_dict(result.content["interview"])
        summed = report(held)
        weak = ", ".join(spot.title for spot in summed.weak[:3]) or "none"
        rows.append(
            (
                date(result.at),
                f"{summed.total.points:.3g} of {summed.total.questions}",
                units.seconds(summed.seconds),
                weak,
            )
        )
    figures.table(("Ended", "Points", "Time", "Weakest topics"), rows, numeric=(1, 2))
    if st.button("Open the last report", icon=":material/summarize:"):
        state.remember(SCOPE, "report", True)
        st.rerun()


def _under_way(file: Learners, learner: str, held: Interview, spoken: str | None) -> None:
    if held.over(file.now()):
        _end(file, learner, held)
        st.rerun()
    name = held.current
    assert name is not None  # over otherwise
    _clock(file, held)
    question, model = get_question(name), held.plan.model_for(name)
    number = len(held.replies) + 1
    with st.container(border=True):
        ask(question, model, f":gray-badge[{number} of {len(held.plan.questions)}]")
        if spoken is None:
            _answering(file, learner, held, question, model)
        else:
            _ticking(file, learner, held, question, spoken)
    if st.button("End the interview now", type="tertiary", icon=":material/stop_circle:"):
        _end(file, learner, held)
        st.rerun()


def _clock(file: Learners, held: Interview) -> None:
    done = len(held.replies) / len(held.plan.questions)

    def clock() -> None:
        left = held.left(file.now())
        st.progress(done, text=f"**{int(left // 60)}:{int(left % 60):02d}** left")
        if left == 0:
            st.rerun()

    part(clock, every=TICK)


def _answering(file: Learners, learner: str, held: Interview, question: Question, model: str | None) -> None:
    with st.form(f"interview-{question.id}", border=False):
        text = entry(question, model, f"interview.{held.started:%H%M%S}.{question.id}")
        first, second, _ = st.columns([2, 2, 3])
        answered = first.form_submit_button("Answer", type="primary", width="stretch")
        passed = second.form_submit_button("Pass", width="stretch")
    if passed:
        _next(file, learner, held.answer("", 0.0, file.now()))
    if not answered:
        return
    if not text.strip():
        st.markdown(":red[:material/edit: Type an answer first, or pass.]")
        return
    if question.kind == "free":
        _keep(file, learner, held, text)
        st.rerun()
    answer, known = shown_solution(question, model)
    if not known:
        return
    verdict = judge(question, answer, text, model)
    if verdict.grade == "unreadable":
        st.markdown(f":red[:material/edit: {plain(verdict.message)}]")
        return
    _next(file, learner, held.judged(text, verdict, file.now()))


def _ticking(file: Learners, learner: str, held: Interview, question: Question, spoken: str) -> None:
    """After a free answer: which of the points it had. Nobody but the learner can tell."""
    shown_answer(question, spoken, held.plan.model_for(question.id))
    with st.form(f"ticks-{question.id}", border=False):
        st.markdown("**Which of these did you say?**")
        ticked = checklist(question, f"tick.{held.started:%H%M%S}")
        if not st.form_submit_button("Next question", type="primary"):
            return
    said = [question.listen_for[index] for index in ticked]
    _next(file, learner, held.answer(spoken, ticked_points(question, ticked), file.now(), ticked=said))


def _next(file: Learners, learner: str, held: Interview) -> None:
    if held.current is None:
        _end(file, learner, held)
    else:
        _keep(file, learner, held)
    st.rerun()


def _keep(file: Learners, learner: str, held: Interview, spoken: str | None = None) -> None:
    file.keep(learner, KEPT, {"interview": held.to_dict(), "said": spoken})


def _end(file: Learners, learner: str, held: Interview) -> None:
    """Into the results, and the report is up. The next one has other questions."""
    content: dict[str, Any] = {"interview": held.to_dict(), "report": report(held).to_dict()}
    file.add_result(learner, KEPT, content)
    count_as_reviews(file, learner, held)
    file.keep(learner, KEPT, None)
    state.remember(SCOPE, "report", True)
    state.remember(SCOPE, "seed", held.plan.seed + 1)
    state.renew(SCOPE)
