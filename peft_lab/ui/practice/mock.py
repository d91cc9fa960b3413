"""The mock interview: questions against the clock. It is stored with the learner, to survive a reload."""

from __future__ import annotations

import streamlit as st

from peft_lab.core import units
from peft_lab.core.content import misfit
from peft_lab.core.units import Source
from peft_lab.interview import mock
from peft_lab.interview.answers import judge
from peft_lab.interview.learners.schedule import LATELY, Learners, count_as_reviews, to_avoid
from peft_lab.interview.mock import Interview, exercise_of, is_exercise, question_of
from peft_lab.interview.question import Question
from peft_lab.interview.write import judge as writing
from peft_lab.interview.write import progress
from peft_lab.interview.write.exercises import Exercise
from peft_lab.ui import pages, state
from peft_lab.ui.components import figures
from peft_lab.ui.components.frame import part
from peft_lab.ui.foreign import plain
from peft_lab.ui.practice import answering
from peft_lab.ui.practice import learner as filters
from peft_lab.ui.practice.cards import interview_date
from peft_lab.ui.practice.learner import SCOPE, topic_title
from peft_lab.ui.write.editor import Desk, editor
from peft_lab.ui.write.page import solution
from peft_lab.ui.write.results import last_run, results

# ----------------------------------------
# How an interview went: points, weak spots with pages to read, and every question with its model answer.


_REVIEWS = "all points as *good*, half or more as *hard*, fewer as *again*"


def show_report(held: Interview) -> None:
    summed = mock.report(held)
    total = summed.total
    low, high = total.interval
    st.markdown("## Your result")
    left, middle, right = st.columns(3)
    left.metric("Points", f"{total.points:.3g} of {total.questions}", border=True)
    middle.metric(f"Time, of {units.coarse(held.plan.seconds)}", units.seconds(summed.seconds), border=True)
    answered = sum(bool(reply.text) for reply in held.replies)
    right.metric("Answered", f"{answered} of {total.questions}", border=True)
    st.caption(
        f"With {total.questions} questions, your true level is probably between {low:.0%} and {high:.0%} (Wilson's "
        f"95% interval) {figures.badge(Source.COUNTED)}. Each question that you answered or skipped (“Pass”) "
        f"counts as a review of its flash card: {_REVIEWS}."
    )
    tallies, weak = st.columns([1, 1], gap="large")
    with tallies:
        st.markdown("### By level and topic")
        rows = [(name.capitalize(), *_cells(tally)) for name, tally in summed.levels.items()]
        rows += [(topic_title(name), *_cells(tally)) for name, tally in summed.topics.items()]
        figures.table(("", "Points", "Share"), rows, numeric=(1, 2))
    with weak:
        st.markdown("### Read next")
        if not summed.weak:
            st.markdown(
                "You scored at least 70% on every topic. Try another seed, or practise a single topic."
            )
        for topic in summed.weak:
            with st.container(horizontal=True, vertical_alignment="center", gap="small"):
                st.markdown(f"**{topic_title(topic)}**, {_cells(summed.topics[topic])[0]}", width="content")
                page_links(mock.pages_on(topic))
        if summed.forgotten:
            st.markdown("**What you forgot in near misses**")
            st.markdown("\n".join(f"- {what}" for what in summed.forgotten))
    _ahead(held)
    st.markdown("### Question by question")
    _questions(held)


def _ahead(held: Interview) -> None:
    """Draw the five things to study next, and downloads."""
    coming = mock.look_next(held)
    if coming:
        st.markdown("### Practise next")
        for number, (name, why) in enumerate(coming.items(), start=1):
            missed = "\n".join(f"   - {each}" for each in why)
            st.markdown(f"{number}. {topic_title(question_of(name).topic)}\n{missed}")
    st.download_button(
        "Download the transcript (HTML)", lambda: mock.transcript(held), f"mock-interview-{held.started:%Y-%m-%d}.html",
        "text/html", icon=":material/download:", on_click="ignore",
    )  # fmt: skip


