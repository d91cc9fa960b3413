"""A part of a page that is drawn again just after the page was, before the browser has been sent all of it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from streamlit.runtime.forward_msg_queue import ForwardMsgQueue
from streamlit.testing.v1 import AppTest

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
