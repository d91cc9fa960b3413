"""A part that is asked for as its page's run ends does not take the end of the page away."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from peft_lab.ui.server import ending, turns
from tests.ui.late_turn import LAST, PART, WHOLE, finished, sent, words


def test_the_end_of_the_page_comes_before_the_part(tmp_path: Path) -> None:
    with turns.in_order():
        messages = sent(tmp_path)
    assert finished(messages) == [WHOLE, PART]
    assert words(messages).index(LAST) < len(words(messages)) - 1
    assert words(messages)[-1] == "part"


def test_the_server_does_so_while_it_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    own = turns.STARTS.original()
    monkeypatch.setattr("peft_lab.ui.server.beginning.begin", lambda first: None)
    monkeypatch.setattr("signal.pthread_sigmask", lambda *_: set())

    async def serve() -> None:
        async with ending.in_order(lambda: None)(None):
            assert turns.STARTS.original() is not own

    asyncio.run(serve())
    assert turns.STARTS.original() is own
