"""Compare: choose methods, watch their runs, and read which conclusions they allow."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import streamlit as st

from peft_lab.core import units
from peft_lab.core.errors import PeftLabError
from peft_lab.core.form import Form, choice
from peft_lab.models.catalogue import model_title
from peft_lab.studies.compare import results, store
from peft_lab.studies.compare.results import AXES
from peft_lab.studies.compare.shipped import all_shipped
from peft_lab.studies.compare.store import Comparison
from peft_lab.training.tasks.own import task_title
from peft_lab.ui import pages, state
from peft_lab.ui.compare import landscape, published
from peft_lab.ui.compare.results import show
from peft_lab.ui.compare.setup import SCOPE, CompareForm, StudyControls
from peft_lab.ui.components.form import Controls
from peft_lab.ui.components.frame import tabs
from peft_lab.ui.components.knobs import apart
from peft_lab.ui.foreign import plain
from peft_lab.ui.runs.study import start_study, watch_study

#: What the address says of a part: each choice with its default.
Address = dict[str, tuple[Any, Any]]
Readers = dict[str, Callable[[str], None]]
TAB = "tab"
RUNS, RATES, PUBLISHED = "Side by side", "Learning rates", "Published"
TITLES = {title.lower(): title for title in (RUNS, RATES, PUBLISHED)}


def compare_page() -> None:
    pages.open_page()
    state.read_address(
        SCOPE,
        _controls().readers()
        | StudyControls(CompareForm, SCOPE).readers()
        | _opening(RATES, landscape.landscape_controls().readers())
        | _opening(PUBLISHED, published.readers()),
    )
    st.title("Compare")
    address: Address = {}
    drawn = {RUNS: _runs, RATES: landscape.landscape_section, PUBLISHED: published.section}

    def keep(draw: Callable[[], Address]) -> Callable[[], None]:
        return lambda: address.update(draw())

    tab = tabs(SCOPE, {title: keep(draw) for title, draw in drawn.items()}, TITLES[_controls().value(TAB)])
    state.remember(SCOPE, TAB, tab.lower())
    # Of the closed tabs the address says nothing: it opens what is seen.
    state.write_address({TAB: (tab.lower(), RUNS.lower())} | address)


@dataclass(frozen=True)
class PageForm(Form):
    """The open tab, the comparison shown, and the two figures drawn against each other."""

    tab: str = choice(RUNS.lower(), "Tab", "", TITLES, reader=str.lower)
    comparison: str = choice("", "Comparison", "", lambda: _titles())
    x: str = choice(results.DEFAULT_AXES[0], "Horizontal axis", "", dict.fromkeys(AXES, ""), noun="axis")
    y: str = choice(results.DEFAULT_AXES[1], "Vertical axis", "", dict.fromkeys(AXES, ""), noun="axis")


def _controls() -> Controls[PageForm]:
    return Controls(PageForm, SCOPE, lambda: PageForm(comparison=next(iter(_titles()), "")))


def _opening(title: str, readers: Readers) -> Readers:
    """Return readers that also open the part's tab, even if the URL's value is invalid."""

    def opened(take: Callable[[str], None]) -> Callable[[str], None]:
        def both(text: str) -> None:
            state.remember(SCOPE, TAB, title.lower())
            take(text)

        return both

    return {name: opened(take) for name, take in readers.items()}


def _runs() -> Address:
    st.markdown(
        "Compare methods on the same data, in the same order, with several seeds. The runs are trained one after "
        "another and also appear on the Runs page. A run that already exists is reused."
    )
    try:
        _page()
    except PeftLabError as error:
        st.error(plain(error))
        return {}
    return StudyControls(CompareForm, SCOPE).address() | _controls().address((TAB,))


def _page() -> None:
    titles, form = _titles(), StudyControls(CompareForm, SCOPE)
    with st.expander("New comparison", expanded=not titles or form.misread(), icon=":material/add:"):
        _new(form)
    if not titles:
        st.info(
            "No comparisons yet. Choose settings above and press Compare. Published results are in the tab "
            "*Published*."
        )
        return
    controls = _controls()
    shown: str = controls.draw("comparison", options=titles)
    controls.remember("comparison", shown)  # also when a newer one comes first
    shipped = all_shipped().get(shown)
    if shipped is not None and not (store.root() / shown).exists():
        show(shipped, controls)
        return
    comparison = store.get(shown)
    watch_study(comparison)
    show(results.document(comparison), controls)


def _new(controls: StudyControls[CompareForm]) -> None:
    controls.draw_all()
    plan = controls.planned(lambda: controls.form().plan())
    if plan is None:
        return
    done = len(Comparison(plan.id, store.root() / plan.id).standing(plan).done)
    start_study(SCOPE, "Compare", len(plan.cells), plan.request.steps, done, lambda: store.keep(plan))


def _titles() -> dict[str, str]:
    titles = {}
    for comparison in store.comparisons():
        try:
            titles[comparison.id] = _title(vars(comparison.plan.request), "made here")
        except PeftLabError as error:
            titles[comparison.id] = str(error)
    for identity, document in all_shipped().items():
        titles.setdefault(identity, _title(document["plan"], "comes with the app"))
    return apart(titles)


def _title(plan: dict[str, Any], where: str) -> str:
    return (
        f"{model_title(plan['model'])} · {task_title(plan['task'])} · {len(plan['methods'])} methods · "
        f"{plan['steps']:,} steps · {units.several(len(plan['seeds']), 'seed')} · {where}"
    )
