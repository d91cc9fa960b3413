"""A method's page as a bench: title and figures in a strip, the tabs under it, then knobs, block and the open tab.

Page files only add the words."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from peft_lab import experiments, since
from peft_lab.counting.count import CountReport, count
from peft_lab.errors import BadInput, PeftLabError, RunError, UnknownName
from peft_lab.methods import get_method
from peft_lab.methods.base import Problem
from peft_lab.queue import calibrating
from peft_lab.runs import store
from peft_lab.ui import pages, state
from peft_lab.ui.components.knobs import Choice, address, knobs_card, readers
from peft_lab.ui.components.tabs import tab_list
from peft_lab.ui.components.waiting import come_back, is_open
from peft_lab.ui.foreign import plain
from peft_lab.ui.method.drawing import drawing, strip
from peft_lab.ui.method.inside import view_of
from peft_lab.ui.method.peak import expect
from peft_lab.ui.method.sections.bar import train_bar
from peft_lab.ui.method.sections.duration import ask_work
from peft_lab.ui.method.sections.headline import headline
from peft_lab.ui.method.sections.idea import Words
from peft_lab.ui.method.sections.idea import idea as idea_section
from peft_lab.ui.method.sections.memory import memory
from peft_lab.ui.method.sections.modules import modules
from peft_lab.ui.method.sections.parameters import parameters
from peft_lab.ui.method.sections.settings import training_address, training_readers
from peft_lab.ui.method.sections.since import what_changed
from peft_lab.ui.method.sections.take_away import take_away
from peft_lab.ui.method.sections.train import train
from peft_lab.ui.method.sections.try_it import try_it
from peft_lab.ui.runs.shown import TRAIN, show_run
from peft_lab.ui.server.browser_mark import keep_mark
from peft_lab.workers import inspector

__all__ = ["Words", "method_page"]  # all that a page file needs
SINCE = "What changed since"
TITLES = ("Idea", TRAIN, "Look inside", "Memory", "Parameters", "Modules", "Try it", SINCE, "Take away")
NEEDS_COUNT = ("Modules", "Parameters")
NEEDS_VALID = (*NEEDS_COUNT, "Memory", TRAIN)
# seconds that a page which is drawn again waits for its count; one that is opened does not wait
PATIENCE = 1.0
_DRAWN = "bench-drawn"


def method_page(slug: str, first_model: str, words: Words) -> None:
    """Draw the whole page. ``first_model`` is the live model on which the method shows best."""
    pages.open_page()
    spec = get_method(slug)
    state.read_address(
        slug,
        readers(spec, first_model)
        | training_readers(slug)
        | {"run": lambda text: _take_run(slug, text)}
        | {"tab": lambda text: _take_tab(slug, text)},
    )
    with st.container(key="bench-top"):
        with st.container(key="bench-title", gap=None):
            st.title(spec.title)
            st.markdown(spec.summary)
            for name in ("run", "tab"):  # in the grid below they would stand under everything
                problem = state.address_problem(slug, name)
                if problem:
                    st.markdown(f":red[:material/link_off: From the address: {plain(problem)}]")
        figures = st.container()
    with st.container(key="bench"):
        # first of all, as one sees them: by Tab the list is reached, then what it opens, then knobs and drawing
        tab, open_tab = _tabs(slug)
        with st.container(key="bench-left"):
            with st.container(border=True, key="knobs"):
                choice = knobs_card(spec, first_model)
            foot = st.container(key="bench-foot")
        counted = _ask(choice)
        report, missing, refused = _count(counted, PATIENCE if st.session_state.get(_DRAWN) == slug else 0)
        if refused:
            choice = replace(choice, problems=(*choice.problems, Problem("model", refused)))
        expected = expect(choice)
        if expected.answer is not None and is_open(expected.answer):
            missing.append(expected.answer)
        with figures:
            if refused:
                st.error(plain(refused))
            headline(choice, report, expected)
        with st.container(key="bench-strip"):
            strip(choice, report)
        with st.container(border=True, key="bench-block"):
            selected = drawing(choice, report)
        with open_tab:
            _section(tab, choice, words, report, selected)
        work = ask_work(choice)
        missing += [one for one in (work, calibrating.under_way()) if one is not None and is_open(one)]
        with foot:
            train_bar(choice, tab == TRAIN, work)
    if report is not None:
        st.session_state[_DRAWN] = slug
    come_back(missing)
    keep_mark()
    state.write_address(
        address(choice, first_model) | training_address(choice) | {"tab": (tab.lower(), "idea")}
    )


def _titles(slug: str) -> list[str]:
    """The tabs that the method has, in order."""
    missing = {
        "Look inside": view_of(slug) is None,
        "Try it": not experiments.of_method(slug),
        SINCE: not since.of_method(slug),
    }
    return [title for title in TITLES if not missing.get(title, False)]


def _section(
    title: str, choice: Choice, words: Words, report: CountReport | None, selected: str | None
) -> None:
    """Draw what that tab shows, or why it cannot."""
    slug = choice.spec.slug
    view = view_of(slug)
    sections: dict[str, Callable[[], None]] = {
        "Idea": lambda: idea_section(choice, words),
        TRAIN: lambda: train(choice),
        "Memory": lambda: memory(choice),
        "Parameters": lambda: parameters(choice, _needed(report)),
        "Modules": lambda: modules(choice, _needed(report), selected),
        "Try it": lambda: try_it(experiments.of_method(slug)),
        SINCE: lambda: what_changed(slug),
        "Take away": lambda: take_away(choice),
    }
    if view is not None:
        sections["Look inside"] = lambda: view(choice)
    if not choice.valid and title in NEEDS_VALID:
        st.info("One of the settings does not work. The red line under it says why.")
    elif report is None and title in NEEDS_COUNT:
        st.markdown("Counting…")
    else:
        sections[title]()


def _needed(report: CountReport | None) -> CountReport:
    assert report is not None  # tabs that need it are not drawn without it
    return report


def _ask(choice: Choice) -> Future[CountReport] | None:
    if not choice.valid:
        return None
    return inspector.submit(count, choice.entry.name, choice.spec.slug, dict(choice.values))


def _count(
    asked: Future[CountReport] | None, patience: float
) -> tuple[CountReport | None, list[Future[Any]], str]:
    """The count, waited for briefly; what the page has to come back for, however soon it comes then, while the counting
    process is still at it; and why there is none."""
    if asked is None:
        return None, [], ""
    try:
        return asked.result(timeout=patience), [], ""
    except TimeoutError:
        return None, [asked], ""
    except PeftLabError as error:
        return None, [], str(error)


def _take_tab(slug: str, text: str) -> None:
    known = [title.lower() for title in TITLES]
    if text.lower() not in known:
        raise UnknownName("tab", text[:60], known, "tab")
    state.remember(slug, "tab", text)


def _take_run(slug: str, text: str) -> None:
    """Show the run that the address names. Raises BadInput where there is none of this method."""
    try:
        run = store.get(text)
    except RunError:
        raise BadInput("The run that it names is not here.", "run") from None
    try:
        method = run.spec.method
    except RunError as error:
        raise BadInput(str(error), "run") from None
    if method != slug:
        trained = get_method(method).title
        raise BadInput(f"The run '{text}' trained {trained}: it is shown on the page of that method.", "run")
    show_run(slug, text)


def _tabs(slug: str) -> tuple[str, DeltaGenerator]:
    """Draw the list of tabs: the open one's title, and the place for what it shows."""
    titles = _titles(slug)
    wanted = str(state.remembered(slug, "tab", "idea")).lower()
    start = next((title for title in titles if title.lower() == wanted), titles[0])
    title, place = tab_list(slug, titles, start, tells=False)
    state.remember(slug, "tab", title.lower())
    return title, place
