"""Choose a method: a decision tree, the situation as numbers, and the recommendation."""

from __future__ import annotations

import html
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import asdict, replace
from functools import partial
from typing import Any

import streamlit as st

from peft_lab.advise import flips
from peft_lab.advise.flips import Flip
from peft_lab.advise.recipes.rules import OF_ENCODERS
from peft_lab.advise.recommend import Recommendation, find_place, reach
from peft_lab.advise.situation import RENAMED, Situation
from peft_lab.advise.tree import ADVICE, NODES, QUESTIONS, ROOT, TreePlace, label, places
from peft_lab.advise.words import found_answer
from peft_lab.core import inspector, units
from peft_lab.core.errors import BadInput, UnknownName
from peft_lab.drawing.svg import element
from peft_lab.engine.devices import device_of, devices
from peft_lab.methods import all_methods
from peft_lab.models.catalogue import get_model, readers_of_text
from peft_lab.ui import pages, state, theme, web
from peft_lab.ui.choose import outcome
from peft_lab.ui.components import plan_steps
from peft_lab.ui.components.form import Controls
from peft_lab.ui.components.frame import error_line
from peft_lab.ui.components.waiting import Look, come_back, look, shown

SCOPE = "choose"
MEGA = 1e6
#: Least width of a choice in words and of a number, in pixels, so that no label and no value is cut; they share out
#: what is left of a row (:mod:`peft_lab.ui.theme`).
WIDE, NARROW = 240, 112
_FIELDS = ("model", "device", "devices", "link", "objective", "rows", "row_tokens", "seq", "deadline")
#: What most situations leave as it is: folded away until one is set.
_MORE = ("prompting", "tasks", "batch", "serving", "latency", "storage", "forgetting")
_TITLE = "More: tasks, serving, limits"
_WIDE = ("model", "device", "prompting", "objective", "serving", "latency", "storage", "forgetting")


def controls() -> Controls[Situation]:
    """Return the page's controls, not yet drawn."""
    return Controls(Situation, SCOPE)


def read_model(text: str) -> str:
    """Return a model's name from the page's URL. Raises UnknownName."""
    if text not in readers_of_text(further=True):
        raise UnknownName("model in the catalogue", text, readers_of_text(further=True), "model")
    return text


def take(situation: Situation) -> None:
    """Set every field, and redraw the controls."""
    controls().put(**situation.by_name())


def situation_form(shown: Controls[Situation]) -> Situation:
    """Draw the controls and return the situation."""
    if shown.value("model") not in readers_of_text(
        further=True
    ):  # chosen on a page that takes other models too
        shown.remember("model", None)
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small", key="situation-fields"):
        for name in _FIELDS:
            _draw(shown, name)

    def count() -> int:
        return sum(shown.value(name) != shown.default(name) for name in _MORE)

    set_now = count()
    with (
        st.expander(f"{_TITLE} ({set_now} set)" if set_now else _TITLE, expanded=set_now > 0),
        st.container(horizontal=True, vertical_alignment="bottom", gap="small", key="limits-fields"),
    ):
        for name in _MORE:
            _draw(shown, name)
    if count() != set_now:
        st.rerun()  # the heading counts them, and stands above them
    situation = shown.form()
    shown.show(situation.problems())
    return situation


def _draw(shown: Controls[Situation], name: str) -> None:
    with st.container(width=WIDE if name in _WIDE else NARROW, gap=None):
        if name == "storage":
            shown.draw(name, scale=MEGA, label="Storage per task, MB")
        elif name == "row_tokens":
            shown.draw(name, placeholder=f"{shown.value('seq'):,}")
        elif name == "deadline":
            shown.draw(name, placeholder="any time")
        else:
            shown.draw(name, options=_options(shown, name))


