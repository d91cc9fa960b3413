"""Pages that wait look for their answers, all together not too often."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from streamlit.testing.v1 import AppTest

from peft_lab.core.errors import Unsupported
from peft_lab.ui.components import waiting
from peft_lab.ui.components.waiting import LOOKS, MOST, come_back, every, is_open
from peft_lab.ui.memory import controls
from peft_lab.ui.method import page as method_page
from peft_lab.ui.method.drawing import Expected


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float | None]]:
    """The intervals of the parts that are drawn, in order."""
    intervals: list[float | None] = []
    monkeypatch.setattr(waiting, "part", lambda draw, every=None: intervals.append(every))
    monkeypatch.setattr(waiting, "_waiting", {})
    yield intervals


def draw_as(monkeypatch: pytest.MonkeyPatch, session: str, *asked: Future[Any]) -> None:
    monkeypatch.setattr(waiting, "get_script_run_ctx", lambda **_: SimpleNamespace(session_id=session))
    come_back(asked)


@given(st.integers(1, 500))
def test_one_who_waits_looks_often_and_many_not_too_often(pages: int) -> None:
    seconds = every(pages)
    assert seconds in LOOKS and every(1) == LOOKS[0] and every(pages + 1) >= seconds
    assert pages / seconds <= MOST or seconds == LOOKS[-1]
    assert float.fromhex(seconds.hex()) == seconds == round(seconds * 16) / 16, "as it is in 32 bits"


def test_thirty_pages_look_less_often_and_again_when_the_answers_came(
    drawn: list[float | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    answer: Future[int] = Future()
    for number in range(30):
        draw_as(monkeypatch, f"page {number}", answer)
        draw_as(monkeypatch, f"page {number}", answer)  # drawn again, it is still one page
    assert drawn[0] == LOOKS[0] and drawn[-1] == every(30) > LOOKS[0]
    answer.set_result(1)
    draw_as(monkeypatch, "page 0")
    assert len(drawn) == 60, "nothing is waited for"
    draw_as(monkeypatch, "page 0", Future())
    assert drawn[-1] == LOOKS[0]


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[list[Callable[[], None]], list[None]]]:
    """What looks for the answers, and how often the page was begun again."""
    looks: list[Callable[[], None]] = []
    begun: list[None] = []
    monkeypatch.setattr(waiting, "part", lambda draw, every=None: looks.append(draw))
    monkeypatch.setattr(waiting, "_waiting", {})
    monkeypatch.setattr("streamlit.rerun", lambda: begun.append(None))
    yield looks, begun


def test_an_answer_that_comes_while_the_page_is_drawn_does_not_begin_it_again(
    watched: tuple[list[Callable[[], None]], list[None]],
) -> None:
    """A press that the page has not come to yet would be lost."""
    looks, begun = watched
    answer: Future[int] = Future()
    come_back([answer])
    answer.set_result(1)
    looks[0]()  # as a part is drawn with its page
    assert not begun
    looks[0]()  # and again when its turn has come
    assert len(begun) == 1


def test_an_answer_that_came_after_the_page_looked_brings_it_back(
    watched: tuple[list[Callable[[], None]], list[None]],
) -> None:
    looks, begun = watched
    come_back([])
    assert not looks, "all was drawn"
    answer: Future[int] = Future()
    open_ = [one for one in (answer,) if is_open(one)]
    answer.set_result(1)
    come_back(open_)
    looks[0]()
    looks[0]()
    assert len(looks) == len(begun) == 1 and not is_open(answer)


def test_what_was_pushed_out_is_asked_for_again_but_not_while_another_answer_is_to_come(
    watched: tuple[list[Callable[[], None]], list[None]],
) -> None:
    looks, begun = watched
    pushed_out, open_ = Future[int](), Future[int]()
    pushed_out.cancel()
    assert is_open(pushed_out)
    come_back([pushed_out, open_])
    looks[0]()
    looks[0]()
    assert not begun
    open_.set_result(1)
    looks[0]()
    assert len(begun) == 1
    come_back([pushed_out])
    looks[1]()
    looks[1]()
    assert len(begun) == 2


def test_memory_waits_for_what_it_has_not_sorted(monkeypatch: pytest.MonkeyPatch) -> None:
    class Comes(Future[Any]):
        """There when it is looked at for the second time."""

        def done(self) -> bool:
            if not self.running():
                self.set_running_or_notify_cancel()
                return False
            return True

    asked: list[list[Future[Any]]] = []
    monkeypatch.setattr(controls, "come_back", asked.append)
    there, refused, comes = Future[Any](), Future[Any](), Comes()
    there.set_result("a step")
    refused.set_exception(Unsupported("not here"))
    found = controls.collect_answers({"a": there, "b": refused, "c": comes})
    assert asked == [[comes]] and found.waiting == 1 and comes.done()


def test_a_method_page_waits_for_what_comes_while_it_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    counted, late = Future[Any](), Future[Any]()
    asked: list[list[Future[Any]]] = []

    def expect(choice: Any) -> Expected:
        counted.set_exception(Unsupported("not this"))  # between the page's look at the count and all else
        return Expected(late)

    monkeypatch.setattr(method_page, "_ask", lambda choice: counted)
    monkeypatch.setattr(method_page, "expect", expect)
    monkeypatch.setattr(
        method_page, "strip", lambda choice, report: late.set_exception(Unsupported("not here"))
    )
    monkeypatch.setattr(method_page, "come_back", asked.append)
    app = AppTest.from_file(str(Path(__file__).parents[2] / "app.py"), default_timeout=240)
    app.switch_page("pages/bitfit.py").run()
    assert not app.exception and late.done() and counted.done()
    (futures,) = asked
    assert late in futures and counted in futures
