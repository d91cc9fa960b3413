"""Compare: choose methods, watch them run one after another, and read what can and cannot be concluded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import streamlit as st

from peft_lab.compare import pareto, results, store
from peft_lab.compare.pareto import AXES
from peft_lab.compare.plan import ComparisonPlan
from peft_lab.compare.shipped import all_shipped
from peft_lab.errors import PeftLabError, UnknownName
from peft_lab.models.catalogue import model_title
from peft_lab.queue import limits
from peft_lab.tasks.titles import task_title
from peft_lab.ui import pages, state
from peft_lab.ui.compare import landscape, published, setup
from peft_lab.ui.compare.setup import SCOPE
from peft_lab.ui.compare.showing import show
from peft_lab.ui.compare.watching import begin, watch
from peft_lab.ui.components.apart import apart
from peft_lab.ui.components.tabs import tabs
from peft_lab.ui.foreign import plain

#: What the address says of a part: each choice with its default.
Address = dict[str, tuple[Any, Any]]
Readers = dict[str, Callable[[str], None]]
TAB = "tab"
RUNS, RATES, PUBLISHED = "Side by side", "Learning rates", "Published"


def compare_page() -> None:
    pages.open_page()
    state.read_address(
        SCOPE,
        {TAB: _take_tab}
        | setup.readers()
        | {"comparison": _take_comparison, "x": _axis("x"), "y": _axis("y")}
        | _opening(RATES, landscape.readers())
        | _opening(PUBLISHED, published.readers()),
    )
    st.title("Compare")
    sections: dict[str, Address] = {}
    drawn = {RUNS: _runs, RATES: landscape.section, PUBLISHED: published.section}

    def keep(title: str) -> Callable[[], None]:
        return lambda: sections.update({title: drawn[title]()})

    wanted = str(state.remembered(SCOPE, TAB, RUNS.lower()))
    start = next(title for title in drawn if title.lower() == wanted)
    tab = tabs(SCOPE, {title: keep(title) for title in drawn}, start)
    state.remember(SCOPE, TAB, tab.lower())
    # Of the closed tabs the address says nothing: it opens what is seen.
    state.write_address({TAB: (tab.lower(), RUNS.lower())} | sections.get(tab, {}))


def _take_tab(text: str) -> None:
    known = [title.lower() for title in (RUNS, RATES, PUBLISHED)]
    if text.lower() not in known:
        raise UnknownName("tab", text[:60], known, "tab")
    state.remember(SCOPE, TAB, text.lower())


def _opening(title: str, readers: Readers) -> Readers:
    """Readers of a part's choices: an address that makes one of them opens the part's tab, also where it is misread."""

    def opened(take: Callable[[str], None]) -> Callable[[str], None]:
        def both(text: str) -> None:
            state.remember(SCOPE, TAB, title.lower())
            take(text)

        return both

    return {name: opened(take) for name, take in readers.items()}


def _runs() -> Address:
    """The comparisons made here, and those that come with the app; what the address has to say of them."""
    st.markdown(
        "Compare methods on the same data in the same order, with several seeds each. They run one after another; "
        "every run is also on the Runs page, and a run that already exists is not repeated."
    )
    try:
        shown = _page()
    except PeftLabError as error:
        st.error(plain(error))
        return {}
    return (
        setup.address()
        | {"comparison": (shown, _first(_titles()))}
        | {
            name: (state.remembered(SCOPE, name, default), default)
            for name, default in zip("xy", pareto.DEFAULT, strict=True)
        }
    )


def _page() -> str:
    """Draw everything; the id of the comparison that is shown, empty for none."""
    titles = _titles()
    with st.expander("New comparison", expanded=not titles or setup.misread(), icon=":material/add:"):
        _new()
    if not titles:
        st.info(
            "Nothing has been compared here yet: choose above and press Compare. What others published stands in its "
            "own tab."
        )
        return ""
    shown = _choose(titles)
    shipped = all_shipped().get(shown)
    if shipped is not None and not (store.root() / shown).exists():
        show(shipped)
        return shown
    comparison = store.get(shown)
    plan = comparison.plan
    watch(comparison, plan)
    show(results.document(comparison))
    return shown


def _new() -> None:
    plan = setup.form()
    if plan is None:
        return
    done, total = setup.already_done(plan), len(plan.cells)
    kept = f", {done} of them already done" if done else ""
    left, right = st.columns([1, 4], vertical_alignment="center")
    refused = limits.refusal_of_steps(plan.request.steps)
    pressed = left.button(
        "Compare", type="primary", key="compare-start", width="stretch", disabled=refused is not None
    )
    right.markdown(refused or f"{total} runs of {plan.request.steps:,} steps{kept}.")
    if pressed:
        try:
            comparison = store.keep(plan)
            begin(comparison)
        except PeftLabError as error:
            st.error(plain(error))
            return
        state.renew(SCOPE)
        state.remember(SCOPE, "comparison", comparison.id)
        st.rerun()


def _titles() -> dict[str, str]:
    """Comparisons made here, newest first, then those that come with the app."""
    titles = {}
    for comparison in store.comparisons():
        try:
            titles[comparison.id] = _title(_described(comparison.plan), "made here")
        except PeftLabError as error:
            titles[comparison.id] = str(error)
    for identity, document in all_shipped().items():
        titles.setdefault(identity, _title(document["plan"], "comes with the app"))
    return apart(titles)


def _described(plan: ComparisonPlan) -> dict[str, Any]:
    request = plan.request
    return {
        "model": request.model,
        "task": request.task,
        "steps": request.steps,
        "seeds": request.seeds,
        "methods": request.methods,
    }


def _title(plan: dict[str, Any], where: str) -> str:
    seeds = len(plan["seeds"])
    return (
        f"{model_title(plan['model'])} · {task_title(plan['task'])} · {len(plan['methods'])} methods · "
        f"{plan['steps']:,} steps · "
        f"{seeds} seed{'s' if seeds > 1 else ''} · {where}"
    )


def _first(titles: dict[str, str]) -> str:
    return next(iter(titles), "")


def _choose(titles: dict[str, str]) -> str:
    problem = state.address_problem(SCOPE, "comparison")
    index = state.one_of(SCOPE, "comparison", list(titles), _first(titles))
    shown: str = st.selectbox(
        "Comparison",
        list(titles),
        index=index,
        format_func=lambda identity: titles[identity],
        key=state.widget_key(SCOPE, "comparison"),
    )
    if problem:
        st.markdown(f":red[:material/link_off: {plain(problem)}]")
    state.remember(SCOPE, "comparison", shown)
    return shown


def _take_comparison(text: str) -> None:
    if text not in _titles():
        raise UnknownName("comparison", text[:80], _titles(), "comparison")
    state.remember(SCOPE, "comparison", text)


def _axis(name: str) -> Any:
    def take(text: str) -> None:
        if text not in AXES:
            raise UnknownName("axis", text[:40], AXES, name)
        state.remember(SCOPE, name, text)

    return take
