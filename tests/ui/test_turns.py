"""A part that is asked for as its page's run ends does not take the end of the page away."""

from __future__ import annotations

import ast
import asyncio
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from streamlit.runtime.scriptrunner_utils.script_requests import RerunData, ScriptRequests

from peft_lab import ui
from peft_lab.ui.server import app
from tests.ui.late_turn import LAST, PART, WHOLE, drawn_meanwhile, finished, opened, sent, words


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
