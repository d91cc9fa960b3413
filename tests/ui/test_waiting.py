"""Pages that wait look for their answers, all together not too often."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from streamlit.testing.v1 import AppTest

from peft_lab.core import inspector
from peft_lab.core.errors import RunError, Unsupported
from peft_lab.ui.components import waiting
from peft_lab.ui.components.waiting import LOOKS, MOST, Look, collect, come_back, every, look, shown


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float | None]]:
    """The intervals of the parts that are drawn, in order."""
    intervals: list[float | None] = []
    monkeypatch.setattr(waiting, "part", lambda draw, every=None: intervals.append(every))
    monkeypatch.setattr(waiting, "_waiting", {})
    yield intervals


def draw_as(monkeypatch: pytest.MonkeyPatch, session: str, *asked: Future[Any]) -> None:
    monkeypatch.setattr(waiting, "get_script_run_ctx", lambda **_: SimpleNamespace(session_id=session))
    come_back(*(look(one) for one in asked))


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
    come_back(look(answer))
    answer.set_result(1)
    looks[0]()  # as a part is drawn with its page
    assert not begun
    looks[0]()  # and again when its turn has come
    assert len(begun) == 1


def test_an_answer_that_came_after_the_page_looked_brings_it_back(
    watched: tuple[list[Callable[[], None]], list[None]],
) -> None:
    looks, begun = watched
    come_back(Look(1), Look())
    assert not looks, "all was drawn"
    answer: Future[int] = Future()
    seen = look(answer)
    answer.set_result(1)
    come_back(seen)
    looks[0]()
    looks[0]()
    assert len(looks) == len(begun) == 1 and look(answer) == Look(1)


def test_what_was_pushed_out_is_asked_for_again_but_not_while_another_answer_is_to_come(
    watched: tuple[list[Callable[[], None]], list[None]],
) -> None:
    looks, begun = watched
    pushed_out, open_ = Future[int](), Future[int]()
    pushed_out.cancel()
    assert look(pushed_out).open is pushed_out
    come_back(look(pushed_out), look(open_))
    looks[0]()
    looks[0]()
    assert not begun
    open_.set_result(1)
    looks[0]()
    assert len(begun) == 1
    come_back(look(pushed_out))
    looks[1]()
    looks[1]()
    assert len(begun) == 2


def test_of_several_the_page_waits_for_what_it_has_not_sorted(monkeypatch: pytest.MonkeyPatch) -> None:
    class Comes(Future[Any]):
        """There when it is looked at for the second time."""

        def done(self) -> bool:
            if not self.running():
                self.set_running_or_notify_cancel()
                return False
            return True

    asked: list[tuple[Look[Any], ...]] = []
    monkeypatch.setattr(waiting, "come_back", lambda *looks: asked.append(looks))
    there, refused, comes = Future[Any](), Future[Any](), Comes()
    there.set_result("a step")
    refused.set_exception(Unsupported("not here"))
    found = collect({"a": there, "b": refused, "c": comes})
    assert [one.open for one in asked[0]] == [None, None, comes] and comes.done()
    assert (found.found, found.refused, found.waiting) == ({"a": "a step"}, {"b": "not here"}, 1)


# ----------------------------------------
# One answer in its place: drawn, waited for, or an error that can be asked again.


def test_an_answer_is_drawn_once_it_came(watched: tuple[list[Callable[[], None]], list[None]]) -> None:
    looks, _ = watched
    answer: Future[int] = Future()
    drawn: list[int] = []

    def draw(number: int) -> int:
        drawn.append(number)
        return number + 1

    assert shown(answer, draw, "Counting…") is None and not drawn and len(looks) == 1
    answer.set_result(3)
    assert shown(answer, draw, "Counting…") == 4
    assert drawn == [3] and len(looks) == 1, "what is drawn is not waited for"


def test_an_error_stands_where_the_answer_would_and_can_be_asked_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Within the seconds for which a failure is remembered, too."""
    asked: list[None] = []

    def submit(*_: Any) -> Future[int]:
        asked.append(None)
        answer: Future[int] = Future()
        if len(asked) == 1:
            answer.set_exception(RunError("The process was ended."))
        else:
            answer.set_result(7)
        return answer

    process = SimpleNamespace(submit=submit, shutdown=lambda **how: None)
    monkeypatch.setattr(inspector, "_started", lambda *_: process)
    monkeypatch.setattr(waiting, "asked_by_test", inspector.Inspector(), raising=False)
    app = AppTest.from_function(_page).run()
    assert not app.exception and "The process was ended." in app.markdown[0].value
    app.run()
    assert len(asked) == 1 and len(app.button) == 1, "it is not asked again by itself"
    app.button[0].click().run()
    assert not app.exception and len(asked) == 2
    assert [one.value for one in app.markdown] == ["7"] and not app.button


def _page() -> None:
    import streamlit

    from peft_lab.core import machine
    from peft_lab.ui.components import waiting

    asked = waiting.asked_by_test.submit(machine.cores)  # type: ignore[attr-defined]
    waiting.shown(asked, lambda number: streamlit.markdown(f"{number}"), "Counting…")


@pytest.mark.parametrize("at", ["asking", "answering", "drawing"])
def test_what_cannot_be_offers_no_second_attempt(at: str) -> None:
    app = AppTest.from_function(_refused, args=(at,)).run()
    assert not app.exception and ":red[" in app.markdown[0].value and not app.button


def _refused(at: str) -> None:
    from concurrent.futures import Future

    from peft_lab.core.errors import Unsupported
    from peft_lab.ui.components import waiting

    def refuse(*_: object) -> Future[int]:
        raise Unsupported("not here")

    answer: Future[int] = Future()
    if at == "answering":
        answer.set_exception(Unsupported("not here"))
    else:
        answer.set_result(1)
    waiting.shown(refuse if at == "asking" else answer, refuse, "Counting…")
