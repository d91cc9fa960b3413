"""A part asked for as its page's run ends, and presses while a page is drawn: nothing is lost on the way."""

from __future__ import annotations

import ast
import asyncio
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from streamlit.runtime.forward_msg_queue import ForwardMsgQueue
from streamlit.runtime.scriptrunner.script_runner import ScriptRunner
from streamlit.runtime.scriptrunner_utils.exceptions import StopException
from streamlit.runtime.scriptrunner_utils.script_requests import RerunData, ScriptRequests
from streamlit.testing.v1 import AppTest

from peft_lab import ui
from peft_lab.interview import tour
from peft_lab.interview.learners.schedule import Learners
from peft_lab.interview.tour import newcomer
from peft_lab.ui import state
from peft_lab.ui.practice import learner
from peft_lab.ui.server import app
from peft_lab.ui.tour import page as tour_page
from tests.ui.late_turn import LAST, PART, WHOLE, drawn_meanwhile, finished, opened, sent, words
from tests.ui.test_tour import (
    again,
    home,  # noqa: F401  home: a lab folder of its own
)
from tests.ui.test_tour import (
    opened as opened_at,
)


def test_the_end_of_the_page_comes_before_the_part(tmp_path: Path) -> None:
    with app.in_order():
        messages = sent(tmp_path)
    assert finished(messages) == [WHOLE, PART]
    assert words(messages).index(LAST) < len(words(messages)) - 1
    assert words(messages)[-1] == "part"


@pytest.mark.parametrize("timer", [True, False])
def test_a_part_of_the_page_before_does_not_take_the_window_from_the_next(
    timer: bool, tmp_path: Path
) -> None:
    with app.in_order():
        messages, (first, second) = drawn_meanwhile(tmp_path, timer)
    if timer:
        assert opened(messages) == [second] and LAST in words(messages)
    else:  # a press: its page is drawn, all of it
        assert opened(messages) == [second, first] and words(messages)[-1] == "part"


def pending(*requests: RerunData) -> RerunData:
    """What a script that is at work finds to be done next."""
    at_work = ScriptRequests()
    assert all(at_work.request_rerun(request) for request in requests)
    return at_work.on_scriptrunner_ready().rerun_data


CLICK = RerunData(page_script_hash="lora")

TIMER = RerunData(page_script_hash="ia3", fragment_id="figures", is_auto_rerun=True)


def test_a_timer_does_not_undo_a_click() -> None:
    assert pending(CLICK, TIMER).page_script_hash == "ia3", "Streamlit's own: needless"
    with app.in_order():
        assert pending(CLICK, TIMER) == CLICK
        assert pending(TIMER, CLICK).page_script_hash == "lora"
        assert pending(TIMER).fragment_id_queue == ["figures"], "alone it is answered"
        assert pending(TIMER, replace(TIMER, fragment_id="more")).fragment_id_queue == ["figures", "more"]


def test_a_page_that_draws_itself_again_does_not_undo_a_click(monkeypatch: pytest.MonkeyPatch) -> None:
    again, elsewhere = RerunData(page_script_hash="ia3"), RerunData(page_script_hash="tour")
    at_work = ScriptRequests()
    page = SimpleNamespace(script_requests=at_work, page_script_hash="ia3")
    monkeypatch.setattr(app, "get_script_run_ctx", lambda **_: page)
    assert pending(CLICK, again).page_script_hash == "ia3", "another session's page asks for nothing here"
    with app.in_order():
        assert at_work.request_rerun(CLICK) and at_work.request_rerun(again)
        assert at_work.on_scriptrunner_ready().rerun_data == CLICK
        assert at_work.request_rerun(again) and at_work.on_scriptrunner_ready().rerun_data == again
        assert at_work.request_rerun(CLICK) and at_work.request_rerun(elsewhere)
        assert at_work.on_scriptrunner_ready().rerun_data.page_script_hash == "tour", (
            "st.switch_page is a press"
        )


