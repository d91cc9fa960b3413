"""Every "show me" opens the setting it names: the pages' own readers take its address, and the method accepts it."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from peft_lab.core.errors import BadInput
from peft_lab.core.field import as_text
from peft_lab.interview.bank import all_questions
from peft_lab.interview.question import Opens
from peft_lab.interview.since import all_discoveries
from peft_lab.methods import all_methods, get_method
from peft_lab.models.catalogue import catalogue
from peft_lab.ui import pages, state
from peft_lab.ui.atlas import list as atlas
from peft_lab.ui.choose import page as form
from peft_lab.ui.compare import landscape
from peft_lab.ui.components.form import Controls
from peft_lab.ui.components.knobs import readers
from peft_lab.ui.memory import controls
from peft_lab.ui.method import tabs
from peft_lab.ui.method.settings import training_readers
from peft_lab.ui.myths import page as myths
from peft_lab.ui.plan import form as plan
from peft_lab.ui.practice import learner
from peft_lab.ui.practice.answering import address
from tests.conftest import link
from tests.prose import facts
from tests.waits import SECONDS

ROOT = Path(__file__).parents[2]
LEAST = 80


def every() -> dict[str, Opens]:
    """All of them by what the address says, each once."""
    found = [
        opens
        for question in all_questions().values()
        for opens in (follow_up.opens for follow_up in question.follow_ups)
        if opens is not None
    ]
    found += [q.doubt.opens for q in all_questions().values() if q.doubt and q.doubt.opens is not None]
    found += [discovery.opens for discovery in all_discoveries() if discovery.opens is not None]
    return {f"{opens.page}?{address(opens)}": opens for opens in found}


def readers_of(page: str) -> dict[str, Any]:
    if page in all_methods():
        return readers(get_method(page), "smollm2-135m") | training_readers(page) | tabs.readers(page)
    others: dict[str, Callable[[], dict[str, Any]]] = {
        "memory": lambda: controls.form_controls().readers(),
        "choose": lambda: form.controls().readers(),
        "myths": lambda: myths.myth_controls().readers(),
        "atlas": lambda: Controls(atlas.AtlasForm, atlas.SCOPE).readers(),
        "compare": lambda: landscape.landscape_controls().readers(),
        "plan": plan.readers,
    }
    return others[page]()


def test_there_are_many() -> None:
    assert len(every()) >= LEAST
    assert {opens.page for opens in every().values()} <= set(pages.titles())


@pytest.mark.parametrize(
    "text", ["many", "", "nan", "1e3", "--5", "²", "٣", "9007199254740992", "-" + "9" * 5000]
)
def test_a_number_that_no_control_can_hold_is_refused(text: str) -> None:
    with pytest.raises(BadInput, match=r"whole number|too far from 0") as refused:
        state.whole_number(text, "steps")
    assert refused.value.field == "steps" and len(str(refused.value)) < 80


def test_a_number_that_a_control_can_hold_is_read() -> None:
    assert [state.whole_number(text, "") for text in ("-5", " 7 ", f"{state.LARGEST}")] == [-5, 7, 2**53 - 1]


def test_a_seed_is_not_below_zero() -> None:
    with pytest.raises(BadInput, match=facts("seed", 0, "-1")):
        learner.controls().readers()["seed"]("-1")


@pytest.mark.parametrize("opens", every().values(), ids=every().keys())
def test_the_address_is_read_as_it_stands(opens: Opens) -> None:
    known = readers_of(opens.page)
    told = address(opens)
    assert set(told) <= set(known), f"{opens.page} has no such setting"
    for name, reader in known.items():  # the model comes first, as on the page
        if name in told:
            reader(told[name])
    if opens.page in all_methods():
        spec = get_method(opens.page)
        shape = catalogue()[told.get("model", "smollm2-135m")].shape
        values = {knob.name: knob.parse(told[knob.name]) for knob in spec.knobs if knob.name in told}
        assert [problem for problem in spec.problems(shape, values) if problem.level == "error"] == []
        for knob in spec.knobs:
            if knob.name in told:
                assert as_text(knob.parse(told[knob.name])) == told[knob.name]


@pytest.mark.sampled(3)
@pytest.mark.parametrize("page", sorted({opens.page for opens in every().values()}))
def test_one_of_each_page_is_opened(page: str, own_home: Path) -> None:
    """Drawn in full: the settings arrive and nothing could not be read."""
    link(own_home)
    told = address(next(opens for opens in every().values() if opens.page == page))
    app = AppTest.from_file(str(ROOT / "app.py"), default_timeout=SECONDS)
    for name, value in told.items():
        app.query_params[name] = value
    app.switch_page(f"pages/{page}.py")
    pages._navigated = False
    app.run()
    assert not app.exception
    complete = app.session_state[state._COMPLETE]
    assert {name: complete[name] for name in told} == told
    assert "link_off" not in "\n".join(element.value for element in app.markdown)


def test_a_page_is_begun_afresh_under_its_own_name() -> None:
    """A teacher's line and a path's stop name the page; its settings are read and forgotten by their scope."""
    scopes = {}
    for file in (ROOT / "peft_lab/ui").rglob("*.py"):
        text = file.read_text(encoding="utf-8")
        if "state.read_address(SCOPE" in text or re.search(r"Controls\(\w+, SCOPE", text):
            module = ".".join(file.relative_to(ROOT).with_suffix("").parts)
            scopes[module] = importlib.import_module(module).SCOPE
    assert len(scopes) >= 8 and set(scopes.values()) <= set(pages.titles()), scopes
