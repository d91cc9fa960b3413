"""The Atlas page's controls (search, capabilities, model, one type or two), cards and family tree."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import streamlit as st

from peft_lab.atlas import FAMILIES, entries, get_entry, lineage, rows
from peft_lab.atlas.base import AtlasType
from peft_lab.core import palette
from peft_lab.core.form import Form, choice, names, text
from peft_lab.ui import web
from peft_lab.ui.components import model_choice
from peft_lab.ui.components.form import Controls

SCOPE = "atlas"
ALL, NOBODY = "all", "none"
LONGEST = 60  # characters of a search


def _titles() -> dict[str, str]:
    return {name: entry.title for name, entry in entries().items()}


@dataclass(frozen=True)
class AtlasForm(Form):
    """The page's settings: a type, a second one beside it, the model they are counted on, and a filter."""

    type: str = choice("lora", "Type", "", _titles, noun="type")
    beside: str = choice(NOBODY, "Compare with", "", lambda: {NOBODY: "nothing", **_titles()}, noun="type")
    model: str = text("llama-3.2-3b", "Model", "", reader=model_choice.from_address)
    family: str = choice(
        ALL, "Family", "", {ALL: "All families"} | {name: title for name, (title, _) in FAMILIES.items()}
    )
    can: tuple[str, ...] = names(
        (), "Required capabilities", "", {name: title for name, (title, *_) in rows.CAPABILITIES.items()},
        noun="capability",
    )  # fmt: skip
    search: str = text("", "Search", "", reader=lambda said: said[:LONGEST])


def filters(controls: Controls[AtlasForm]) -> list[AtlasType]:
    """Draw the filters; return the types that match family, search and capabilities."""
    place = st.container(gap="xsmall")
    said = controls.draw("search", place, max_chars=LONGEST, placeholder="a name or a word, such as rotate")
    family = controls.draw("family", place)
    can = controls.draw("can", place, placeholder="any capability")
    return matching(family, said or "", can)


def matching(family: str, text: str, can: tuple[str, ...]) -> list[AtlasType]:
    """Return a family's types (or all) whose texts contain every word and that have all the capabilities."""
    words = text.lower().split()
    found = []
    for entry in entries().values():
        said = " ".join(
            (entry.title, entry.name, entry.update, entry.differs, entry.when, str(entry.paper))
        ).lower()
        able = all(rows.probed_value(entry.name, name) for name in can)
        if family in (ALL, entry.family) and able and all(word in said for word in words):
            found.append(entry)
    return found


# ----------------------------------------
# A list of types by family, each with a picture of ΔW; a click on one opens it beside the list.
#
# The picture is drawn in the browser from one letter an entry: orange adds to W, blue takes away, what is blank is
# zero.


LEVELS = (
    "jihgfedcba0ABCDEFGHIJ"  # as tools/atlas_probe/picture.py writes them: -10 to 10 tenths of the largest
)
PLUS, MINUS = palette.CHART_TRAINED, palette.CHART_QUANTISED

_mount = st.components.v2.component(
    "peft_atlas",
    html='<div class="host"></div>',
    css=web.read("atlas.css"),
    js=web.read("atlas.js", LEVELS=LEVELS, PLUS=PLUS, MINUS=MINUS),
)


def card_facts(picture: dict[str, Any]) -> str:
    """Return the rank, zeros and symmetry of a picture as text."""
    side = min(picture["rows"], picture["columns"])
    at = ", ".join(
        f"{name} {value}"
        for name, value in picture.get("settings", {}).items()
        if name in ("r", "init_r") and value
    )
    parts = [f"rank {picture['rank']} of {side}" + (f" at {at}" if at else "")]
    if picture["zeros"] >= 0.01:
        parts.append(f"{100 * picture['zeros']:.0f}% zeros")
    if picture["asymmetry"] is not None and picture["asymmetry"] < 0.01:
        parts.append("symmetric")
    if not picture["linear"]:
        parts.append("depends on the input")
    return ", ".join(parts)


def canvas(picture: dict[str, Any], label: str) -> str:
    return (
        f'<canvas width="{picture["columns"]}" height="{picture["rows"]}" role="img" '
        f'aria-label="{html.escape(label)}" data-entries="{picture["entries"]}"></canvas>'
    )


def _card(entry: AtlasType) -> str:
    picture = rows.probed(entry.name).get("picture", {})
    seen = card_facts(picture) if "entries" in picture else ""
    drawn = canvas(picture, f"ΔW of {entry.title}: {seen}") if seen else '<span class="none">no ΔW</span>'
    parent = get_entry(entry.parent).title if entry.parent else ""
    of = f"variant of {parent}" if entry.variant else f"changes {parent}" if parent else ""
    return (
        f'<button type="button" class="card" data-name="{entry.name}"><b>{html.escape(entry.title)}</b>{drawn}'
        f'<span class="of">{html.escape(of)}</span></button>'
    )


def cards(shown: Sequence[AtlasType], chosen: Sequence[str]) -> str | None:
    """Draw the list; return the name of a type just clicked."""
    sections = []
    for family, (title, sentence) in FAMILIES.items():
        members = "".join(_card(entry) for entry in shown if entry.family == family)
        if members:
            sections.append(
                f'<section><h3 title="{html.escape(sentence)}">{html.escape(title)}</h3>'
                f'<div class="grid">{members}</div></section>'
            )
    return mounted("atlas-cards", f'<div class="atlas list">{"".join(sections)}</div>', chosen)


def mounted(key: str, drawing: str, chosen: Sequence[str]) -> str | None:
    """Show a drawing whose elements name types; return the name of one just clicked."""
    result = _mount(key=key, data={"drawing": drawing, "chosen": list(chosen)}, on_chosen_change=lambda: None)
    name = getattr(result, "chosen", None)
    return name if name in entries() else None


# ----------------------------------------
# The family tree: who changes whom, as nested lists with connectors; a click on an entry chooses it.


MANY = 12  # children from which on a branch takes the whole width, its children in columns


def tree_drawing() -> str:
    """Return every entry under the one that it changes, as nested HTML lists; roots without children come late, large
    branches last."""
    roots = sorted(lineage()[""], key=lambda entry: (_many(entry.name), entry.name not in lineage()))
    return f'<nav class="atlas tree" aria-label="Family tree"><ul>{"".join(map(_branch, roots))}</ul></nav>'


def _branch(entry: AtlasType) -> str:
    children = lineage().get(entry.name, ())
    below = f"<ul>{''.join(map(_branch, children))}</ul>" if children else ""
    wide = ' class="wide"' if _many(entry.name) else ""
    kind = "leaf variant" if entry.variant else "leaf"
    return (
        f'<li{wide}><button type="button" class="{kind}" data-name="{html.escape(entry.name)}">'
        f"{html.escape(entry.title)}</button>{below}</li>"
    )


def _many(name: str) -> bool:
    return len(lineage().get(name, ())) >= MANY