def _options(shown: Controls[Situation], name: str) -> dict[str, str] | None:
    if name == "model":
        return {name: entry.title for name, entry in readers_of_text(further=True).items()}
    if name == "device":
        titles = {one: device_of(one).title for one in (*devices(), shown.value("device"))}
        return {one: title[:1].upper() + title[1:] for one, title in titles.items()}
    if name == "objective":
        # What is chosen stays in the list, and its contradiction is said below.
        encoder = get_model(shown.value("model")).kind == "encoder"
        offered = ("", shown.value(name), *OF_ENCODERS)
        goals = Situation.field(name).titles
        return {one: title for one, title in goals.items() if not encoder or one in offered}
    return None


# ----------------------------------------
# The decision tree as pictures: the whole of it from left to right, and the path alone for narrow screens.


BOX, HIGH = 108, 36  # of a box
GAP, ROW = 12, 41  # space between columns, distance of rows
EDGE = 2


def lit_places(path: Sequence[tuple[str, str]]) -> list[str]:
    """Return the ids of the tree's places along a path of ``(node, value)``, the root first. What is answered beside
    the tree, such as whether 4 bits are quicker, has no node."""
    found = [ROOT]
    for node, value in path:
        if not node:
            continue
        branch = next(branch for branch in NODES[node].branches if value in branch.values)
        found.append(branch.to if branch.to in NODES else f"{node}.{branch.values[0]}")
    return found


def answer_of(place: TreePlace) -> str:
    """Return the label of the branch that leads to a place; empty for the root."""
    if not place.way:
        return ""
    parent, values = place.way[-1]
    branch = next(branch for branch in NODES[parent].branches if branch.values == values)
    return label(branch, QUESTIONS[NODES[parent].question])


def says(place: TreePlace) -> str:
    """Return a box's text: its question, or the advice."""
    return ADVICE[place.target].short if place.leaf else QUESTIONS[NODES[place.target].question].short


def tree_picture(lit: Sequence[str], end: str = "") -> str:
    """Return the whole tree as SVG, its places as tree items. ``lit``: those of the path; ``end``: the text at its end,
    if that is not the leaf's own."""
    spots = _spots()
    width = max(x for x, _ in spots.values()) + BOX + EDGE
    height = max(y for _, y in spots.values()) + HIGH + EDGE
    on = set(lit)
    edges = []
    for place in sorted(places(), key=lambda place: place.id in on):
        x, y = spots[place.id]
        if place.way:
            (x1, y1), kind = spots[place.way[-1][0]], "edge lit" if place.id in on else "edge"
            way = f"M{x1 + BOX:g} {y1 + HIGH / 2:g}H{x1 + BOX + GAP / 2:g}V{y + HIGH / 2:g}H{x:g}"
            edges.append(element("path", class_=kind, d=way))
    current = lit[-1] if lit else ROOT
    boxes = [_box(place, spots[place.id], place.id in on, place.id == current, end) for place in places()]
    return element(
        "svg", "".join([*edges, *boxes]), viewBox=f"0 0 {width} {height}", role="tree", aria_label="Decision tree",
        xmlns="http://www.w3.org/2000/svg",
    )  # fmt: skip


def _spots() -> dict[str, tuple[float, float]]:
    """Return the upper left corner of every box: a row per leaf, questions centred on their children."""
    found: dict[str, tuple[float, float]] = {}
    row = 0

    def put(place: TreePlace) -> float:
        nonlocal row
        x = EDGE + len(place.way) * (BOX + GAP)
        if place.leaf:
            y = float(EDGE + row * ROW)
            row += 1
        else:
            below = [put(child) for child in children(place)]
            y = (below[0] + below[-1]) / 2
        found[place.id] = (x, y)
        return y

    put(places()[0])
    return found


def children(place: TreePlace) -> list[TreePlace]:
    """Return the places that one more answer leads to."""
    return [
        each
        for each in places()
        if each.way and each.way[:-1] == place.way and each.way[-1][0] == place.target
    ]


