"""Train's button says how long a run will take, and what it took stands beside."""

from __future__ import annotations

import re
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from peft_lab.core import asking
from peft_lab.engine.timing import here
from peft_lab.engine.timing.kernels import CONSTANTS
from peft_lab.runs import kept as said
from peft_lab.runs import waiting
from peft_lab.runs.kept import MadeForecast
from peft_lab.runs.view import RunSummary
from peft_lab.ui.components.waiting import Look
from peft_lab.ui.method import settings
from tests.prose import says
from tests.ui.test_pages import opened
from tests.waits import SECONDS

SPEED = dict.fromkeys(CONSTANTS, 1e11) | dict.fromkeys(("start", "column", "ask", "view"), 1e-6)


def _line(took: float) -> RunSummary:
    kept = MadeForecast(10.0, 10.0, said.forecasts_file(), took)
    return RunSummary("20261127-000000-a", "done", 0.0, "minilm-l6", "ia3", "sentiment", 5, kept=kept)


@pytest.fixture(autouse=True)
def _measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(here, "place", lambda: tmp_path / here.FILE)


def _button(app: Any, key: str) -> Any:
    return next(button for button in app.button if button.key == key)


def test_once_the_machine_is_measured_the_button_says_how_long() -> None:
    live = {"minilm-l6": [1.0, 45e6], "smollm2-135m": [2.0, 270e6]}
    here.keep({"constants": SPEED, "loading": {"models": live, "pack": 1e9}})
    app = opened("ia3")
    label = _label_with_seconds(app, "ia3-train")
    assert label.startswith("Train · about ") and label.endswith(" s")
    assert any("measured speed" in caption.value for caption in app.caption)


@pytest.mark.weights
@pytest.mark.slow
def test_homes_button_too_says_how_long_and_only_then() -> None:
    assert not re.search(r"\d", _button(opened("home"), "train-now").label)
    here.keep({"constants": SPEED, "loading": {"models": {"smollm2-135m": [2.0, 270e6]}, "pack": 1e9}})
    app = opened("home")
    assert re.search(r"\(about \d.* s\)$", _label_with_seconds(app, "train-now"))
    assert "measured speed" in _button(app, "train-now").help


def _label_with_seconds(app: Any, key: str) -> str:
    until = time.monotonic() + SECONDS
    while "about" not in _button(app, key).label and time.monotonic() < until:
        time.sleep(0.5)
        app.run()
    return str(_button(app, key).label)


def test_in_a_class_nothing_is_said_as_others_train_beside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is a step traced for it at each move of a slider."""
    here.keep({"constants": SPEED, "loading": {"models": {"minilm-l6": [1.0, 45e6]}, "pack": 1e9}})
    choice: Any = SimpleNamespace(valid=True, entry=SimpleNamespace(kind="encoder"), task="sentiment")
    monkeypatch.setattr(asking, "class_is_on", lambda: True)
    monkeypatch.setattr(settings, "planned", lambda _: pytest.fail("a run was planned"))
    assert settings.ask_duration(choice) == Look()


def test_before_that_it_is_offered_and_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[int] = []
    monkeypatch.setattr(waiting, "begin_calibrating", lambda: begun.append(1))
    monkeypatch.setattr(waiting, "calibrating_under_way", lambda: None)
    here.keep({"constants": SPEED})  # of an older version, without what loading takes
    app = opened("ia3")
    assert _button(app, "ia3-train").label == "Train"
    _button(app, "ia3-calibrate").click().run()
    assert begun == [1]


def test_it_is_not_offered_beside_a_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "unfinished", lambda: [(0.0, object())])
    offer = _button(opened("ia3"), "ia3-calibrate")
    assert offer.disabled and offer.help == waiting.calibrating_refusal()


def test_what_a_run_took_stands_beside_what_was_said() -> None:
    assert says(
        settings.duration_beside(MadeForecast(60.0, 50.0, said.forecasts_file(), 48.0)),
        "48 s",
        "60 s",
        "+25%",
    )
    assert (
        settings.duration_beside(None)
        == settings.duration_beside(MadeForecast(60.0, 50.0, said.forecasts_file()))
        == ""
    )


def test_the_list_of_runs_shows_the_error_over_all(monkeypatch: pytest.MonkeyPatch) -> None:
    from peft_lab.ui.runs import page

    monkeypatch.setattr(page, "summaries", lambda: [_line(10.0), _line(8.0), _line(20.0)])
    app = opened("runs")
    told = " ".join(each.value for each in app.markdown)
    assert says(told, "3 runs", "25%", "50%")
