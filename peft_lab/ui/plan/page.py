"""Plan: the form, plans ranked as they are found, one of them in full, and the sharing of a step."""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import streamlit as st
import yaml

from peft_lab.advise import flips
from peft_lab.advise.plans import nearest, ranking
from peft_lab.advise.plans.nearest import COUNTS, PlanRequest, Way, mend, need, said_of, together
from peft_lab.advise.plans.ranking import (
    AWAY,
    MOMENT_KINDS,
    PARTS,
    PHASES,
    Candidate,
    Drawn,
    Moment,
    Planned,
    kind_of,
    moments,
)
from peft_lab.advise.plans.wanted import Wanted
from peft_lab.advise.situation import Situation
from peft_lab.core import inspector, palette, units
from peft_lab.core.field import as_text
from peft_lab.core.inspector import get_pool
from peft_lab.drawing.svg import element
from peft_lab.models.catalogue import readers_of_text
from peft_lab.ui import pages, state, web
from peft_lab.ui.choose import outcome
from peft_lab.ui.components import figures, plan_steps
from peft_lab.ui.components.form import Controls
from peft_lab.ui.components.frame import error_line
from peft_lab.ui.components.waiting import Look, collect, come_back, look, progress, shown
from peft_lab.ui.foreign import plain
from peft_lab.ui.plan import form, verdict
from peft_lab.ui.plan.form import BUYING, SCOPE, Places, near, offers
from peft_lab.ui.plan.verdict import method_title

# ----------------------------------------
# A step as its ranks share it: bars of what each holds, phase after phase, on one scale with what waits in main memory.


#: Heights in the drawing: of all bars together, of the least place for one, and between the ranks' bars and the lane.
LANE_ROOM, LEAST_LANE, APART = 150.0, 6.0, 24.0


@dataclass(frozen=True)
class Scale:
    """Positions in the drawing: the height of a byte, the baseline of the ranks' bars, the height of the lane."""

    each: float
    ground: float
    tall: float = 0.0

    @property
    def floor(self) -> float:
        """Return the baseline of the lane's bars."""
        return self.ground + APART + self.tall


def lane_told(moment: Moment) -> list[str]:
    """Return sentences on what waits in main memory and what is copied, with sizes."""
    copied = [
        f"{units.size(nbytes)} {where}"
        for nbytes, where in ((moment.brought, "copied in"), (moment.taken, "copied out"))
        if nbytes
    ]
    waiting = f"{units.size(moment.waiting)} for each" if moment.waiting else "nothing"
    return [f"{waiting} in main memory", *copied]


MOST = 4  # ranks that are drawn
HEIGHT, WIDTH, GAP = 150, 26, 8
ROUNDS, SECONDS = 3, 8
_COLOURS = {
    "weights": palette.MEMORY["weights"],
    "adapter": palette.MEMORY["adapter"],
    "optimizer": palette.MEMORY["optimizer"],
    "gradients": palette.MEMORY["gradients"],
    "activations": palette.MEMORY["activations"],
    "gathered": palette.MEMORY["quantisation"],
    "rest": palette.MEMORY["other"],
}
_DOES: dict[str, dict[str, str]] = yaml.safe_load(Path(__file__).with_name("phases.yaml").read_text("utf-8"))

CSS = web.read("ranks.css", SECONDS=SECONDS, ROUNDS=ROUNDS, SECONDS_QUARTER=SECONDS / 4)

JS = """
export default function ({ data, parentElement }) {
  const host = parentElement.querySelector(".host");
  if (host.drawn !== data.drawing) { host.innerHTML = data.drawing; host.drawn = data.drawing; }
}
"""

_mount = st.components.v2.component("peft_ranks", html='<div class="host"></div>', css=CSS, js=JS)


def does(phase: str, kind: str) -> str:
    """Return a sentence on what the ranks do in a phase."""
    return _DOES[phase].get(kind, _DOES[phase]["fsdp2"])


