"""A method's page as a bench: title and figures in a strip, the tabs under it, then knobs, block and the open tab.

Page files only add the words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from peft_lab.core.errors import BadInput, RunError, UnknownName
from peft_lab.interview import since
from peft_lab.methods import get_method
from peft_lab.methods.base import Problem
from peft_lab.methods.counting.count import CountReport, count
from peft_lab.runs import calibrating, store
from peft_lab.studies import experiments
from peft_lab.ui import pages, state
from peft_lab.ui.components.frame import tab_list
from peft_lab.ui.components.knobs import Choice, address, knobs_card, readers
from peft_lab.ui.components.waiting import Look, come_back, look
from peft_lab.ui.foreign import plain
from peft_lab.ui.method.drawing import drawing, expect, strip
from peft_lab.ui.method.idea import Words, headline, idea, what_changed
from peft_lab.ui.method.inside import view_of
from peft_lab.ui.method.parts import memory, modules, parameters
from peft_lab.ui.method.settings import ask_duration, train_bar, training_address, training_readers
from peft_lab.ui.method.take_away import take_away
from peft_lab.ui.method.train import train
from peft_lab.ui.method.try_it import try_it
from peft_lab.ui.runs.shown import TRAIN, show_run
from peft_lab.ui.server.sessions import keep_mark
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
        counted = _count(choice, PATIENCE if st.session_state.get(_DRAWN) == slug else 0)
        report = counted.answer
        if counted.error is not None:
            choice = replace(choice, problems=(*choice.problems, Problem("model", str(counted.error))))
        expected = expect(choice)
        with figures:
            if counted.error is not None:
                st.error(plain(counted.error))
            headline(choice, report, expected)
        with st.container(key="bench-strip"):
            strip(choice, report)
        with st.container(border=True, key="bench-block"):
            selected = drawing(choice, report)
        with open_tab:
            _section(tab, choice, words, report, selected)
        work = ask_duration(choice)
        undrawn: list[Look[Any]] = [counted, expected.answer or Look(), work]
        measuring = calibrating.under_way()
        if measuring is not None and not measuring.done():
            undrawn.append(Look(open=measuring))
        with foot:
            train_bar(choice, tab == TRAIN, work)
    if report is not None:
        st.session_state[_DRAWN] = slug
    come_back(*undrawn)
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
        "Idea": lambda: idea(choice, words),
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


def _count(choice: Choice, patience: float) -> Look[CountReport]:
    """Return the count, waited for briefly; an empty look for settings that do not work."""
    if not choice.valid:
        return Look()
    return look(inspector.submit(count, choice.entry.name, choice.spec.slug, dict(choice.values)), patience)


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

_BENCH = """
.stApp:has(.st-key-bench-top) [data-testid="stHeader"] { background: transparent; height: 2.5rem; min-height: 0;
  pointer-events: none; }
.stApp:has(.st-key-bench-top) [data-testid="stHeader"] * { pointer-events: auto; }
.block-container:has(.st-key-bench-top) { padding: 1.6rem 1.25rem 2rem; max-width: 1760px; }
.block-container:has(.st-key-bench-top) > [data-testid="stVerticalBlock"] { gap: 0.5rem; }

/* -- the strip: title and four figures -- */
.st-key-bench-top { display: grid; grid-template-columns: minmax(11rem, 1fr) minmax(0, 3.6fr); gap: 0.25rem 1rem;
  align-items: start; min-height: 8.2rem; }
.st-key-bench-title h1 { font-size: 2rem !important; padding: 0; line-height: 1.15; white-space: nowrap; }
:is(.st-key-bench-title, .st-key-knobs-head, .st-key-bench-block) [data-testid="stMarkdownContainer"] {
  margin-bottom: 0; }
.st-key-bench-title p { font-size: 0.86rem; line-height: 1.35; }
.st-key-headline { border: 1px solid var(--peft-frame); border-radius: 12px; }
.st-key-headline > [data-testid="stLayoutWrapper"] > [data-testid="stHorizontalBlock"] { gap: 0; }
.st-key-headline [data-testid="stColumn"] + [data-testid="stColumn"] { border-left: 1px solid var(--peft-frame); }
.st-key-headline [data-testid="stColumn"] [data-testid="stLayoutWrapper"] > div {
  border: 0; padding: 0.5rem 0.75rem; gap: 0; min-height: 8rem; }
.st-key-headline [data-testid="stMetricLabel"] p { font-size: 0.78rem; }
.st-key-headline [data-testid="stMetricValue"] { font-size: 1.3rem; line-height: 1.35; }
.st-key-headline [data-testid="stMarkdown"] :is(p, small) { font-size: 0.78rem; line-height: 1.35; }
.st-key-headline [data-testid="stCaptionContainer"] p { font-size: 0.78rem; }

/* what is drawn again every second must not pale each time */
:is(.st-key-bench, .st-key-bench-top) [data-stale="true"] { opacity: 1 !important; }

