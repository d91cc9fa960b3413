"""A press that comes while a page is drawn ends that run at whatever step it has reached, and the page is drawn anew:
what it was opened for is not lost on the way."""

from __future__ import annotations

from typing import Any

import pytest
from streamlit.runtime.scriptrunner.script_runner import ScriptRunner
from streamlit.runtime.scriptrunner_utils.exceptions import StopException
from streamlit.testing.v1 import AppTest

from peft_lab.interview import tour
from peft_lab.interview.learners.schedule import Learners
from peft_lab.interview.tour import newcomer
from peft_lab.ui import state
from peft_lab.ui.components.frame import SHOWN
from peft_lab.ui.practice import learner
from peft_lab.ui.tour import page
from tests.ui.test_tour import (
    ROOT,
    again,
    home,  # noqa: F401  home: a lab folder of its own
    opened,
)
from tests.waits import SECONDS

NEWCOMER = newcomer()

# Steps at which Streamlit looks whether a run is to end: each use of session state, each element. By the last of these
# the bar above a page has been drawn.
STEPS = 120
FEW = (16, 22, 58)
STOP = 2  # LoRA, with a model, a rank and a tab


def steps(first: int, last: int, but: tuple[int, ...] = ()) -> list[Any]:
    """Every third step, in make further and in make rest in turn."""
    marks = (pytest.mark.further,), (pytest.mark.further, pytest.mark.rest)
    every = [at for at in range(first, last, 3) if at not in but]
    return [pytest.param(at, marks=marks[turn % 2]) for turn, at in enumerate(every)]


def interrupted(monkeypatch: pytest.MonkeyPatch, app: AppTest, step: int) -> bool:
    """Draw the page and end that run at its ``step``-th step; whether it had so many."""
    taken = 0

    def look(runner: ScriptRunner) -> None:
        nonlocal taken
        if runner._execing:
            taken += 1
            if taken == step:
                raise StopException

    with monkeypatch.context() as patched:
        patched.setattr(ScriptRunner, "_maybe_handle_execution_control_request", look)
        again(app)
    return taken >= step


def turned(app: AppTest, page: str, address: dict[str, str]) -> AppTest:
    """Press a link to a page: not drawn yet."""
    app.query_params.clear()
    app.query_params.update(address)
    app.switch_page(f"pages/{page}.py")
    return app


@pytest.mark.parametrize("step", [*FEW, *steps(1, STEPS, FEW)])
def test_a_stop_is_as_its_path_says(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Opened by somebody who had the page otherwise."""
    stop = NEWCOMER.stops[STOP]
    address = page.stop_address(stop, page.place_of("newcomer", STOP))
    app = opened(stop.page, r="64", tab="inside", part="memory", model="gpt2")
    assert interrupted(monkeypatch, turned(app, stop.page, address), step)
    again(turned(app, stop.page, address))
    complete = app.session_state[state._COMPLETE]
    assert {name: complete[name] for name in stop.settings} == stop.settings
    file = Learners()
    assert tour.progress(file, learner.current_learner(file), "newcomer").visited == {STOP}


@pytest.mark.parametrize("step", [15, *steps(16, 60)])
def test_what_a_teacher_shows_is_opened(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    address = {SHOWN: "1", "topic": "lora"}
    app = opened("myths", verdict="wrong")
    assert interrupted(monkeypatch, turned(app, "myths", address), step)
    app.switch_page("pages/myths.py")
    again(app)  # with the address that the run has left, as when its last message has reached the browser
    assert "wrong" not in (box.value for box in app.selectbox)
    assert "lora" in (box.value for box in app.selectbox)


@pytest.mark.parametrize(
    "step", [14, *(pytest.param(at, marks=pytest.mark.further) for at in (12, 13, 15, 16))]
)
def test_projector_mode_is_entered(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """By an address that is the first of its session."""
    app = AppTest.from_file(str(ROOT / "app.py"), default_timeout=SECONDS)
    turned(app, "myths", {"projector": "on"})
    assert interrupted(monkeypatch, app, step)
    again(turned(app, "myths", {"projector": "on"}))
    assert app.session_state[state._CARRIED] == {"projector": "on"}