def drawing(drawn: Drawn) -> str:
    """Return the phases as HTML, with one SVG each."""
    scale = _scale(drawn)
    phases = "".join(_phase(drawn, moment, turn, scale) for turn, moment in enumerate(drawn.moments))
    there = [
        part for part in PARTS if any(moment.parts[part] or moment.host.get(part) for moment in drawn.moments)
    ]
    key = "".join(f'<span><i style="background:{_COLOURS[part]}"></i>{PARTS[part]}</span>' for part in there)
    return f'<div class="step">{phases}</div><div class="key">{key}</div>'


def _scale(drawn: Drawn) -> Scale:
    """Return one scale for all phases, from a rank's tallest bar and the tallest waiting below it."""
    tallest = max(moment.total for moment in drawn.moments)
    waiting = max(moment.waiting for moment in drawn.moments)
    if not waiting:
        return Scale((HEIGHT - 4) / tallest, HEIGHT)
    each = LANE_ROOM / (tallest + waiting)
    return Scale(each, max(tallest * each, LEAST_LANE) + 4, max(waiting * each, LEAST_LANE) + 4)


def _phase(drawn: Drawn, moment: Moment, turn: int, scale: Scale) -> str:
    shown = min(drawn.devices, MOST)
    width = shown * (WIDTH + GAP) + GAP
    whole = MOST * (WIDTH + GAP) + GAP  # few ranks are drawn as large as many, and their names with them
    places = [GAP + rank * (WIDTH + GAP) for rank in range(shown)]
    ground = scale.ground
    bars = "".join(_bar(moment.parts, x, ground, scale.each) for x in places)
    names = "".join(
        element("text", str(rank or "GPU 0"), x=x + WIDTH / 2, y=f"{ground + 13:g}")
        for rank, x in enumerate(places)
    )
    title, total = html.escape(PHASES[moment.phase]), units.size(moment.total)
    said = (
        f"{MOMENT_KINDS[drawn.kind]}, {PHASES[moment.phase].lower()}: {total} on each of {drawn.devices} GPUs"
    )
    below, more, height = "", "", ground + 18
    if drawn.waits:
        floor, tall = scale.floor, scale.tall
        place = {"x": 0.5, "y": f"{floor - tall:g}", "width": f"{width - 1:g}", "height": f"{tall:.2f}"}
        below = element("rect", class_="memory", **place, rx=3)
        below += "".join(_bar(moment.host, x, floor, scale.each) for x in places)
        below += element("text", "main memory", x=f"{width / 2:g}", y=f"{floor + 14:g}")
        more = "".join(f'<p class="bytes">{html.escape(line)}</p>' for line in lane_told(moment))
        said = "; ".join([said, *lane_told(moment)])
        height = floor + 20
    view = f"{(width - whole) / 2:g} 0 {whole} {height:g}"
    held = element("g", bars, class_="held", style=f"--ground:{ground:g}px")
    base = element("path", class_="base", d=f"M0 {ground:g}H{width}")
    svg = element("svg", held + base + names + below, viewBox=view, role="img", aria_label=said)
    return (
        f'<section class="phase" style="--turn:{turn}"><h4>{title}</h4>{svg}'
        f'<p class="bytes">{total} on each GPU</p>{more}<p>{html.escape(does(moment.phase, drawn.kind))}</p></section>'
    )


def _bar(parts: Mapping[str, int], x: float, ground: float, each: float) -> str:
    made, top = [], ground
    for part in PARTS:
        height = parts.get(part, 0) * each
        if height <= 0:
            continue
        top -= height
        place = {"x": x, "y": f"{top:.2f}", "width": WIDTH, "height": f"{max(height, 0.5):.2f}"}
        told = element("title", f"{PARTS[part]}: {units.size(parts[part])}")
        made.append(element("rect", told, **place, fill=_COLOURS[part]))
    return "".join(made)


def what_to_buy(wanted: Wanted) -> None:
    """Draw the smallest card for every method and number of cards; rows are drawn before results."""
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
        "Each cell names the smallest listed card that has enough memory. In brackets: the memory of a step on each "
        "card, with checkpointing and one row per card. With several cards, FSDP2 shards the step. Full fine-tuning "
        "stores the weights in bfloat16, which rounds small updates away; plans try float32 first."
    )