def _box(place: TreePlace, spot: tuple[float, float], lit: bool, current: bool, end: str) -> str:
    x, y = spot
    answer, text = answer_of(place), end if end and current and place.leaf else says(place)
    kind = " ".join(
        name for name, on in (("place", True), ("leaf", place.leaf), ("lit", lit), ("end", current)) if on
    )
    rows = [("answer", 14, answer), ("says", 29, text)] if answer else [("says", 22, text)]
    lines = [
        element("text", html.escape(row), class_=cls, x=f"{x + BOX / 2:g}", y=f"{y + down:g}")
        for cls, down, row in rows
    ]
    box = element("rect", x=f"{x:g}", y=f"{y:g}", width=BOX, height=HIGH, rx=6)
    return element(
        "g", box + "".join(lines), class_=kind, role="treeitem", aria_level=len(place.way) + 1,
        aria_selected=str(lit).lower(), aria_label=f"{answer}: {text}" if answer else text,
        aria_disabled="false", tabindex=0 if current else -1, data_place=place.id,
        data_parent=place.way[-1][0] if place.way else "",
    )  # fmt: skip


def path_picture(lit: Sequence[str], end: str = "") -> str:
    """Return the path as HTML: questions with answer buttons, chosen ones highlighted, then the leaf or ``end``."""
    known = {place.id: place for place in places()}
    parts = []
    for identity in lit:
        place = known[identity]
        if place.leaf:
            parts.append(f'<p class="found">{html.escape(end or ADVICE[place.target].title)}</p>')
            continue
        question = QUESTIONS[NODES[place.target].question]
        buttons = "".join(_button(child, child.id in lit) for child in children(place))
        parts.append(
            f'<div class="asked" role="group" aria-label="{html.escape(question.full, quote=True)}">'
            f"<p>{html.escape(question.full)}</p>{buttons}</div>"
        )
    return f'<div class="path">{"".join(parts)}</div>'


def _button(place: TreePlace, lit: bool) -> str:
    return (
        f'<button type="button" class="place{" lit" if lit else ""}" aria-pressed="{str(lit).lower()}" '
        f'data-place="{place.id}">{html.escape(answer_of(place))}</button>'
    )


# ----------------------------------------
# The tree as a Streamlit component: a click, or Enter on the place that the arrow keys led to, chooses a place.


NARROW_BELOW = 760  # CSS pixels: under this the whole tree's text would be too small to read

CSS = web.read("tree.css", NARROW_BELOW=NARROW_BELOW)

# One place of the tree can be reached by Tab; from there the arrows lead on, as the pattern for trees has it. The
# pictures are replaced only when they changed, and the focus then goes to the place it was on.
_mount = st.components.v2.component(
    "peft_tree", html='<div class="host"><div class="tree"></div><div class="narrow"></div></div>', css=CSS,
    js=web.read("tree.js"),
)  # fmt: skip


def walk(lit: Sequence[str], key: str = "tree", end: str = "") -> str | None:
    """Show the tree with the path highlighted, and what is advised at its end if that is another; return the id of the
    place just chosen, only in the script run caused by that choice."""
    result = _mount(
        key=key,
        data={"tree": tree_picture(lit, end), "path": path_picture(lit, end), "offered": True},
        on_chosen_change=lambda: None,
    )
    chosen: str | None = result.chosen
    return chosen


PATIENCE = 0.8  # seconds that the page waits for a recommendation before it is drawn without
_PATH = "known-path"