def test_nothing_that_a_press_elsewhere_closes_tells_the_server() -> None:
    """What opens over a page is closed by a press on a link; told of it, Streamlit draws the page before."""
    calls = [
        (file.name, call)
        for file in Path(ui.__file__).parent.rglob("*.py")
        for call in ast.walk(ast.parse(file.read_text("utf-8")))
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr == "popover"
    ]
    assert len(calls) >= 5
    assert not [name for name, call in calls if any(one.arg == "on_change" for one in call.keywords)]


def test_a_slider_behind_a_click_counts() -> None:
    slider = replace(TIMER, is_auto_rerun=False)
    with app.in_order():
        assert pending(CLICK, slider) == replace(slider, fragment_id=None)


def test_the_server_does_so_while_it_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    own = app.STARTS.original()
    monkeypatch.setattr("peft_lab.ui.server.app.begin_server", lambda first: None)
    monkeypatch.setattr("signal.pthread_sigmask", lambda *_: set())

    async def serve() -> None:
        async with app.ended_in_order(lambda: None)(None):
            assert app.STARTS.original() is not own

    asyncio.run(serve())
    assert app.STARTS.original() is own


UI = Path(__file__).parents[2] / "peft_lab/ui"


def _with_part() -> None:
    import streamlit as st

    from peft_lab.ui.components.frame import part

    st.write("before")
    part(lambda: st.write("part"), every=60)
    part(lambda: None, every=60)  # draws nothing, as while waiting
    st.write("after")


def _with_fragment() -> None:
    import streamlit as st

    st.write("before")
    st.fragment(lambda: st.write("part"), run_every=60)()
    st.write("after")


def _sent(page: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> list[ForwardMsg]:
    sent: list[ForwardMsg] = []
    with monkeypatch.context() as patched:
        patched.setattr(ForwardMsgQueue, "_before_enqueue_msg", sent.append)
        assert not AppTest.from_function(page).run().exception
    return sent


def _gap(sent: list[ForwardMsg]) -> bool:
    """Whether what remains has something at a position that does not exist when it comes."""
    parts = {message.auto_rerun.fragment_id for message in sent if message.HasField("auto_rerun")}
    assert parts
    queue = ForwardMsgQueue()
    for message in sent:
        queue.enqueue(message)
    queue.clear(retain_lifecycle_msgs=True, fragment_ids_this_run=list(parts))
    children: dict[tuple[int, ...], int] = {}
    for message in queue.flush():
        if message.HasField("delta"):
            *parent, index = message.metadata.delta_path
            if index > children.get(tuple(parent), 0):
                return True
            children[tuple(parent)] = max(children.get(tuple(parent), 0), index + 1)
    return False


def test_nothing_that_follows_a_part_comes_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not _gap(_sent(_with_part, monkeypatch))


def test_a_bare_fragment_leaves_a_gap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once this fails Streamlit has mended it, and peft_lab/ui/components/frame.py needs no container any more."""
    assert _gap(_sent(_with_fragment, monkeypatch))


def test_pages_have_no_bare_fragments() -> None:
    uses = {
        file.relative_to(UI).as_posix()
        for file in UI.rglob("*.py")
        if re.search(r"\bst\.fragment\b", file.read_text(encoding="utf-8"))
    }
    assert uses == {"components/frame.py"}


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
    address = tour_page.stop_address(stop, tour_page.place_of("newcomer", STOP))
    app = opened_at(stop.page, r="64", tab="inside", part="memory", model="gpt2")
    assert interrupted(monkeypatch, turned(app, stop.page, address), step)
    again(turned(app, stop.page, address))
    complete = app.session_state[state._COMPLETE]
    assert {name: complete[name] for name in stop.settings} == stop.settings
    file = Learners()
    assert tour.progress(file, learner.current_learner()[1], "newcomer").visited == {STOP}