AT_ONCE = 2  # candidates that are asked for before another one is answered
_STOPPED, _KIND, _LEAVE = "stopped", "kind", "leave"


def plan_page() -> None:
    pages.open_page()
    state.read_address(SCOPE, form.readers())
    plan_steps.seed(form.fields())
    bar = plan_steps.head("plan")
    with st.container(key="plan-bench"):
        left, right = st.columns([282, 730], gap="small")
    with left:
        with st.container(border=True, key="wanted"):
            with st.container(horizontal=True, vertical_alignment="center", key="wanted-head"):
                st.markdown("### Your situation", width="content")
                st.button("Start over", key="plan-reset", type="tertiary", on_click=form.start_over)
            asked, controls = form.form()
        form.questions()
    wanted = asked.wanted
    with right:
        if asked.problems():
            _instead(asked, controls)
        else:
            here = wanted.situation()
            which = verdict.cards(here.hardware, wanted.devices)
            plan_steps.in_short((here.shape.title, which, units.several(wanted.rows, "row")))
            if state.remembered(SCOPE, BUYING, False):
                what_to_buy(wanted)
            planned = _plans(wanted, _late)
            ranks = st.expander("What each GPU stores in each phase", key="plan-ranks", on_change="rerun")
            if planned is not None or ranks.open:  # not while plans are simulated: it would hold them up
                with ranks:
                    _ranks(wanted, planned)
    if state.scope(SCOPE).pop(_LEAVE, False):
        pages.go_to("choose")
    there = {} if asked.problems() else form.of_choose(wanted).address(Situation())
    query = {name: as_text(value) for name, (value, usual) in there.items() if value != usual}
    plan_steps.draw(bar, "plan", {"choose": query})
    state.write_address(form.address(asked))


def _instead(asked: PlanRequest, controls: Places) -> None:
    """Draw each error at its control with a button that fixes it, and the plan with all of them fixed."""
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
    """Offer the deadline that the quickest plan meets, if the given one has passed."""
    best = nearest.quickest(ranked)
    if best is not None:
        way = nearest.until_deadline(best)
        controls.offer("deadline", f"The nearest plan that works: {way.text}.", (way,))


def _late(wanted: Wanted, ranked: list[Planned]) -> None:
    """Draw one sentence if no plan is sure to meet the deadline, with changes that would."""
    problem, best = nearest.too_late(wanted, ranked), nearest.quickest(ranked)
    if not problem or best is None:
        return
    seen = look(get_pool().submit(0, verdict.meeting, asdict(_in_hours(wanted)), best))
    come_back(seen)
    if seen.answer is None:
        near(f"{problem} {seen.why('Looking for what would…')}")
        return
    found = nearest.Nearest(problem, seen.answer)
    near(str(found))
    offers(found.ways)


def _in_hours(wanted: Wanted) -> Wanted:
    """Return the request with its deadline in hours left, rounded down so that answers stay cached."""
    with suppress(ValueError):
        float(wanted.deadline)
        return wanted
    left = math.floor((wanted.hours() or 0) * 10) / 10
    return replace(wanted, deadline=f"{max(left, 0.01):g}")  # never 0, which would mean a past deadline


