"""The model of images that comes with the lab, on the pages."""

from __future__ import annotations

from pathlib import Path

import pytest

from peft_lab.runs import record, store
from peft_lab.runs.queue import get_queue
from peft_lab.runs.view import Status
from peft_lab.ui import state
from tests.conftest import link
from tests.ui.test_pages import opened, told


@pytest.mark.slow
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


@pytest.mark.parametrize("slug", ["prefix", "prompt", "ptuning"])
def test_methods_of_virtual_tokens_say_why_not(slug: str, own_home: Path) -> None:
    app = opened(slug, model="dinov2-small")
    assert not app.exception and "images" in told(app)


def test_what_is_about_texts_does_not_list_it() -> None:
    for name in ("choose", "practice", "myths"):
        app = opened(name, model="dinov2-small")
        assert not app.exception
        for box in app.selectbox:
            assert "DINOv2-small (84 pixels)" not in box.options, (name, box.label)