def choose_page() -> None:
    pages.open_page()
    form = controls()
    readers = form.readers(model=read_model)
    state.read_address(SCOPE, {old: readers[new] for old, new in RENAMED.items()} | readers)
    plan_steps.seed(form)
    bar = plan_steps.head("choose")
    with st.container(key="choose-bench"):
        left, right = st.columns([282, 730], gap="small")
    with left, st.container(border=True, key="situation"):
        with st.container(horizontal=True, vertical_alignment="center", key="situation-head"):
            st.markdown("### Your situation", width="content")
            if st.button("Start over", key="choose-reset", type="tertiary"):
                take(Situation())
                st.rerun()
        situation = situation_form(form)
    with right:
        if not situation.problems():
            rows = units.several(situation.rows, "row")
            plan_steps.in_short((situation.shape.title, situation.hardware.called, rows))
        answer = st.container(key="choose-answer")
        seen = _recommendation(situation, answer)
        found = seen.answer
        if found is not None:
            with answer:
                outcome.verdict(situation, found)
            chips = st.container(key="choose-changes")
            chips.html(theme.KEPT_ROOM)
            outcome.reasons(found)
        elif seen.open is not None:
            answer.markdown("Simulating training steps…")
    with st.expander("How this was decided", key="choose-tree"):  # as wide as the page: the tree needs it
        st.markdown(
            "Choose an answer and the path lights up. Some questions only you can answer. The app answers the "
            "others: it **simulates** a training step to see whether memory suffices, and **counts** facts about "
            "the model. Arrow keys move through the tree; Enter chooses."
        )
        # until the path is known, the part of it that needs no simulation
        path = [(step.node, step.value) for step in found.path] if found is not None else None
        lit = lit_places(path or [(ROOT, found_answer(ROOT, situation)[0])])
        chosen = walk(lit, end=ADVICE[found.advice].short if found is not None else "")
        if found is not None:
            outcome.trace(found)
    if found is not None:
        _below(situation, found)
        with chips:  # last: it is waited for
            _flips(situation)
    if chosen:
        told_for, known = st.session_state.get(_PATH, ({}, {}))
        take(reach(situation, find_place(chosen), known if told_for == asdict(situation) else {}))
        st.rerun()
    if found is not None:
        plan_steps.know("choose", found.title, found.advice not in ("nothing", "no-way"))
        if found.plan is not None:
            plan_steps.know_memory(found.plan.needed_bytes, found.plan.memory_bytes)
        elif found.advice == "nothing":
            plan_steps.know("memory", "no", good=False)
    plan_steps.draw(bar, "choose")
    come_back(seen)
    form.write_address()


def _below(situation: Situation, found: Recommendation) -> None:
    outcome.headline(situation, found)
    outcome.serving(situation, found)
    if found.plan is not None:
        with st.expander("The recipe: starting values and their sources"):
            outcome.configuration(situation, found)
    outcome.unknown(found)
    if found.method in all_methods():
        outcome.evidence(found.method)


def _recommendation(situation: Situation, place: Any) -> Look[Recommendation]:
    """Return the recommendation, a pending look, or an error, which is drawn unless a control shows it."""
    try:
        situation.check()
        seen: Look[Recommendation] = look(
            _ask(flips.ask_recommendation, situation, inspector.Worker.CHOOSE), PATIENCE
        )
    except BadInput as error:
        seen = Look(error=error)
    if seen.error is not None:
        if getattr(seen.error, "field", None) not in Situation.fields():  # else it stands at its control
            error_line(seen.error, place)
    elif seen.answer is not None:
        path = {step.question: step.value for step in seen.answer.path}
        st.session_state[_PATH] = (asdict(situation), path)
    return seen


def _ask(function: Any, situation: Situation, worker: inspector.Worker) -> Future[Any]:
    return inspector.get_inspector(worker).submit(function, asdict(situation.timed))


def _flips(situation: Situation) -> None:
    def draw(found: Sequence[Flip]) -> None:
        if not found:
            st.markdown("If you change any one answer, the recommended method stays the same.")
        with st.container(horizontal=True, key="choose-chips", gap="small"):
            for number, flip in enumerate(found):
                key = state.widget_key(SCOPE, f"flip-{number}")
                outcome.chip(flip, key, partial(take, replace(situation, **flip.changes)))

    asked = _ask(flips.ask_flips, situation, inspector.Worker.FLIPS)
    st.markdown("### What would change the answer")
    shown(asked, draw, "Changing one answer at a time…", patience=PATIENCE)