def _cells(tally: mock.Tally) -> tuple[str, str]:
    return f"{tally.points:.2g} of {tally.questions}", f"{tally.share:.0%}"


def page_links(wanted: tuple[str, ...]) -> None:
    """Draw links to those of these pages that the app has."""
    titles = pages.titles()
    for name in wanted:
        if name in titles:
            pages.link(name, f"Open {titles[name]}", width="content")


def _questions(held: Interview) -> None:
    for number, (name, reply) in enumerate(held.answered.items(), start=1):
        question, model = question_of(name), held.plan.model_for(name)
        icon = "check_circle" if reply.points > mock.FULL else "cancel" if reply.points == 0 else "adjust"
        title = f"{number}. {topic_title(question.topic)} · {reply.points:.2g} of 1 point"
        with st.expander(title, icon=f":material/{icon}:"):
            st.markdown(question.ask(model))
            st.markdown("**Your answer**")
            st.text(held.said(name) or "Nothing")
            if is_exercise(name):
                solution(exercise_of(name))
                continue
            answer, known = answering.shown_solution(question, model)
            if known:
                answering.model_answer(question, answer, model)
                answering.interviewer(question, model)


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
        if st.button("Start a new interview", type="primary", icon=":material/restart_alt:"):
            state.remember(SCOPE, "report", False)
            st.rerun()
        return
    _before(file, learner)


def _before(file: Learners, learner: str) -> None:
    mix = ", ".join(f"{count} {level}" for level, count in mock.MIX.items()) + " out of ten"
    st.markdown("## A timed interview")
    st.markdown(
        f"{mix}, from easy to hard, over as many topics as possible. You see your result at the end. Numbers and "
        "choices are graded automatically; after a free answer you tick the points that you made. Questions from "
        f"your earlier interviews, and those rated good or easy in the last {LATELY.days} days, come last. Each "
        "question also counts as a review of its flash card."
    )
    form = filters.controls()
    for name, cell in zip(("role", "length"), st.columns(2), strict=True):
        form.draw(name, cell)
    cells = st.columns([3, 3, 2], vertical_alignment="bottom")
    form.draw("topic", cells[0])
    form.draw("model", cells[1])
    form.draw("seed", cells[2], min_value=0)
    writes = not writing.refusal()
    if writes:
        form.draw("write")
    chosen = form.form()
    done = [Interview.from_dict(each.content["interview"]) for each in file.results(learner, KEPT, HOLDS)]
    fixed = state.is_fixed("seed")  # a class has the same questions
    plan = mock.make_plan(
        chosen.seed,
        mock.LENGTHS[chosen.length],
        (chosen.topic,) if chosen.topic else mock.get_role(chosen.role).topics,
        chosen.model or None,
        frozenset() if fixed else to_avoid(done, file.reviews(learner), file.now()),
        writes and chosen.write,
    )
    if st.button(
        f"Start · {units.coarse(plan.seconds)}", type="primary", icon=":material/timer:", key="start"
    ):
        _keep(file, learner, mock.begin(plan, file.now()))
        st.rerun()
    _past(file, learner)


def _past(file: Learners, learner: str) -> None:
    done = file.results(learner, KEPT, HOLDS)
    if not done:
        return
    st.markdown("### Interviews so far")
    rows = []
    for result in reversed(done):
        held = Interview.from_dict(result.content["interview"])
        summed = mock.report(held)
        weak = ", ".join(map(topic_title, summed.weak[:3])) or "none"
        points = f"{summed.total.points:.3g} of {summed.total.questions}"
        rows.append((interview_date(result.at), points, units.seconds(summed.seconds), weak))
    figures.table(("Ended", "Points", "Time", "Weakest topics"), rows, numeric=(1, 2))
    if st.button("Open the latest report", icon=":material/summarize:"):
        state.remember(SCOPE, "report", True)
        st.rerun()


