"""A learner's upload on the page: read apart, kept only when it is usable."""

from __future__ import annotations

import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from peft_lab.tasks import apart

GOOD = b"text,label\n" + b"".join(b"sentence %d,%s\n" % (n, (b"a", b"b")[n % 2]) for n in range(20))


def _page() -> None:
    import streamlit as st

    from peft_lab.ui.components import own_data

    st.session_state["path"] = own_data.upload("encoder", False)


def _uploaded(monkeypatch: pytest.MonkeyPatch, name: str, data: bytes) -> None:
    file = SimpleNamespace(name=name, getvalue=lambda: data)
    monkeypatch.setattr(st, "file_uploader", lambda *_, **__: file)


def _told(app: AppTest) -> str:
    return "\n".join(each.value for each in (*app.caption, *app.markdown))


def test_a_good_file_is_kept_and_read_once(own_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    apart._known.clear()
    reads: list[Any] = []
    real = apart._read

    def counted(*arguments: Any) -> Any:
        reads.append(1)
        return real(*arguments)

    monkeypatch.setattr(apart, "_read", counted)
    _uploaded(monkeypatch, "../mine.csv", GOOD)
    app = AppTest.from_function(_page, default_timeout=60).run().run()
    assert not app.exception
    assert "16 rows to train on, 4 held out" in _told(app)
    kept = Path(app.session_state["path"])
    assert kept.parent == own_home / "uploads" and kept.read_bytes() == GOOD
    assert len(reads) == 1


def test_a_hostile_file_is_one_sentence_and_is_not_kept(
    own_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _uploaded(monkeypatch, "wide.csv", b",".join(b"column%d" % n for n in range(300_000)))
    app = AppTest.from_function(_page, default_timeout=60).run()
    assert not app.exception
    assert "300,000 columns" in _told(app) and app.session_state["path"] is None
    assert not (own_home / "uploads").exists()


def test_the_reading_ends_when_the_page_is_left(own_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Streamlit stops a run of a page whose tab was closed by raising where the page shows something."""
    from streamlit.runtime.scriptrunner_utils.exceptions import StopException

    from peft_lab.ui.components import own_data

    apart._known.clear()
    ended: list[int | None] = []
    real = subprocess.Popen.kill

    def kill(child: Any) -> None:
        ended.append(child.pid)
        real(child)

    monkeypatch.setattr(subprocess.Popen, "kill", kill)

    def closed(text: str) -> None:
        raise StopException

    slot: Any = SimpleNamespace(caption=closed)
    with pytest.raises(StopException):
        own_data._keep("mine.csv", GOOD, lambda: own_data._reading(slot))
    assert len(ended) == 1
    assert not (own_home / "uploads").exists()
