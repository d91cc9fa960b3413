"""The decision tree as pictures: the whole of it from left to right, and the path alone for narrow screens."""

from __future__ import annotations

import html
from collections.abc import Sequence

import streamlit as st

from peft_lab.advise.leaves import ADVICE
from peft_lab.advise.tree import NODES, QUESTIONS, ROOT, Place, label, places
from peft_lab.drawing.svg import element
from peft_lab.ui import web

BOX, HIGH = 108, 36  # of a box
GAP, ROW = 12, 41  # space between columns, distance of rows
EDGE = 2


def lit_places(path: Sequence[tuple[str, str]]) -> list[str]:
    """Return the ids of the places that a path of ``(node, value)`` goes through, the root first."""
    found = [ROOT]
    for node, value in path:
        branch = next(branch for branch in NODES[node].branches if value in branch.values)
        found.append(branch.to if branch.to in NODES else f"{node}.{branch.values[0]}")
    return found


def answer_of(place: Place) -> str:
    """Return what stands on the branch that leads to a place; empty for the root."""
    if not place.way:
        return ""
    parent, values = place.way[-1]
    branch = next(branch for branch in NODES[parent].branches if branch.values == values)
    return label(branch, QUESTIONS[NODES[parent].question])


def says(place: Place) -> str:
    """Return what stands in a box: the question asked there, or the advice."""
    return ADVICE[place.target].short if place.leaf else QUESTIONS[NODES[place.target].question].short


def tree_picture(lit: Sequence[str], offered: bool = True) -> str:
    """Return the whole tree as SVG. Places are tree items: arrow keys move, Enter chooses.

    Args:
        lit: ids of the places on the path, in order. offered: whether places can be chosen.
    """
    spots = _spots()
    width = max(x for x, _ in spots.values()) + BOX + EDGE
    height = max(y for _, y in spots.values()) + HIGH + EDGE
    on = set(lit)
    edges = []
    for place in sorted(places(), key=lambda place: place.id in on):
        x, y = spots[place.id]
        if place.way:
            edges.append(_edge(spots[place.way[-1][0]], (x, y), place.id in on))
    current = lit[-1] if lit else ROOT
    boxes = [_box(place, spots[place.id], place.id in on, place.id == current, offered) for place in places()]
    return element(
        "svg", "".join([*edges, *boxes]), viewBox=f"0 0 {width} {height}", role="tree", aria_label="Decision tree",
        xmlns="http://www.w3.org/2000/svg",
    )  # fmt: skip


def _spots() -> dict[str, tuple[float, float]]:
    """Return every box's upper left corner: leaves in rows of their own, questions centred on what follows."""
    found: dict[str, tuple[float, float]] = {}
    row = 0

    def put(place: Place) -> float:
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


def children(place: Place) -> list[Place]:
    """Return the places one answer further."""
    return [
        each
        for each in places()
        if each.way and each.way[:-1] == place.way and each.way[-1][0] == place.target
    ]


def _edge(start: tuple[float, float], end: tuple[float, float], lit: bool) -> str:
    x1, y1, x2, y2 = start[0] + BOX, start[1] + HIGH / 2, end[0], end[1] + HIGH / 2
    middle = x1 + GAP / 2
    kind = "edge lit" if lit else "edge"
    return element("path", class_=kind, d=f"M{x1:g} {y1:g}H{middle:g}V{y2:g}H{x2:g}")


def _box(place: Place, spot: tuple[float, float], lit: bool, current: bool, offered: bool) -> str:
    x, y = spot
    answer, text = answer_of(place), says(place)
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
        aria_disabled=str(not offered).lower(), tabindex=0 if current else -1, data_place=place.id,
        data_parent=place.way[-1][0] if place.way else "",
    )  # fmt: skip


def path_picture(lit: Sequence[str], offered: bool = True) -> str:
    """Return the path as HTML: questions with their answers as buttons, those given lit, and the leaf last."""
    known = {place.id: place for place in places()}
    parts = []
    for identity in lit:
        place = known[identity]
        if place.leaf:
            parts.append(f'<p class="found">{html.escape(ADVICE[place.target].title)}</p>')
            continue
        question = QUESTIONS[NODES[place.target].question]
        buttons = "".join(_button(child, child.id in lit, offered) for child in children(place))
        parts.append(
            f'<div class="asked" role="group" aria-label="{html.escape(question.full, quote=True)}">'
            f"<p>{html.escape(question.full)}</p>{buttons}</div>"
        )
    return f'<div class="path">{"".join(parts)}</div>'


def _button(place: Place, lit: bool, offered: bool) -> str:
    off = "" if offered else " disabled"
    pressed = str(lit).lower()
    kind = "place lit" if lit else "place"
    return (
        f'<button type="button" class="{kind}" aria-pressed="{pressed}" data-place="{place.id}"{off}>'
        f"{html.escape(answer_of(place))}</button>"
    )


# ----------------------------------------
# The tree as a Streamlit component: a click, or Enter on the place that the arrow keys led to, chooses a place.


NARROW_BELOW = 760  # CSS pixels: under this the whole tree's text would be too small to read

CSS = web.read("tree.css", NARROW_BELOW=NARROW_BELOW)

HTML = '<div class="host"><div class="tree"></div><div class="narrow"></div></div>'

# One place of the tree can be reached by Tab; from there the arrows lead on, as the pattern for trees has it. The
# pictures are replaced only when they changed, and the focus then goes to the place it was on.
JS = web.read("tree.js")

_mount = st.components.v2.component("peft_tree", html=HTML, css=CSS, js=JS)


def walk(lit: Sequence[str], key: str = "tree") -> str | None:
    """Show the tree with the path lit.

    Returns:
        The id of the place that was just chosen, in the one script run that this choice caused; else ``None``.
    """
    result = _mount(
        key=key,
        data={"tree": tree_picture(lit), "path": path_picture(lit), "offered": True},
        on_chosen_change=lambda: None,
    )
    chosen: str | None = result.chosen
    return chosen