/* -- the bench; its row of tabs has its place from the start -- */
.st-key-bench { display: grid; gap: 0.6rem 14px; align-items: start;
  grid-template-columns: 15rem minmax(20rem, 24fr) minmax(0, 25fr);
  grid-template-rows: minmax(2.5rem, auto) 1fr; grid-template-areas: "tabs tabs tabs" "knobs block work"; }
.st-key-bench > * { width: auto !important; min-width: 0; }
.st-key-bench > .stTabs, .st-key-bench > .stTabs > div { display: contents; }
.st-key-bench > .stTabs > div > [role="tablist"] { grid-area: tabs; gap: 1.35rem; }
.st-key-bench > .stTabs > div > [role="tabpanel"] { grid-area: work; min-width: 0; padding: 0; }
.st-key-bench > :has(> .st-key-bench-left) { grid-area: knobs; }
.st-key-bench > :has(> .st-key-bench-block) { grid-area: block; position: sticky; top: var(--peft-over, 12px);
  max-height: calc(100vh - var(--peft-over, 12px) - 12px); overflow-y: auto; }
.st-key-bench > :has(> .st-key-bench-strip) { display: none; }
.st-key-bench-left, .st-key-bench-left > * { gap: 0.5rem; }
.st-key-knobs, .st-key-bench-block { border-radius: 12px; padding: 0.8rem; gap: 0.5rem; }
/* the drawing reaches into its card's padding: its smallest type is 11 pixels high then at 390 and at 1280 */
.st-key-bench-block { --peft-block-out: 0.66rem; }
.st-key-knobs h3, .st-key-bench-block h3 { padding: 0; font-size: 1.1rem; }
.st-key-knobs [data-testid="stCaptionContainer"] { margin-top: -0.35rem; }
.st-key-knobs [data-testid="stCaptionContainer"] p { font-size: 0.78rem; line-height: 1.35; }
.st-key-knobs [data-testid="stMarkdown"] p { font-size: 0.84rem; line-height: 1.4; }
.st-key-bench > :has(> .st-key-bench-left) { position: relative; }
.st-key-bench-left > :has(> .st-key-bench-foot) { position: sticky; bottom: 0; z-index: 3; }
.st-key-bench-foot { background: var(--peft-page); padding: 0.5rem 0 0.75rem; gap: 0.25rem; }
.st-key-bench-foot:not(:has(> *)) { display: none; }
.st-key-bench-foot [data-testid^="stBaseButton-primary"] { min-height: 44px; }
.st-key-bench [role="tabpanel"] { font-size: 0.95rem; }
.st-key-bench [role="tabpanel"] :is(p, li) { font-size: 0.95rem; }
/* a text whose formulas are not there yet */
.st-key-bench [role="tabpanel"] .st-key-idea-text [data-testid="stElementContainer"]:has([data-testid="stSkeleton"]) {
  min-height: 16rem; }
