"""A model of one's own that reads images, and images of one's own, on a method's page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from peft_lab.core.errors import BadInput
from peft_lab.engine.timing import here
from peft_lab.engine.timing.kernels import CONSTANTS
from peft_lab.runs import record, store, waiting
from peft_lab.runs.forecast import run_work
from peft_lab.runs.queue import get_queue
from peft_lab.runs.spec import RunRequest
from peft_lab.runs.view import Status
from peft_lab.training.tasks import pictures
from peft_lab.ui import state
from peft_lab.ui.components.model_choice import entry_of
from tests.models import homemade
from tests.prose import says
from tests.ui.test_pages import ROOT, opened
from tests.waits import SECONDS


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


@pytest.mark.parametrize("measured", [True, False])
def test_no_seconds_are_promised(
    measured: bool, vit: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(here, "place", lambda: tmp_path / here.FILE)
    monkeypatch.setattr(waiting, "calibrating_under_way", lambda: None)
    if measured:
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
