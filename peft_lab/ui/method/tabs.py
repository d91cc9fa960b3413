"""A method page's five tabs and the parts inside two of them, in its address as ``tab=`` and ``part=``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from peft_lab.core.errors import UnknownName
from peft_lab.interview import since
from peft_lab.studies import experiments
from peft_lab.ui import state
from peft_lab.ui.components.frame import show_tab, tab_list
from peft_lab.ui.method.inside import view_of
from peft_lab.ui.runs.shown import TRAIN

INSIDE, EXPERIMENTS, EXPORT = "Inside", "Experiments", "Export"
TITLES = ("Idea", TRAIN, INSIDE, EXPERIMENTS, EXPORT)
PICTURE, TRY_IT, SINCE = "Picture", "Try it", "What changed since"
#: The parts of a tab that has several, in order; a tab shows one of them at a time.
PARTS = {INSIDE: (PICTURE, "Parameters", "Modules", "Memory"), EXPERIMENTS: (TRY_IT, SINCE)}
#: What an older address calls a tab, and where its content is now: tab, and part of it.
MOVED = {
    "look inside": (INSIDE, PICTURE),
    "parameters": (INSIDE, "Parameters"),
    "modules": (INSIDE, "Modules"),
    "memory": (INSIDE, "Memory"),
    "try it": (EXPERIMENTS, TRY_IT),
    "what changed since": (EXPERIMENTS, SINCE),
    "take away": (EXPORT, ""),
}


def parts_of(slug: str, tab: str) -> list[str]:
    """Return the parts of a tab that the method has, in order; empty for a tab of one piece."""
    missing = {
        PICTURE: view_of(slug) is None,
        TRY_IT: not experiments.of_method(slug),
        SINCE: not since.of_method(slug),
    }
    return [title for title in PARTS.get(tab, ()) if not missing.get(title, False)]


def titles_of(slug: str) -> list[str]:
    """Return the method's tabs, in order."""
    return [title for title in TITLES if title not in PARTS or parts_of(slug, title)]


def named(tab: str, part: str = "") -> tuple[str, str]:
    """Return the titles of the tab and part that an address names, in its old or its new words."""
    if tab.lower() in MOVED:
        return MOVED[tab.lower()]
    return _known("tab", tab, TITLES), part and _known("part", part, sum(PARTS.values(), ()))


def shows_picture(settings: Mapping[str, str]) -> bool:
    """Return whether address parameters open the method's own picture, which is drawn from a run's records."""
    tab = settings.get("tab", "").lower()
    return MOVED.get(tab, (tab.capitalize(), settings.get("part", PICTURE).capitalize())) == (INSIDE, PICTURE)


def _known(noun: str, text: str, titles: tuple[str, ...]) -> str:
    for title in titles:
        if title.lower() == text.lower():
            return title
    raise UnknownName(noun, text[:60], [title.lower() for title in titles], noun)


def readers(slug: str) -> dict[str, Callable[[str], None]]:
    """Return the readers of the page's ``tab`` and ``part`` parameters."""

    def take_part(text: str) -> None:
        part = _known("part", text, sum(PARTS.values(), ()))
        _remember(slug, next(tab for tab, parts in PARTS.items() if part in parts), part)

    def take_tab(text: str) -> None:
        tab, part = named(text)
        state.remember(slug, "tab", tab.lower())
        _remember(slug, tab, part)

    return {"tab": take_tab, "part": take_part}


def _remember(slug: str, tab: str, part: str) -> None:
    if part:
        state.remember(slug, "part", part.lower(), tab)


def open_at(slug: str, tab: str, part: str = "") -> None:
    """Open a tab, and a part of it, the next time the page is drawn; call it before that, as in a callback."""
    title, part = named(tab, part)
    show_tab(slug, title)
    _remember(slug, title, part)
    state.remember(slug, "part-round", state.remembered(slug, "part-round", 0) + 1)


def tabs(slug: str) -> tuple[str, DeltaGenerator]:
    """Draw the list of tabs; return the open one's title, and the place for its content."""
    titles = titles_of(slug)
    wanted = str(state.remembered(slug, "tab", "idea"))
    start = next((title for title in titles if title.lower() == wanted), titles[0])
    title, place = tab_list(slug, titles, start, tells=False)
    state.remember(slug, "tab", title.lower())
    return title, place


def part_of(slug: str, tab: str) -> str:
    """Draw the choice of a tab's parts; return the chosen one's title, or the tab's own if it is of one piece."""
    titles = parts_of(slug, tab)
    picked = titles[0] if titles else tab
    if len(titles) > 1:
        key = state.widget_key(slug, "part", tab, str(state.remembered(slug, "part-round", 0)))
        wanted = str(state.remembered(slug, "part", "", tab))
        start = next((title for title in titles if title.lower() == wanted), titles[0])
        with st.container(key="bench-parts"):
            first = state.first_default(key, start)
            options: dict[str, Any] = {"required": True, "key": key, "label_visibility": "collapsed"}
            picked = str(st.pills(f"Part of {tab}", titles, default=first, **options))
    if titles:
        _remember(slug, tab, picked)
    return picked


def address(slug: str, tab: str, part: str) -> dict[str, tuple[str, str]]:
    """Return the open tab and part as address parameters with their defaults."""
    found = {"tab": (tab.lower(), TITLES[0].lower())}
    parts = parts_of(slug, tab)
    return found | ({"part": (part.lower(), parts[0].lower())} if parts else {})
