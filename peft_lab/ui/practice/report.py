"""How an interview went: points, weak spots with pages to read, and every question with its model answer."""

from __future__ import annotations

import streamlit as st

from peft_lab import units
from peft_lab.quiz.bank import get_question
from peft_lab.quiz.interview import Interview
from peft_lab.quiz.report import Tally, report
from peft_lab.quiz.transcript import NO_STRENGTH, between, in_words, look_next, strengths, transcript
from peft_lab.ui import pages
from peft_lab.ui.components import figures
from peft_lab.ui.practice.answering import interviewer, model_answer, shown_solution
from peft_lab.ui.practice.filters import topic_title
from peft_lab.ui.practice.learner import anki_deck
from peft_lab.units import Source

_REVIEWS = "all points as *good*, half or more as *hard*, fewer as *again*"
_FULL = 0.999  # of a point: ticked shares are fractions


def show_report(held: Interview) -> None:
    summed = report(held)
    total = summed.total
    st.markdown("## How it went")
    left, middle, right = st.columns(3)
    left.metric("Points", f"{total.points:.3g} of {total.questions}", border=True)
    middle.metric(f"Time, of {units.coarse(held.plan.seconds)}", units.seconds(summed.seconds), border=True)
    answered = sum(bool(reply.text) for reply in held.replies)
    right.metric("Answered", f"{answered} of {total.questions}", border=True)
    st.caption(
        f"Of the points {between(total)}, by Wilson's formula {figures.badge(Source.COUNTED)}. "
        f"What you answered or passed counts as a review of its flash card: {_REVIEWS}."
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
        for spot in summed.weak:
            with st.container(horizontal=True, vertical_alignment="center", gap="small"):
                st.markdown(f"**{spot.title}**, {_cells(spot.tally)[0]}", width="content")
                page_links(spot.pages)
        if summed.forgotten:
            st.markdown("**What near misses forgot**")
            st.markdown("\n".join(f"- {what}" for what in summed.forgotten))
    _ahead(held)
    st.markdown("### Question by question")
    _questions(held)


def _ahead(held: Interview) -> None:
    """Strengths, the five things to look at next, and both to take along."""
    good = strengths(held)
    summed = report(held)
    said = "; ".join(in_words(topic, summed) for topic in good) or NO_STRENGTH
    st.markdown(f"**Strong:** {said} {figures.badge(Source.COUNTED)}")
    coming = look_next(held)
    if coming:
        st.markdown("### Look at next")
        for number, each in enumerate(coming, start=1):
            missed = "\n".join(f"   - {why}" for why in each.why)
            st.markdown(f"{number}. {topic_title(each.topic)}\n{missed}")
    row = st.container(horizontal=True)
    row.download_button(
        "Transcript (HTML, to print or keep)",
        lambda: transcript(held),
        f"mock-interview-{held.started:%Y-%m-%d}.html",
        "text/html",
        icon=":material/download:",
        on_click="ignore",
    )
    if coming:
        row.download_button(
            "These as an Anki deck",
            lambda: anki_deck([get_question(each.question) for each in coming], held.plan.model),
            "peft-lab-next.apkg",
            "application/octet-stream",
            icon=":material/download:",
            on_click="ignore",
        )


def _cells(tally: Tally) -> tuple[str, str]:
    return f"{tally.points:.2g} of {tally.questions}", f"{tally.share:.0%}"


def page_links(wanted: tuple[str, ...]) -> None:
    """Links to those of these pages that the app has."""
    titles = pages.titles()
    for name in wanted:
        if name in titles:
            st.page_link(
                pages.page(name, titles[name]),
                label=f"Open {titles[name]}",
                icon=":material/arrow_forward:",
                width="content",
            )


def _questions(held: Interview) -> None:
    given = {reply.question: reply for reply in held.replies}
    for number, name in enumerate(held.plan.questions, start=1):
        question, model = get_question(name), held.plan.model_for(name)
        reply = given.get(name)
        points = reply.points if reply else 0.0
        icon = "check_circle" if points > _FULL else "cancel" if points == 0 else "adjust"
        title = f"{number}. {topic_title(question.topic)} · {points:.2g} of 1 point"
        with st.expander(title, icon=f":material/{icon}:"):
            st.markdown(question.ask(model))
            typed = reply.text if reply else ""
            if question.kind == "choice" and typed:
                typed = question.choices(model)[int(typed) - 1]
            st.markdown("**You said**")
            st.text(typed or "Nothing")
            answer, known = shown_solution(question, model)
            if known:
                model_answer(question, answer, model)
                interviewer(question, model)
