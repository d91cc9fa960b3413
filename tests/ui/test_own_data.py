"""A learner's upload on the page: read apart, kept only when it is usable."""

from __future__ import annotations

import subprocess
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from peft_lab.training.tasks import apart
from tests.conftest import link
from tests.prose import says
from tests.training.tasks.test_chat import ASKS, SAYS, file_of
from tests.ui.test_own_run import tile
from tests.ui.test_pages import opened
from tests.waits import SECONDS

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
    app = AppTest.from_function(_page, default_timeout=SECONDS).run().run()
    assert not app.exception
    assert says(_told(app), "16 rows", "4 held out")
    kept = Path(app.session_state["path"])
    assert kept.parent == own_home / "uploads" and kept.read_bytes() == GOOD
    assert len(reads) == 1


def test_tagged_words_are_an_encoders_data_and_what_was_changed_is_said(
    own_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = b"".join(
        b"%s\tI-name\nleft\tO\n\n" % name
        for name in (b"Ann", b"Bob", b"Cy", b"Di", b"Ed", b"Flo", b"Gus", b"Hal")
    )
    _uploaded(monkeypatch, "mine.conll", rows)
    app = AppTest.from_function(_page, default_timeout=SECONDS).run()
    assert not app.exception and Path(app.session_state["path"]).suffix == ".conll"
    assert says(_told(app), "6 rows", "2 held out", "8 tags")


def test_a_hostile_file_is_one_sentence_and_is_not_kept(
    own_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _uploaded(monkeypatch, "wide.csv", b",".join(b"column%d" % n for n in range(300_000)))
    app = AppTest.from_function(_page, default_timeout=SECONDS).run()
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


def _training() -> None:
    from peft_lab.ui.components import own_data

    path = own_data.upload("causal-lm", False)
    if path is not None:
        own_data.tokens_of("smollm2-135m", path, 64)


@pytest.mark.weights
def test_a_file_of_conversations_is_shown_as_tokens(
    own_home: Path, assets_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link(own_home)
    talk = [{**ASKS, "content": "<b>How deep?</b>"}, SAYS]
    _uploaded(monkeypatch, "talks.jsonl", file_of(talk))
    app = AppTest.from_function(_training, default_timeout=SECONDS).run()
    for _ in range(600):
        if "only read" in _told(app):
            break
        time.sleep(0.2)
        app.run()
    assert not app.exception
    told = _told(app)
    assert says(told, "9 conversations", "2 held out")
    assert says(told, "11 conversations", "learned")
    assert "11" in told
    shown = app.get("html")[-1].proto.body
    assert "<mark>answer</mark>" in shown and '<mark class="placed">&lt;|im_end|&gt;</mark>' in shown
    assert "<b>" not in shown


@pytest.mark.weights
def test_a_conversation_whose_answers_are_cut_off_is_refused_at_the_upload(
    own_home: Path, assets_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link(own_home)
    _uploaded(monkeypatch, "talks.jsonl", file_of([{**ASKS, "content": "word " * 99}, SAYS]))
    app = AppTest.from_function(_training, default_timeout=SECONDS).run()
    for _ in range(600):
        if "line 11" in _told(app):
            break
        time.sleep(0.2)
        app.run()
    assert says(_told(app), "line 11", "token 64")
    assert not app.get("html")


def test_a_dataset_of_the_hub_is_fetched_once_and_an_upload_takes_its_place(
    own_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from peft_lab.training.tasks import hub

    fetched: list[str] = []

    def fetch(text: str) -> hub.Fetched:
        fetched.append(text)
        rows = b"".join(
            b'{"text": "sentence %d", "label": "%s"}\n' % (n, (b"a", b"b")[n % 2]) for n in range(20)
        )
        return hub.Fetched(
            "owner-name-train.jsonl", rows, replace(hub.parse(text), revision="f" * 40), 20, 30
        )

    monkeypatch.setattr(hub, "fetch", fetch)
    app = AppTest.from_function(_page, default_timeout=SECONDS).run()
    assert app.session_state["path"] is None
    app.text_input[0].set_value("hf:owner/name").run()
    app.run()
    assert not app.exception
    assert fetched == ["hf:owner/name"]
    assert says(_told(app), "f" * 40, "20 of its 30")
    assert says(_told(app), "16 rows", "4 held out")
    assert app.session_state["settings"]["own"]["source.encoder"] == f"hf:owner/name@{'f' * 40}:train"
    _uploaded(monkeypatch, "mine.csv", GOOD)
    app.run()
    assert "source.encoder" not in app.session_state["settings"]["own"]


def test_a_hub_that_is_not_reached_is_one_sentence(own_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(own_home / "nothing"))
    app = AppTest.from_function(_page, default_timeout=SECONDS).run()
    app.text_input[0].set_value("hf:owner/name").run()
    assert not app.exception
    assert says(_told(app), "Hub", "not reached")
    assert app.session_state["path"] is None


def test_without_a_file_the_headline_says_what_to_do(own_home: Path) -> None:
    """The whole error stood in a tile of the strip, which grew to twice its height."""
    app = opened("lora", model="minilm-l6", task="own", tab="train")
    value, beside = tile(app)
    assert value == "–" and 0 < len(beside) < 60