def _plans(wanted: Wanted, beneath: Callable[[Wanted, list[Planned]], None]) -> Planned | None:
    """Draw plans as they are found, then ``beneath``; return the one in full, None while more may come."""
    asked = ranking.candidates(wanted)
    refused = ranking.get_refusals(wanted)
    if not asked:
        error_line("; ".join(refused.values()))
        return None
    stopped = state.remembered(SCOPE, _STOPPED, None) == asdict(wanted)
    top = st.container(key="plan-top")
    found, open_ = _answers(wanted, asked, stopped)
    ranked, done = ranking.rank(wanted, found), len(found) == len(asked)
    settled = None
    if ranked:
        one = verdict.picked(wanted, ranked)
        assert one.plan is not None
        with top:
            verdict.card(wanted, ranked, one, len(asked) - len(found), stopped)
            _progress(wanted, len(found), len(asked), stopped)
            verdict.runner_up(ranked, one)
        if done:
            beneath(wanted, ranked)
        verdict.best_plans(ranked, one)
        if done:
            best, step = ranked[0], ranked[0].plan
            assert step is not None
            plan_steps.know("choose", method_title(best.candidate.method))
            plan_steps.know_memory(step.needed_bytes, step.memory_bytes)
            plan_steps.know("plan", verdict.time_of(best))
            _changes(wanted, one)
        verdict.refused_plans(found)
        if stopped or done:
            settled = one
            verdict.in_full(wanted, one)
        verdict.notes(wanted)
    else:
        with top:
            _progress(wanted, len(found), len(asked), stopped)
        if done:
            plan_steps.know("plan", "once it fits", good=False)
            plan_steps.know("memory", "no", good=False)
            needed = look(get_pool().submit(0, need, asdict(wanted), "qlora", wanted.devices))
            come_back(needed)
            verdict.too_large(wanted, found, needed.answer)
            asked_near = get_pool().submit(0, verdict.nearest, asdict(wanted))
            shown(asked_near, verdict.would_fit, "Looking for what would make it fit…")
            verdict.no_help(wanted, needed.answer)
        verdict.refused_plans(found)
    come_back(*open_)
    return settled


def _changes(wanted: Wanted, one: Planned) -> None:
    """Draw what would change the answer, and how it was decided: by Choose, for the same situation."""
    if wanted.model not in readers_of_text():
        return
    there = form.of_choose(wanted)
    fields = asdict(there)
    ask = inspector.get_inspector(inspector.Worker.CHOOSE).submit
    seen = look(ask(flips.ask_recommendation, fields))
    turns = look(ask(flips.ask_flips, fields)) if seen.answer is not None else None
    st.markdown("### What would change the answer")
    with st.container(horizontal=True, key="plan-chips", gap="small"):
        if one.change is not None:
            st.markdown(
                f"{one.change.text} → **{1 - one.change.factor:.0%} less time** {figures.badge('simulated')}",
                width="content",
            )
        if turns is not None and turns.answer is not None:
            for number, flip in enumerate(turns.answer):
                outcome.chip(flip, f"plan-chip-{number}", partial(_turn, there, flip))
    if seen.open is not None or (turns is not None and turns.open is not None):
        st.caption("Changing one answer at a time…")
    if seen.answer is not None:
        with st.expander("How this was decided"):
            outcome.trace(seen.answer)
    come_back(seen, *([turns] if turns is not None else []))


def _turn(situation: Situation, flip: flips.Flip) -> None:
    """Make a change: here if the form has it, else on Choose."""
    form.take_up({name: value for name, value in flip.changes.items() if name in ("rows", "objective")})
    if not flip.changes.keys() <= {"rows", "objective"}:
        Controls(Situation, "choose").put(**replace(situation, **flip.changes).by_name())
        state.remember(SCOPE, _LEAVE, True)


def _answers(
    wanted: Wanted, asked: tuple[Candidate, ...], stopped: bool
) -> tuple[list[Planned], list[Look[Planned]]]:
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


def _ranks(wanted: Wanted, planned: Planned | None) -> None:
    """Draw each rank's memory, at first for the plan in full, and explain it."""
    st.markdown(figures.badge("simulated"))
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
        format_func=verdict.method_title,
    )
    pairs = [(method, kind), (method, "ddp")]
    asked = [get_pool().submit(1, moments, asdict(wanted), which, how, again) for which, how in pairs]
    alone = look(asked[1])

    def draw(drawn: Drawn) -> None:
        _mount(key=f"ranks-{kind}-{method}", data={"drawing": drawing(drawn)})
        if alone.error is not None:
            error_line(alone.error)
        else:
            verdict.why_refused(drawn, alone.answer)

    shown(asked[0], draw, "Simulating the step of one GPU…")
    come_back(alone)
