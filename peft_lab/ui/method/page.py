"""A method's page as a bench: title and figures in a strip, the tabs under it, then knobs, block and the open tab.

Page files only add the words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import streamlit as st

from peft_lab.core import inspector
from peft_lab.core.errors import BadInput, RunError
from peft_lab.methods import get_method
from peft_lab.methods.base import Problem
from peft_lab.methods.counting.count import CountReport, count
from peft_lab.runs import store, waiting
from peft_lab.studies import experiments
from peft_lab.ui import pages, state, web
from peft_lab.ui.components import figures
from peft_lab.ui.components.frame import address_line
from peft_lab.ui.components.knobs import Choice, address, knobs_card, readers
from peft_lab.ui.components.waiting import Look, come_back, look
from peft_lab.ui.foreign import plain
from peft_lab.ui.method import tabs
from peft_lab.ui.method.drawing import drawing, expect, fold_button, folded, folding, strip
from peft_lab.ui.method.idea import Words, headline, idea, try_it, what_changed
from peft_lab.ui.method.inside import view_of
from peft_lab.ui.method.parts import memory, modules, parameters
from peft_lab.ui.method.settings import ask_duration, training_address, training_readers
from peft_lab.ui.method.settings import foot as draw_foot
from peft_lab.ui.method.take_away import take_away
from peft_lab.ui.method.train import train
from peft_lab.ui.runs.shown import TRAIN, show_run
from peft_lab.ui.server.sessions import keep_mark

__all__ = ["Words", "method_page"]  # all that a page file needs
NEEDS_VALID = ("Modules", "Parameters", "Memory", TRAIN)
# seconds that a page which is drawn again waits for its count; one that is opened does not wait
PATIENCE = 1.0
_DRAWN = "bench-drawn"


def method_page(slug: str, first_model: str, words: Words) -> None:
    """Draw the whole page. ``first_model`` is the live model that shows the method best."""
    pages.open_page()
    spec = get_method(slug)
    state.read_address(
        slug,
        readers(spec, first_model)
        | training_readers(slug)
        | {"run": lambda text: _take_run(slug, text)}
        | tabs.readers(slug),
    )
    with st.container(key="bench-top"):
        with st.container(key="bench-title", gap=None):
            skip = st.empty()
            st.title(spec.title)
            figures.explained(spec.summary)
            for name in ("run", "tab", "part"):  # in the grid below they would stand under everything
                address_line(slug, name)
        headline_place = st.container()
    with st.container(key="bench"):
        # first of all, as one sees them: by Tab the list is reached, then what it opens, then knobs and drawing
        tab, open_tab = tabs.tabs(slug)
        if not folded(tab):
            skip.html('<a class="skip" href="#knobs">Skip to settings</a>')
        # its button marks the bench as folded: before the columns, which else would stand there for a moment
        with st.container(key="bench-strip"):
            fold = folding(tab)
        with st.container(key="bench-left"):
            fold_button(tab)
            with st.container(border=True, key="knobs"):
                choice = knobs_card(spec, first_model)
            foot = st.container(key="bench-foot")
        counted: Look[CountReport] = Look()
        if choice.valid:
            asked = inspector.submit(count, choice.entry.name, slug, dict(choice.values))
            counted = look(asked, PATIENCE if st.session_state.get(_DRAWN) == slug else 0)
        report = counted.answer
        if counted.error is not None:
            choice = replace(choice, problems=(*choice.problems, Problem("model", str(counted.error))))
        expected = expect(choice)
        with headline_place:
            if counted.error is not None:
                st.error(plain(counted.error))
            headline(choice, report, expected)
        with fold:
            strip(choice, report, expected.spec)
        with st.container(border=True, key="bench-block"):
            selected = drawing(choice, report)
        with open_tab:
            part = tabs.part_of(slug, tab)
            _section(part, choice, words, report, selected)
        work = ask_duration(choice)
        undrawn: list[Look[Any]] = [counted, expected.answer or Look(), work]
        measuring = waiting.calibrating_under_way()
        if measuring is not None and not measuring.done():
            undrawn.append(Look(open=measuring))
        with foot:
            draw_foot(choice, tab == TRAIN, work)
    if report is not None:
        st.session_state[_DRAWN] = slug
    come_back(*undrawn)
    keep_mark()
    state.write_address(
        address(choice, first_model) | training_address(choice) | tabs.address(slug, tab, part)
    )


def _section(
    title: str, choice: Choice, words: Words, report: CountReport | None, selected: str | None
) -> None:
    """Draw the tab's content, or the reason why it cannot be drawn."""
    slug = choice.spec.slug
    view = view_of(slug)
    sections: dict[str, Callable[[], None]] = {
        "Idea": lambda: idea(choice, words),
        TRAIN: lambda: train(choice),
        "Memory": lambda: memory(choice),
        tabs.TRY_IT: lambda: try_it(experiments.of_method(slug)),
        tabs.SINCE: lambda: what_changed(slug),
        tabs.EXPORT: lambda: take_away(choice, selected),
    }
    if view is not None:
        sections[tabs.PICTURE] = lambda: view(choice)
    if report is not None:
        sections["Parameters"] = lambda: parameters(choice, report)
        sections["Modules"] = lambda: modules(choice, report, selected)
    if not choice.valid and title in NEEDS_VALID:
        st.info("One of the settings does not work; the red line below it says why.")
    elif title in sections:
        sections[title]()
    else:
        st.markdown("Counting…")


def _take_run(slug: str, text: str) -> None:
    """Show the URL's run. Raises BadInput if it is missing or of another method."""
    try:
        run = store.get(text)
    except RunError:
        raise BadInput("The run in this address does not exist here.", "run") from None
    try:
        spec = run.spec
    except RunError as error:
        raise BadInput(str(error), "run") from None
    if spec.method != slug:
        trained = get_method(spec.method).title
        raise BadInput(f"The run '{text}' trained {trained}, so it is shown on that method's page.", "run")
    show_run(slug, text)
    if "task" not in st.query_params:
        state.remember("shared", "task", spec.task)


# ----------------------------------------
# The bench's layout as CSS: a strip with title and figures, the tabs, then knobs, block and the open tab side by
# side.
#
# Streamlit's tabs hold their own contents; the grid takes them apart (``display: contents``), so that the list of
# tabs stands over all columns and the open one's contents stand in the last. Three widths: three columns, two
# columns with the contents under them, and a phone's one column with the block as a strip on top and Train at the
# bottom.


WIDE = 1180  # CSS pixels of the window: from here on the open tab stands beside the block
PHONE = 640  # as Streamlit's own columns break
COUNTED = 36  # of them without the drawing
STRIP = 154  # of a phone's 844 pixels: with the header above it less than a quarter stays on top

_BENCH = web.read("bench.css", ABOVE_PHONE=PHONE + 1)
_NARROWER = web.read("bench_narrower.css", BELOW_WIDE=WIDE - 1, PHONE=PHONE, STRIP=STRIP, COUNTED=COUNTED)

#: In the page that the browser loads (:mod:`peft_lab.ui.shell.dress`).
BENCH_CSS = _BENCH + _NARROWER