/* a column as narrow as a phone's page stacks its own columns as a phone does */
.st-key-bench [role="tabpanel"] > [data-testid="stVerticalBlock"] { container-type: inline-size; }
@container (max-width: 620px) {
  .st-key-bench [role="tabpanel"] [data-testid="stHorizontalBlock"] { flex-wrap: wrap; }
  .st-key-bench [role="tabpanel"] [data-testid="stColumn"] { min-width: 100%; }
  .st-key-bench [role="tabpanel"] [data-testid="stColumn"]:has([data-testid="stNumberInput"]) { min-width: 9.5rem; }
  /* beside so few digits there is no room for "Press Enter to apply": it lay over them */
  .st-key-bench [role="tabpanel"] [data-testid="stNumberInput"] [data-testid="InputInstructions"] { display: none; }
  .st-key-bench [role="tabpanel"] [class*="-standing"] [data-testid="stHorizontalBlock"] { flex-wrap: nowrap; }
  .st-key-bench [role="tabpanel"] [class*="-standing"] [data-testid="stColumn"] { min-width: 0; }
  .st-key-bench [role="tabpanel"] [class*="-standing"] [data-testid="stColumn"]:last-child { flex: 0 0 6.5rem; }
}
"""
_NARROWER = f"""
@media (max-width: {WIDE - 1}px) {{
  .st-key-bench {{ grid-template-columns: 15rem minmax(0, 1fr); grid-template-rows: minmax(2.5rem, auto) auto auto;
    grid-template-areas: "tabs tabs" "knobs block" "work work"; }}
  .st-key-bench-top {{ grid-template-columns: minmax(0, 1fr); grid-template-rows: auto minmax(8.25rem, auto);
    align-items: start; }}
}}
@media (max-width: 768px) {{ .block-container:has(.st-key-bench-top) {{ padding-top: 3rem; }} }}
@media (max-width: {PHONE}px) {{
  .block-container:has(.st-key-bench-top) {{ padding: 3rem 1rem 6rem; }}
  .st-key-bench {{ grid-template-columns: minmax(0, 1fr);
    grid-template-areas: "strip" "tabs" "work" "knobs" "block"; }}
  .st-key-bench:has(.st-key-first-run) {{ grid-template-areas: "strip" "tabs" "knobs" "work" "block"; }}
  .st-key-bench, .st-key-bench:has(.st-key-first-run) {{ grid-template-rows: none; }}
  .stApp {{ --peft-strip: {STRIP}px; }}
  /* under the bar of a tour's stop only the count stays: header, bar and strip took a third of the screen */
  .stApp:has(.st-key-tour-bar) {{ --peft-strip: {COUNTED}px; }}
  .stApp:has(.st-key-tour-bar) .st-key-bench-strip [class*="st-key-strip-"] {{ display: none; }}
  /* what comes before the knobs is drawn after them: its room is kept, and they are below the window from the start */
  .st-key-bench:not(:has([role="tabpanel"])) {{
    grid-template-rows: var(--peft-strip) 5.5rem 100vh auto auto; }}
  .st-key-bench:has([role="tabpanel"]):not(:has(.st-key-bench-strip)) {{
    grid-template-rows: var(--peft-strip); }}
  .st-key-bench > .stTabs > div > [role="tablist"] {{ min-height: 5.5rem; }}
  .st-key-bench [role="tabpanel"] {{ min-height: 60vh; }}
  .st-key-bench [role="tabpanel"]:not(:has([data-testid="stElementContainer"])) {{ min-height: 100vh; }}
  .st-key-bench-top {{ grid-template-rows: auto minmax(14.4rem, auto); }}
  .st-key-bench > :has(> .st-key-bench-strip) {{ display: flex; grid-area: strip; position: sticky;
    top: calc(2.5rem + var(--peft-bar, 0px)); z-index: 4;
    background: var(--peft-page); overflow: hidden; border-bottom: 1px solid var(--peft-frame); }}
  .st-key-bench > :has(> .st-key-bench-strip > *) {{ height: var(--peft-strip); }}
  .st-key-bench-strip {{ gap: 0; }}
  .st-key-bench-strip p:has(> a) {{ display: flex; align-items: baseline; gap: 0.35rem; white-space: nowrap; }}
  .st-key-bench-strip a {{ margin-left: auto; font-size: 0.95rem; padding: 0.65rem 0 0.65rem 0.65rem;
    margin-block: -0.65rem; }}
  /* cut at the top, where the block goes on */
  .st-key-bench-strip [class*="st-key-strip-"] {{ mask-image: linear-gradient(transparent, black 18px); }}
  #knobs {{ scroll-margin-top: calc(var(--peft-strip) + 3.2rem + var(--peft-bar, 0px)); }}
  .st-key-bench-strip p {{ font-size: 1.15rem; margin: 0; }}
  .st-key-bench-strip [data-testid="stMarkdownContainer"] {{ margin: 0; }}
  .stApp:has(.st-key-bench-top) [data-testid="stHeader"] {{ background: var(--peft-page); }}
  .st-key-bench > :has(> .st-key-bench-left) {{ position: static; }}
  .st-key-bench > :has(> .st-key-bench-block) {{ position: static; max-height: none; }}
  .st-key-bench-left > :has(> .st-key-bench-foot) {{ position: fixed; inset: auto 0 0; z-index: 1000;
    border-top: 1px solid var(--peft-frame); background: var(--peft-page); padding: 0.6rem 1rem; }}
  .st-key-bench-foot {{ padding: 0; }}
  .st-key-bench-foot [data-testid^="stBaseButton-primary"] {{ min-height: 50px; }}
  .st-key-headline [data-testid="stColumn"]:nth-child(3) {{ border-left: 0; }}
  .st-key-headline [data-testid="stColumn"]:nth-child(n+3) {{ border-top: 1px solid var(--peft-frame); }}
  .st-key-headline [data-testid="stColumn"] [data-testid="stLayoutWrapper"] > div {{
    min-height: 7.1rem; padding: 0.4rem 0.6rem; }}
  .st-key-headline > [data-testid="stLayoutWrapper"] > [data-testid="stHorizontalBlock"] {{ gap: 0; }}
  .st-key-headline [data-testid="stColumn"] {{ flex: 1 1 50%; }}
  .st-key-bench [role="tablist"] [role="tab"] {{ height: 44px; }}
  .st-key-bench > .stTabs > div > [role="tablist"] {{ gap: 0 1rem; }}
  .st-key-bench-title h1 {{ font-size: 1.375rem !important; }}
  .st-key-knobs [data-testid="stCaptionContainer"] p {{ font-size: 0.84rem; }}
}}
"""

#: In the page that the browser loads (:mod:`peft_lab.ui.shell.dress`).
BENCH_CSS = _BENCH + _NARROWER
