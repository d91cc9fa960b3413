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

from peft_lab.core.errors import BadInput
from peft_lab.engine.timing import here
from peft_lab.engine.timing.kernels import CONSTANTS
from peft_lab.methods import get_method
from peft_lab.methods.shared import adapters_library as library
from peft_lab.models.catalogue import get_model
from peft_lab.runs import record, respond, store
from peft_lab.runs.forecast import run_work
from peft_lab.runs.queue import get_queue
from peft_lab.runs.spec import RunRequest
from peft_lab.runs.view import Status
from peft_lab.training.tasks import apart, hub, pictures
from peft_lab.ui import state
from peft_lab.ui.components.model_choice import entry_of
from tests.conftest import link
from tests.models import homemade
from tests.models.assets import adapters_folders as saved
from tests.prose import says
from tests.training.tasks.test_hub import put
from tests.training.tasks.test_own import ASKS, SAYS, file_of
from tests.ui.test_pages import ROOT, opened, told
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


def _folder_page() -> None:
    import streamlit as st

    from peft_lab.methods import get_method
    from peft_lab.models.catalogue import get_model
    from peft_lab.ui import state
    from peft_lab.ui.components.knobs import Choice
    from peft_lab.ui.method import settings, train

    spec, entry = get_method("adapters"), get_model("minilm-l6")
    moved = state.scope("adapters")
    values = {
        **spec.defaults(entry.shape),
        **{k: v for k, v in moved.items() if k in spec.defaults(entry.shape)},
    }
    choice = Choice(spec, entry, "sentiment", values, ())
    train.open_folder(choice, None, False)
    st.session_state["start"] = settings.start_of(choice)


def files(monkeypatch: pytest.MonkeyPatch, given: dict[str, bytes]) -> None:
    found = [SimpleNamespace(name=name, getvalue=lambda data=data: data) for name, data in given.items()]
    monkeypatch.setattr(st, "file_uploader", lambda *_, **__: found)


def _told_of_folder(app: AppTest) -> str:
    return "\n".join(each.value for each in app.markdown)


def a_folder() -> dict[str, bytes]:
    """Of MiniLM's width; nothing reads the weights before they are scored or trained."""
    import json

    shape = get_model("minilm-l6").shape
    values = get_method("adapters").complete(shape, {"placement": "par_bn", "bottleneck": 24, "scale": 2.0})
    content = library.content_of(shape, values, "here", "BertForSequenceClassification", "")
    return {
        "adapter_config.json": json.dumps(content).encode(),
        "adapter.safetensors": b"none",
        "other.txt": b"x",
    }


@pytest.mark.usefixtures("own_home")
def test_a_folder_is_opened_counted_and_its_settings_become_knobs(
    own_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def scores(*arguments: Any) -> dict[str, Any]:
        asked.append(arguments)
        each = {"metrics": {"accuracy": 0.5}, "loss": 1.0, "rows": 8, "seconds": 1.0}
        return {
            "metric": "accuracy",
            "rows": 8,
            "base": each,
            "opened": {**each, "metrics": {"accuracy": 0.75}},
        }

    from peft_lab.core import inspector

    def ask(function: Any, *arguments: Any) -> Any:
        return scores(*arguments) if function is respond.opened_scores else function(*arguments)

    monkeypatch.setattr(inspector, "get_inspector", lambda *_: SimpleNamespace(ask=ask))
    files(monkeypatch, a_folder())
    app = AppTest.from_function(_folder_page, default_timeout=SECONDS).run()
    assert not app.exception
    trained = 6 * (2 * 24 * 384 + 384 + 24)
    assert says(_told_of_folder(app), "bottleneck 24", "gelu", "2.0", trained)
    kept = Path(app.session_state["start"])
    assert (
        kept.parent == own_home / "uploads"
        and respond.opened_values(kept, "minilm-l6")["placement"] == "par_bn"
    )
    app.button(key="adapters-start-knobs").click().run()
    assert app.session_state["settings"]["adapters"]["placement"] == "par_bn"
    assert not [each for each in app.button if each.key == "adapters-start-knobs"]
    app.button(key="adapters-start-score").click().run()
    assert asked == [(str(kept), "minilm-l6", "sentiment", None)]
    assert says(_told_of_folder(app), "50%", "75%", "8 held-out")
    monkeypatch.setattr(st, "file_uploader", lambda *_, **__: [])
    app.button(key="adapters-start-out").click().run()
    assert app.session_state["start"] is None


@pytest.mark.usefixtures("own_home")
def test_what_is_not_opened_is_a_sentence_and_trains_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    content = (saved.FOLDER / saved.CLASSIFIER / "adapter_config.json").read_bytes()
    files(monkeypatch, {"adapter_config.json": content})
    app = AppTest.from_function(_folder_page, default_timeout=SECONDS).run()
    assert not app.exception
    assert says(_told_of_folder(app), "bert", 16)
    assert app.session_state["start"] is None


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


def test_no_seconds_are_promised(vit: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(here, "place", lambda: tmp_path / here.FILE)
    speed = dict.fromkeys(CONSTANTS, 1e11)
    here.keep({"constants": speed, "loading": {"models": {"my-vit": [1.0, 1e6]}, "pack": 1e9}})
    assert here.complete()
    images = homemade.images(tmp_path / "images")
    app = opened("lora", model=vit, task="own", tab="train")
    box: Any = app.file_uploader[0]
    box.upload("mine.zip", pictures.pack(Path(images)), "application/zip")
    app.run()
    assert not app.exception
    labels = {button.key: button.label for button in app.button}
    assert labels["lora-train"] == "Train" and "lora-calibrate" not in labels
    spec = RunRequest(vit, "lora", "own", steps=2, own_data=images).complete()
    with pytest.raises(BadInput, match="unknown"):
        run_work(spec.to_dict())


@pytest.mark.rest
@pytest.mark.weights
def test_digits_are_offered_and_trained_on(own_home: Path) -> None:
    link(own_home)
    app = opened("lora", model="dinov2-small", tab="train", steps="2", batch="4", rows="8")
    assert not app.exception
    box = next(box for box in app.selectbox if box.label == "Task")
    assert box.options == ["Handwritten digits", "Your own images"] and box.value == "digits"
    assert "28 × 28 grey pixels" in told(app)
    assert not [box for box in app.text_area if box.label == "Your sentence"]
    next(button for button in app.button if button.label.startswith("Train")).click().run()
    identity = str(app.session_state[state._COMPLETE]["run"])
    assert get_queue().wait(identity, 240.0) is Status.DONE
    assert record.result(store.get(identity))["metric"]["rows"] == 8
    app.run()
    assert not app.exception
    assert not [box for box in app.text_area if box.label == "Another sentence"]
