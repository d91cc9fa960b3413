"""Page configuration, navigation, and opening any page by its own address."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

from peft_lab.methods import all_methods
from peft_lab.ui import theme

_OTHER = {
    "Start": (("home", "Home"), ("tour", "Guided tour")),
    "Lab": (("compare", "Compare"), ("memory", "Memory"), ("runs", "Runs")),
    "Decide": (("choose", "Choose a method"),),
    "Interview": (
        ("practice", "Practice"),
        ("misconceptions", "Misconceptions"),
        ("fact_check", "Fact check"),
    ),
    "Teach": (("teach", "For teachers"),),
}
_PACKAGE = Path(__file__).parents[1]
#: The script that draws every page; see app.py.
MAIN = Path(__file__).with_name("main.py")
# In an installed package they lie inside it.
_PAGES = next(
    folder
    for folder in (_PACKAGE.parent / "pages", _PACKAGE / "_app/pages")
    if (folder / "home.py").is_file()
)
SIDEBAR = 230  # pixels: every page's name fits, and the page has the rest
_navigated = False


def method_pages() -> tuple[str, ...]:
    """Slugs of the methods that have a page of their own: all but the full fine-tuning reference."""
    return tuple(slug for slug in all_methods() if slug != "full")


def titles() -> dict[str, str]:
    """Every page of the app by name."""
    other = {name: title for entries in _OTHER.values() for name, title in entries}
    return other | {slug: all_methods()[slug].title for slug in method_pages()}


@st.cache_resource
def _start_services() -> bool:
    """Once per server: start the processes that count and train, so that the first question is answered warm."""
    from peft_lab.workers import inspector

    inspector.warm()
    return True


def page(name: str, title: str) -> st.navigation.StreamlitPage:  # type: ignore[name-defined]
    file = _PAGES / f"{name}.py"
    return st.Page(file, title=title, url_path="" if name == "home" else name, default=name == "home")


def run_app() -> None:
    """What every run does: configure, build the navigation from the registry, run the chosen page."""
    from peft_lab.ui import surroundings  # its parts link to pages, which are named here

    global _navigated
    asked = asked_page()
    _navigated = True
    st.set_page_config(
        page_title="PEFT Lab",
        page_icon=str(Path(__file__).with_name("favicon.png")),
        layout="wide",
        initial_sidebar_state=SIDEBAR,
    )
    st.logo(Path(__file__).with_name("logo.svg"), size="large")
    _start_services()
    sections = {
        "Start": [page(*entry) for entry in _OTHER["Start"]],
        "Methods": [page(slug, all_methods()[slug].title) for slug in method_pages()],
        "Lab": [page(*entry) for entry in _OTHER["Lab"]],
        "Decide": [page(*entry) for entry in _OTHER["Decide"]],
        "Interview": [page(*entry) for entry in _OTHER["Interview"]],
        "Teach": [page(*entry) for entry in _OTHER["Teach"]],
    }
    keep_page(asked)
    chosen = st.navigation(sections, expanded=True)
    theme.apply()
    surroundings.draw(chosen.url_path or "home", chosen.run)


def asked_page() -> str:
    """What this run was asked for, as Streamlit identifies pages; empty for a page opened by its address, which has
    only a name yet. To be read before anything else."""
    with suppress(AttributeError):
        context = get_script_run_ctx()
        if context is not None and context.page_script_hash != context.pages_manager.main_script_hash:
            return context.page_script_hash
    return ""


def keep_page(asked: str) -> None:
    """Let the navigation choose the page that this run was asked for.

    Which page is meant stands in the session, and a run of the page before that is about to start over (as it does
    when an answer came) still writes its own there: a click on a link would then lead to where one already is. These
    are Streamlit's inner parts; under a version that has them no more, nothing is done.
    """
    with suppress(AttributeError):
        context = get_script_run_ctx()
        if context is not None and asked:
            context.pages_manager.set_script_intent(asked, "")


def open_page() -> None:
    """First line of every page. Where Streamlit discovers pages by itself, as AppTest does beside ``app.py``, it runs a
    page past the app.

    Then the app is run from here: its navigation finds the same page by the address, and from that moment on Streamlit
    goes through the app by itself.
    """
    if not _navigated:
        run_app()
        st.stop()
