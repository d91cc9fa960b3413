"""The registry of pages: their names, order and titles, and how one is opened by its URL."""

from __future__ import annotations

import json
import runpy
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import streamlit as st

from peft_lab.atlas import all_types
from peft_lab.core import asking
from peft_lab.core.asking import NobodyAsks, asker
from peft_lab.interview import glossary
from peft_lab.methods import all_methods
from peft_lab.ui import web

_METHODS, _TEACH = "Methods", "Teach"
_CLASS = ("classroom", "Your class")  # for the teacher of a class
_MAP = ("class_map", "One class, one landscape")  # for everybody in a class
#: The doors of the navigation, each with its pages; that of the methods begins with their registry.
_SECTIONS: dict[str, tuple[tuple[str, str], ...]] = {
    "Start": (("home", "Home"), ("tour", "Guided tour")),
    _METHODS: (("atlas", "All {types} methods"),),
    "Experiments": (
        ("compare", "Compare"),
        ("sweeps", "Sweeps"),
        ("playground", "Playground"),
        ("runs", "Runs"),
    ),
    "Plan a fine-tune": (
        ("choose", "Choose a method"),
        ("memory", "Will it fit"),
        ("plan", "Plan and files"),
        ("ship", "Ship it"),
    ),
    "Interview": (
        ("practice", "Cards and mock interview"),
        ("myths", "Myths"),
        ("clinic", "Debug clinic"),
        ("write", "Write it"),
    ),
    _TEACH: (("teach", "For teachers"),),
}
_ICONS = {
    "Start": "home",
    _METHODS: "stacks",
    "Experiments": "show_chart",
    "Plan a fine-tune": "segment",
    "Interview": "chat_bubble",
    _TEACH: "school",
}
#: At the foot of the navigation, behind no door.
_FOOT = (("words", "Words explained"),)
_PACKAGE = Path(__file__).parents[1]
#: The script that draws every page; see app.py.
MAIN = Path(__file__).parent / "shell/main.py"
_navigated = False


def method_pages() -> tuple[str, ...]:
    """Return slugs of the methods with their own page: all but the full fine-tuning reference."""
    return tuple(slug for slug in all_methods() if slug != "full")


def sections() -> dict[str, tuple[tuple[str, str], ...]]:
    """Return name and title of every page, by the door of the navigation it stands behind."""
    methods = tuple((slug, all_methods()[slug].title) for slug in method_pages())
    types = len(all_types())
    found = {
        door: tuple((name, title.format(types=types)) for name, title in entries)
        for door, entries in _SECTIONS.items()
    }
    found[_METHODS] = methods + found[_METHODS]
    if asking.class_is_on():
        found[_TEACH] += (_MAP, *([_CLASS] if teaches() else []))
    return found


def door_label(door: str) -> str:
    """Return the heading of a door: its icon and name, as Streamlit's navigation writes and stores it."""
    return f":material/{_ICONS[door]}: {door}"


def door_of(name: str) -> str:
    """Return the door that a page stands behind; empty for one at the foot of the navigation."""
    return next((door for door, pages in doors().items() if name in pages), "")


def foot() -> tuple[str, ...]:
    """Return the names of the pages at the foot of the navigation."""
    return tuple(name for name, _ in _FOOT)


@cache
def doors() -> dict[str, tuple[str, ...]]:
    """Return the names of the pages behind each door, the teacher's own included."""
    behind = {door: tuple(name for name, _ in entries) for door, entries in _SECTIONS.items()}
    return behind | {
        _METHODS: (*method_pages(), *behind[_METHODS]),
        _TEACH: (*behind[_TEACH], _MAP[0], _CLASS[0]),
    }


@cache
def folding_script() -> str:
    """Return the script that folds every door but the current page's, before the navigation is drawn, and the one
    that explains each word of the glossary where a page uses it first."""
    labels = {name: door_label(door) for door, names in doors().items() for name in names}
    words = {word.meaning: [word.term, *word.also] for word in glossary.words().values()}
    return web.read("doors.js", DOORS=json.dumps(labels)) + web.read("words.js", WORDS=json.dumps(words))


def teaches() -> bool:
    """Return whether the current person is the teacher of a class."""
    try:
        who = asker()
    except NobodyAsks:
        return False
    return who is not None and who.teacher


def titles() -> dict[str, str]:
    """Return the title of every page by name."""
    return {name: title for entries in (*sections().values(), _FOOT) for name, title in entries}


@cache
def folder() -> Path:
    """Return the folder of the pages' scripts: beside the package, or inside it when installed."""
    places = (_PACKAGE.parent / "pages", _PACKAGE / "_app/pages")
    return next(place for place in places if (place / "home.py").is_file())


def page(name: str, title: str = "") -> st.navigation.StreamlitPage:  # type: ignore[name-defined]
    """Return the page as a Streamlit page; its own title is looked up unless given."""
    file, title = folder() / f"{name}.py", title or titles()[name]
    return st.Page(
        file,
        title=title,
        url_path="" if name == "home" else name,
        default=name == "home",
        visibility="hidden" if name in foot() else "visible",
    )


def link(
    name: str, label: str, icon: str = "arrow_forward", query: Mapping[str, str] | None = None, **options: Any
) -> None:
    """Draw a link to a page of this session. ``query``: its URL parameters; ``options``: Streamlit's."""
    st.page_link(page(name), label=label, icon=f":material/{icon}:", query_params=query, **options)


def go_to(name: str, query: Mapping[str, str] | None = None) -> None:
    """Switch to a page."""
    st.switch_page(page(name), query_params=query)


def navigating() -> None:
    """Record that the app's own navigation is active."""
    global _navigated
    _navigated = True


def open_page() -> None:
    """Begin a page. If Streamlit discovers pages by itself, as in AppTest, run the app instead. The app's navigation
    then finds the same page by its URL, and later pages of the session go through the app directly."""
    if not _navigated:
        runpy.run_path(str(MAIN), run_name="__main__")
        st.stop()
