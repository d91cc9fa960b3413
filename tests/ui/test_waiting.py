"""Pages that wait look for their answers, all together not too often."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peft_lab.ui.components import waiting
from peft_lab.ui.components.waiting import LOOKS, MOST, come_back, every


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
    draw_as(monkeypatch, "page 0", answer)
    assert len(drawn) == 60, "nothing is waited for"
    draw_as(monkeypatch, "page 0", answer, Future())
    assert drawn[-1] == LOOKS[0]


def test_an_answer_that_comes_while_the_page_is_drawn_does_not_begin_it_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A press that the page has not come to yet would be lost."""
    begun: list[None] = []
    looks: list[Callable[[], None]] = []
    monkeypatch.setattr(waiting, "part", lambda draw, every=None: looks.append(draw))
    monkeypatch.setattr(waiting, "_waiting", {})
    monkeypatch.setattr("streamlit.rerun", lambda: begun.append(None))
    answer: Future[int] = Future()
    come_back([answer])
    answer.set_result(1)
    looks[0]()  # as a part is drawn with its page
    assert not begun
    looks[0]()  # and again when its turn has come
    assert len(begun) == 1
