"""The registry of pages: which there are, their order and titles, and how one is opened by its address."""

from __future__ import annotations

import runpy
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import streamlit as st

from peft_lab.core.asking import NobodyAsks, asker
from peft_lab.methods import all_methods

_METHODS, _TEACH = "Methods", "Teach"
_CLASS = ("classroom", "Your class")  # for the teacher of a class
#: The sections of the navigation; that of the methods is filled from their registry.
_SECTIONS: dict[str, tuple[tuple[str, str], ...]] = {
    "Start": (("home", "Home"), ("tour", "Guided tour")),
    _METHODS: (),
    "Lab": (
        ("atlas", "Atlas"),
        ("compare", "Compare"),
        ("memory", "Memory"),
        ("plan", "Plan"),
        ("runs", "Runs"),
        ("sweeps", "Sweeps"),
    ),
    "Decide": (("choose", "Choose a method"),),
    "Interview": (
        ("practice", "Practice"),
        ("misconceptions", "Misconceptions"),
        ("fact_check", "Fact check"),
        ("clinic", "Debug clinic"),
    ),
    _TEACH: (("teach", "For teachers"),),
}
_PACKAGE = Path(__file__).parents[1]
#: The script that draws every page; see app.py.
MAIN = Path(__file__).parent / "shell/main.py"
_navigated = False


def method_pages() -> tuple[str, ...]:
    """Return slugs of the methods that have a page of their own: all but the full fine-tuning reference."""
    return tuple(slug for slug in all_methods() if slug != "full")


def sections() -> dict[str, tuple[tuple[str, str], ...]]:
    """Return name and title of every page, by the section of the navigation it stands in."""
    methods = tuple((slug, all_methods()[slug].title) for slug in method_pages())
    found = {name: methods if name == _METHODS else entries for name, entries in _SECTIONS.items()}
    return found | {_TEACH: (_CLASS, *found[_TEACH])} if teaches() else found


def teaches() -> bool:
    """Return whether who asks is the teacher of a class."""
    try:
        who = asker()
    except NobodyAsks:
        return False
    return who is not None and who.teacher


def titles() -> dict[str, str]:
    """Return every page of the app by name."""
    return {name: title for entries in sections().values() for name, title in entries}


@cache
def folder() -> Path:
    """Return where the pages' scripts lie: beside the package, or inside it where it is installed."""
    places = (_PACKAGE.parent / "pages", _PACKAGE / "_app/pages")
    return next(place for place in places if (place / "home.py").is_file())


def page(name: str, title: str = "") -> st.navigation.StreamlitPage:  # type: ignore[name-defined]
    """Return the page as Streamlit links to it; its own title is looked up unless given."""
    file, title = folder() / f"{name}.py", title or titles()[name]
    return st.Page(file, title=title, url_path="" if name == "home" else name, default=name == "home")


def link(
    name: str, label: str, icon: str = "arrow_forward", query: Mapping[str, str] | None = None, **options: Any
) -> None:
    """Draw a link to a page of this session. ``query`` is its address's, ``options`` are Streamlit's."""
    st.page_link(page(name), label=label, icon=f":material/{icon}:", query_params=query, **options)


def go_to(name: str, query: Mapping[str, str] | None = None) -> None:
    """Leave for a page."""
    st.switch_page(page(name), query_params=query)


def navigating() -> None:
    """Note that the app's own navigation is at work."""
    global _navigated
    _navigated = True


def open_page() -> None:
    """Begin a page. Where Streamlit discovers pages by itself, as AppTest does, run the app instead.

    Then the app is run from here: its navigation finds the same page by the address, and from that moment on Streamlit
    goes through the app by itself.
    """
    if not _navigated:
        runpy.run_path(str(MAIN), run_name="__main__")
        st.stop()
