"""Plan: the form, plans ranked while they are found, one of them in full, and how ranks share a step."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, replace
from functools import partial

import streamlit as st

from peft_lab.advise.plans import nearest, ranking
from peft_lab.advise.plans.asked import Asked, mend
from peft_lab.advise.plans.moments import AWAY, MOMENT_KINDS, Drawn, kind_of, moments
from peft_lab.advise.plans.nearest import COUNTS, Way, need, said_of, together
from peft_lab.advise.plans.ranking import Candidate, Planned
from peft_lab.advise.plans.wanted import Wanted
from peft_lab.core import units
from peft_lab.ui import pages, state
from peft_lab.ui.components import figures
from peft_lab.ui.components.frame import error_line
from peft_lab.ui.components.waiting import Look, collect, come_back, look, progress, shown
from peft_lab.ui.foreign import plain
from peft_lab.ui.plan import chosen, form, ranks
from peft_lab.ui.plan.chosen import method_title
from peft_lab.ui.plan.form import BUYING, SCOPE, Places, near, offers
from peft_lab.workers.pool import get_pool

# ----------------------------------------
# What to buy: the smallest card that does it, alone and split over several.


def what_to_buy(wanted: Wanted) -> None:
    """Draw the smallest card for each method and number of cards, all rows from the start."""
    st.markdown(f"### What to buy {figures.badge('simulated')}")
    refused = ranking.get_refusals(wanted)
    methods = [slug for slug in reversed(ranking.METHODS) if slug not in refused]
    asked = {
        (count, slug): get_pool().submit(0, need, asdict(wanted), slug, count)
        for count in COUNTS
        for slug in methods
    }
    answers = collect(asked)

    def cell(count: int, slug: str) -> str:
        if (count, slug) not in answers.found:
            return "not split" if (count, slug) in answers.refused else "…"  # the plans say why
        least = answers.found[count, slug]
        return f"{least.card or 'none here'} ({figures.unbroken(units.size(least.nbytes))})"

    rows = [(units.several(count, "card"), *(cell(count, slug) for slug in methods)) for count in COUNTS]
    with st.container(key="what-to-buy"):
        figures.table(("Cards", *map(method_title, methods)), rows, fold=True)
    progress(answers, "steps")
    st.caption(
        "The smallest card here that does it, and in brackets what a step takes of each: one row at once, "
        "checkpointed; several cards split it with FSDP2. Full fine-tuning with weights kept in bfloat16, which rounds "
        "small updates away; plans try float32 first."
    )


AT_ONCE = 2  # candidates that are asked for before another one is answered
_STOPPED, _KIND = "stopped", "kind"


def plan_page() -> None:
    pages.open_page()
    state.read_address(SCOPE, form.readers())
    st.title("Plan")
    st.markdown(
        "What fits on your GPUs, how long it takes, what it costs, and the files that do it. Every step is "
        "**simulated**, also one that is split over several cards; its seconds are estimated from the same trace."
    )
    form.questions()
    left, right = st.columns([4, 7], gap="large")
    with left, st.container(border=True, key="wanted"):
        st.markdown("### Your training")
        asked, controls = form.form()
    wanted = asked.wanted
    if asked.problems():
        with right:
            _instead(asked, controls)
    else:
        with right:
            if state.remembered(SCOPE, BUYING, False):
                what_to_buy(wanted)
            planned = _plans(wanted, _late)
        _ranks(wanted, planned)
    form.back(wanted)
    state.write_address(form.address(asked))


def _instead(asked: Asked, controls: Places) -> None:
    """Draw each error at its control with a button that mends it, and the plan with all of them mended."""
    found = mend(asked)
    for error, instead in found.each:
        way = () if instead is None else (Way(instead.said, instead.short, instead.changes),)
        controls.refuse(error.field, said_of(error, instead), way)
    if not found.several:
        return
    every = together(found.several)
    st.markdown(f"Planned here: **{plain(every.said)}**.")
    if state.remembered(SCOPE, BUYING, False):
        what_to_buy(found.asked.wanted)
    _plans(found.asked.wanted, partial(_until, controls) if "deadline" in every.changes else _late)


def _until(controls: Places, wanted: Wanted, ranked: list[Planned]) -> None:
    """Offer the deadline that the quickest plan meets, at one that has passed."""
    best = nearest.quickest(ranked)
    if best is not None:
        way = nearest.until_deadline(best)
        controls.offer("deadline", f"The nearest that works: {way.text}.", (way,))


def _late(wanted: Wanted, ranked: list[Planned]) -> None:
    """Say in one sentence that no plan is sure to meet the deadline, and what would."""
    problem, best = nearest.too_late(wanted, ranked), nearest.quickest(ranked)
    if not problem or best is None:
        return
    seen = look(get_pool().submit(0, chosen.meeting, asdict(_in_hours(wanted)), best))
    come_back(seen)
    if seen.answer is None:
        near(f"{problem} {seen.why('Looking for what would…')}")
        return
    found = nearest.Nearest(problem, seen.answer)
    near(str(found))
    offers(found.ways)


def _in_hours(wanted: Wanted) -> Wanted:
    """Return a moment as hours left, in tenths, rounded down: cached answers to a moment would age."""
    with suppress(ValueError):
        float(wanted.deadline)
        return wanted
    left = math.floor((wanted.hours() or 0) * 10) / 10
    return replace(wanted, deadline=f"{max(left, 0.01):g}")  # the last minutes are no time that has passed


def _plans(wanted: Wanted, beneath: Callable[[Wanted, list[Planned]], None]) -> Planned | None:
    """Draw plans as they are found, then ``beneath``; return the one shown in full, None while more may come."""
    asked = ranking.candidates(wanted)
    refused = ranking.get_refusals(wanted)
    if not asked:
        error_line("; ".join(refused.values()))
        return None
    stopped = state.remembered(SCOPE, _STOPPED, None) == asdict(wanted)
    found, open_ = _answers(wanted, asked, stopped)
    _progress(wanted, len(found), len(asked), stopped)
    ranked = ranking.rank(wanted, found)
    settled = None
    if ranked:
        chosen.plans_table(wanted, ranked, untried=len(asked) - len(found))
        if len(found) == len(asked):
            beneath(wanted, ranked)
        one = chosen.pick_plan(ranked)
        chosen.in_full(wanted, one)
        settled = one if stopped or len(found) == len(asked) else None
    elif len(found) == len(asked):
        _nowhere(wanted)
    chosen.refused_plans(found)
    come_back(*open_)
    return settled


def _answers(
    wanted: Wanted, asked: tuple[Candidate, ...], stopped: bool
) -> tuple[list[Planned], list[Look[Planned]]]:
    """Return what is found so far, and what is being looked for; nothing new is asked once it was stopped."""
    key = str(asdict(wanted))
    begun: dict[str, int] = st.session_state.setdefault("plan-begun", {})
    found: list[Planned] = []
    open_: list[Look[Planned]] = []
    for number, candidate in enumerate(asked):
        if number >= begun.get(key, 0) and (stopped or len(open_) >= AT_ONCE):
            break
        begun[key] = max(begun.get(key, 0), number + 1)
        seen = look(get_pool().submit(0, ranking.evaluate, asdict(wanted), asdict(candidate)))
        if seen.answer is not None:
            found.append(seen.answer)
        elif seen.error is not None:
            error_line(seen.error)
        else:
            open_.append(seen)
    return found, open_


def _progress(wanted: Wanted, done: int, all_: int, stopped: bool) -> None:
    if done == all_:
        return
    text = f"Stopped: {done} of {all_} ways tried" if stopped else f"Simulating: {done} of {all_} ways tried"
    with st.container(horizontal=True, vertical_alignment="center"):
        st.progress(done / all_, text=text)
        st.button(
            "Continue" if stopped else "Stop",
            key="plan-stop",
            on_click=state.remember,
            args=(SCOPE, _STOPPED, None if stopped else asdict(wanted)),
        )


def _nowhere(wanted: Wanted) -> None:
    """Draw one sentence, and the nearest that works."""
    doing = "Nothing fits. Looking for the nearest plan that works…"
    shown(get_pool().submit(0, chosen.nearest, asdict(wanted)), _nearest, doing)


def _nearest(found: nearest.Nearest) -> None:
    st.markdown(f":red[:material/error: {plain(found)}] {figures.badge('simulated')}")
    offers(found.ways)


def _ranks(wanted: Wanted, planned: Planned | None) -> None:
    """Draw what each rank holds, first of the plan in full, and explain it."""
    st.markdown(f"### Who holds what when {figures.badge('simulated')}")
    cells = st.columns([2, 2, 5], vertical_alignment="bottom")
    kinds, first = list(MOMENT_KINDS), kind_of(planned)
    kind = cells[0].selectbox(
        "Shared by",
        kinds,
        kinds.index(first),
        key=state.widget_key(SCOPE, _KIND, first),
        format_func=MOMENT_KINDS.__getitem__,
    )
    methods = [slug for slug in ranking.methods(wanted) if slug not in ranking.get_refusals(wanted)]
    start = (
        planned.candidate.method
        if planned
        else next((slug for slug in methods if slug != "full"), methods[0])
    )
    again = kind == AWAY or (planned is not None and planned.candidate.checkpointing)
    method = cells[1].selectbox(
        "Method",
        methods,
        methods.index(start),
        key=state.widget_key(SCOPE, "drawn", start),
        format_func=chosen.method_title,
    )
    pairs = [(method, kind), (method, "ddp")]
    asked = [get_pool().submit(1, moments, asdict(wanted), which, how, again) for which, how in pairs]
    alone = look(asked[1])

    def draw(drawn: Drawn) -> None:
        ranks.draw(drawn, f"ranks-{kind}-{method}")
        if alone.error is not None:
            error_line(alone.error)
        else:
            chosen.why_refused(drawn, alone.answer)

    shown(asked[0], draw, "Simulating the step of one rank…")
    come_back(alone)
