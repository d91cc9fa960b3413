"""What a learner brings: data, images, models and folders of adapters, read apart, kept when usable, shown, removed."""

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

from peft_lab.runs import record, store
from peft_lab.runs.queue import get_queue
from peft_lab.runs.view import Status
from peft_lab.training.tasks import apart, hub, pictures
from peft_lab.ui import state
from peft_lab.ui.components.model_choice import entry_of
from tests.conftest import link
from tests.models import homemade
from tests.prose import says
from tests.training.tasks.test_hub import put
from tests.training.tasks.test_own import ASKS, SAYS, file_of
from tests.ui.test_pages import ROOT, opened
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
        own_data.keep("mine.csv", GOOD, lambda: own_data._reading(slot))
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


def _files() -> None:
    from peft_lab.ui.runs.page import own_files

    own_files()


def test_a_chosen_file_is_removed(own_home: Path) -> None:
    mine, theirs = put(own_home, "uploads", "mine.csv", 3), put(own_home, "datasets", "theirs.jsonl")
    app = AppTest.from_function(_files, default_timeout=SECONDS).run()
    told = "\n".join(each.value for each in app.markdown)
    assert "22 B in all" in told and "uploads stay" in told
    assert [option[:11] for option in app.multiselect[0].options] == ["theirs.json", "mine.csv, 2"]
    assert app.expander[0].label == "2 files" and app.button[0].disabled
    app.multiselect[0].select(hub.kept_files()[1]).run()
    app.button[0].click().run()
    assert not app.exception
    assert theirs.exists() and not mine.exists()


@pytest.fixture
def vit(tmp_path: Path) -> str:
    folder = homemade.folder("vit", tmp_path / "my-vit")
    assert (
        entry_of(folder, SECONDS).kind == "vision"
    )  # an address waits for the reading process no longer than a page
    return folder


@pytest.mark.slow
def test_a_zip_of_images_is_uploaded_and_trained_on(vit: str, tmp_path: Path) -> None:
    data = pictures.pack(Path(homemade.images(tmp_path / "images")))
    app = opened("lora", model=vit, task="own", tab="train", steps="2", batch="4", rows="2")
    assert not app.exception
    assert {"Held-out images", "Batch size"} <= {box.label for box in app.number_input}
    assert not [box for box in app.text_area if box.label == "Your sentence"]
    box: Any = app.file_uploader[0]
    assert box.label == "Zip of images, one folder per class"
    box.upload("red-or-blue.zip", data, "application/zip")
    app.run()
    assert not app.exception
    assert any(says(each.value, "red-or-blue.zip", "12 images", "4 held out") for each in app.caption)
    next(button for button in app.button if button.label == "Train").click().run()
    assert not app.exception
    identity = str(app.session_state[state._COMPLETE]["run"])
    assert get_queue().wait(identity, SECONDS) is Status.DONE
    run = store.get(identity)
    assert set(record.result(run)["inputs"][vit]) >= {"model.safetensors", "preprocessor_config.json"}
    app.run()
    assert not app.exception
    assert record.result(run)["metric"]["name"] == "accuracy"
    assert any("whole process" in each.value for each in app.markdown)
    assert not [box for box in app.text_area if box.label == "Another sentence"]

    later = AppTest.from_file(str(ROOT / "app.py"), default_timeout=SECONDS)
    later.session_state[state._SETTINGS] = {"runs": {"chosen": identity}}
    later.switch_page("pages/runs.py")
    later.run()
    later.button(key="run-open").click().run()
    assert not later.exception
    assert any(says(each.value, identity, "12 images", "4 held out") for each in later.caption)
    assert any(button.label == "Train" and not button.disabled for button in later.button)


def test_a_zip_without_images_is_refused_at_the_control(vit: str) -> None:
    app = opened("lora", model=vit, task="own", tab="train")
    box: Any = app.file_uploader[0]
    box.upload("mine.zip", b"text", "application/zip")
    app.run()
    assert any("zip archive" in each.value and each.value.startswith(":red[") for each in app.markdown)
