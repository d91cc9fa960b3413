"""A method's page: headline, knobs beside the block drawing, the sections as tabs. Page files only add the words."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from peft_lab import experiments
from peft_lab.counting.count import CountReport, count
from peft_lab.drawing import TOKENS, strip_of
from peft_lab.errors import PeftLabError, UnknownName
from peft_lab.methods import get_method
from peft_lab.ui import pages, state
from peft_lab.ui.components.block import block
from peft_lab.ui.components.knobs import Choice, address, knobs_card, readers
from peft_lab.ui.components.part_details import detail
from peft_lab.ui.components.rows import just_chosen
from peft_lab.ui.components.tabs import tabs
from peft_lab.ui.components.waiting import come_back
from peft_lab.ui.foreign import plain
from peft_lab.ui.method.inside import view_of
from peft_lab.ui.method.peak import expect
from peft_lab.ui.method.sections.headline import headline
from peft_lab.ui.method.sections.idea import Words
from peft_lab.ui.method.sections.idea import idea as idea_section
from peft_lab.ui.method.sections.memory import memory
from peft_lab.ui.method.sections.modules import modules, tree_key
from peft_lab.ui.method.sections.parameters import parameters
from peft_lab.ui.method.sections.settings import example_task, training_address, training_readers
from peft_lab.ui.method.sections.take_away import take_away
from peft_lab.ui.method.sections.train import train
from peft_lab.ui.method.sections.try_it import try_it
from peft_lab.ui.runs.shown import show_run
from peft_lab.ui.server.browser_mark import keep_mark
from peft_lab.workers import inspector

__all__ = ["Words", "method_page"]  # all that a page file needs
TITLES = ("Idea", "Modules", "Parameters", "Memory", "Train", "Try it", "Look inside", "Take away")
NEEDS_COUNT = ("Modules", "Parameters")
NEEDS_VALID = (*NEEDS_COUNT, "Memory", "Train")
PATIENCE = 1.0  # seconds that a page waits for a count before it is drawn without


def method_page(slug: str, first_model: str, words: Words) -> None:
    """Draw the whole page. ``first_model`` is the live model on which the method shows best."""
    pages.open_page()
    spec = get_method(slug)
    state.read_address(
        slug,
        readers(spec, first_model)
        | training_readers(slug)
        | {"run": lambda text: show_run(slug, text)}
        | {"tab": lambda text: _take_tab(slug, text)},
    )
    st.title(spec.title)
    st.markdown(spec.summary)
    top = st.container()
    left, right = st.columns([5, 11], gap="medium")
    with left, st.container(border=True, key="knobs"):
        st.markdown("### Knobs")
        choice = knobs_card(spec, first_model)
    report = _count(choice)
    expected = expect(choice)
    with top:
        headline(choice, report, expected)
    with right, st.container(border=True):
        selected = _drawing(choice, report)
    sections: dict[str, Callable[[], None]] = {
        "Idea": lambda: idea_section(choice, words),
        "Modules": lambda: modules(choice, _needed(report), selected),
        "Parameters": lambda: parameters(choice, _needed(report)),
        "Memory": lambda: memory(choice),
        "Train": lambda: train(choice),
    }
    tries = experiments.of_method(slug)
    if tries:
        sections["Try it"] = lambda: try_it(tries)
    view = view_of(slug)
    if view is not None:
        sections["Look inside"] = lambda: view(choice)
    sections["Take away"] = lambda: take_away(choice)
    tab = _tabs(slug, sections, choice, report)
    if expected.answer is not None:
        come_back([expected.answer])
    keep_mark()
    state.write_address(
        address(choice, first_model) | training_address(choice) | {"tab": (tab.lower(), "idea")}
    )


def _needed(report: CountReport | None) -> CountReport:
    assert report is not None  # tabs that need it are not drawn without it
    return report


def _count(choice: Choice) -> CountReport | None:
    """The count, waited for briefly. While the counting process is still starting, the page goes on without."""
    if not choice.valid:
        return None
    asked = inspector.submit(count, choice.entry.name, choice.spec.slug, dict(choice.values))
    try:
        return asked.result(timeout=PATIENCE)
    except TimeoutError:
        come_back([asked])
        return None
    except PeftLabError as error:
        st.error(plain(error))
        return None


def _drawing(choice: Choice, report: CountReport | None) -> str | None:
    """The drawing with the chosen task's example; returns the path that is chosen, in it or in the tree below."""
    shape, key = choice.shape, f"{choice.spec.slug}.selected"
    parts = choice.spec.parts(shape, choice.values)
    st.markdown(f"### Injected into {plain(shape.title)}")
    in_tree = just_chosen(tree_key(choice))
    if in_tree:
        st.session_state[key] = in_tree
    paths = {*(group.path for group in shape.groups), *(part.at for part in parts)}
    picked = block(
        shape,
        parts,
        quantization=choice.spec.quantization(choice.values),
        selected=st.session_state.get(key),
        key=f"block.{choice.spec.slug}",
        tokens=_example(choice),
        details={path: detail(path, report, shape, parts) for path in paths},
    )
    if picked:
        st.session_state[key] = picked
    return st.session_state.get(key)


def _example(choice: Choice) -> tuple[str, ...]:
    """The words in the token strip: of the task's own example."""
    task = example_task(choice)
    return strip_of(task.samples[0]) if task and task.samples else TOKENS


def _take_tab(slug: str, text: str) -> None:
    known = [title.lower() for title in TITLES]
    if text.lower() not in known:
        raise UnknownName("tab", text[:60], known, "tab")
    state.remember(slug, "tab", text)


def _tabs(
    slug: str, sections: dict[str, Callable[[], None]], choice: Choice, report: CountReport | None
) -> str:
    wanted = str(state.remembered(slug, "tab", "idea")).lower()
    start = next((name for name in sections if name.lower() == wanted), next(iter(sections)))

    def guarded(name: str) -> Callable[[], None]:
        if not choice.valid and name in NEEDS_VALID:
            return _say_invalid
        if report is None and name in NEEDS_COUNT:
            return _say_counting
        return sections[name]

    problem = state.address_problem(slug, "tab")
    if problem:
        st.markdown(f":red[:material/link_off: From the address: {plain(problem)}]")
    tab = tabs(slug, {name: guarded(name) for name in sections}, start)
    state.remember(slug, "tab", tab.lower())
    return tab


def _say_invalid() -> None:
    st.info("One of the settings above does not work. The red line under it says why.")


def _say_counting() -> None:
    st.markdown("Counting…")