def _under_way(file: Learners, learner: str, held: Interview, spoken: str | None) -> None:
    if held.over(file.now()):
        _end(file, learner, held)
        st.rerun()
    name = held.current
    assert name is not None  # over otherwise
    _clock(file, held)
    question, model = question_of(name), held.plan.model_for(name)
    number = len(held.replies) + 1
    with st.container(border=True):
        answering.ask(question, model, f":gray-badge[{number} of {len(held.plan.questions)}]")
        if is_exercise(name):
            _writing(file, learner, held, exercise_of(name))
        elif spoken is None:
            _answering(file, learner, held, question, model)
        else:
            _ticking(file, learner, held, question, spoken)
    if st.button("End the interview", type="tertiary", icon=":material/stop_circle:"):
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
    key = f"interview.{held.started:%H%M%S}.{question.id}"
    text = answering.attempt(
        f"interview-{question.id}", lambda: answering.entry(question, model, key), "Answer", "Pass"
    )
    if text is None:
        return
    if not text:
        _next(file, learner, held.answer("", 0.0, file.now()))
    if question.kind == "free":
        _keep(file, learner, held, text)
        st.rerun()
    answer, known = answering.shown_solution(question, model)
    if not known:
        return
    verdict = judge(question, answer, text, model)
    if verdict.grade == "unreadable":
        st.markdown(f":red[:material/edit: {plain(verdict.message)}]")
        return
    _next(file, learner, held.judged(text, verdict, file.now()))


def _writing(file: Learners, learner: str, held: Interview, exercise: Exercise) -> None:
    """Draw the editor and the results; the points are the share of tests that the program handed in passes."""
    desk = Desk(file, learner, slot(held))
    st.markdown(f"### {exercise.title}")
    left, right = st.columns([3, 2], gap="small")
    with right:
        results(exercise, last_run(desk.slot, exercise))
    with left:
        editor(desk, exercise)
    row = st.container(horizontal=True)
    if row.button("Hand in"):
        program = desk.text(exercise)
        with st.spinner("Running the tests…"):
            verdict = writing.check(exercise.id, program)
        points = sum(test.ok for test in verdict.tests) / len(verdict.tests)
        seconds = (file.now() - (held.asked or held.started)).total_seconds()
        progress.record(file, learner, verdict, 1, 0, seconds)
        desk.clear(exercise)
        _next(file, learner, held.answer(program, points, file.now()))
    if row.button("Pass", key="pass-exercise"):
        _next(file, learner, held.answer("", 0.0, file.now()))


def slot(held: Interview) -> str:
    """Return where an interview's programs are kept, apart from the page's."""
    return f"interview {held.started:%Y%m%d%H%M%S}"


def _ticking(file: Learners, learner: str, held: Interview, question: Question, spoken: str) -> None:
    """Draw the points of a free answer for the learner to tick; it cannot be graded otherwise."""
    answering.shown_answer(spoken)
    with st.form(f"ticks-{question.id}", border=False):
        st.markdown("**Which of these points did you make?**")
        ticked = answering.checklist(question, f"tick.{held.started:%H%M%S}")
        if not st.form_submit_button("Next question", type="primary"):
            return
    said = [question.listen_for[index] for index in ticked]
    _next(file, learner, held.answer(spoken, mock.ticked_points(question, ticked), file.now(), ticked=said))


def _next(file: Learners, learner: str, held: Interview) -> None:
    if held.current is None:
        _end(file, learner, held)
    else:
        _keep(file, learner, held)
    st.rerun()


def _keep(file: Learners, learner: str, held: Interview, spoken: str | None = None) -> None:
    file.keep(learner, KEPT, {"interview": held.to_dict(), "said": spoken})


def _end(file: Learners, learner: str, held: Interview) -> None:
    """Store the result and show the report; the next interview gets other questions."""
    file.add_result(learner, KEPT, {"interview": held.to_dict()})
    count_as_reviews(file, learner, held)
    file.keep(learner, KEPT, None)
    state.remember(SCOPE, "report", True)
    state.remember(SCOPE, "seed", held.plan.seed + 1)
    state.renew(SCOPE)
