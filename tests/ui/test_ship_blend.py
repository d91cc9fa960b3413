"""Ship it, *Blend*: sliders snap to recorded blends and say so, and a press scores one on this machine."""

from __future__ import annotations

from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from peft_lab.studies import blending
from peft_lab.studies.blending import TASKS
from peft_lab.ui.ship import blend
from peft_lab.workers import inspector


def section() -> None:
    from peft_lab.ui.ship.blend import blend_section

    blend_section()


def drawn() -> AppTest:
    app = AppTest.from_function(section, default_timeout=60).run()
    assert not app.exception
    return app


def texts(app: AppTest) -> str:
    tables = [element.proto.body for element in app.get("html")]
    return "\n".join([*(element.value for element in app.markdown), *tables])


def test_sliders_show_a_recorded_blend_and_say_when_they_snap() -> None:
    app = drawn()
    assert len(app.slider) == len(TASKS)
    best = blending.best()[0]
    assert f"Weights {blend._weights(best)}, rank" in texts(app) and "Snapped" not in texts(app)
    app.slider[1].set_value(0.95)
    app.run()
    assert "Snapped" in texts(app)
    between = (best["weights"][0], 0.95, best["weights"][2])
    assert f"Weights {blend._weights(blending.nearest('cat', between))}," in texts(app)


def test_the_best_stands_first() -> None:
    best = blending.best()[0]
    assert f"**{best['how']}** with the weights {blend._weights(best)} " in texts(drawn())


def test_a_press_scores_the_blend_in_a_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Any, ...]] = []

    def submit(*question: Any) -> Future[Any]:
        asked.append(question)
        answer: Future[Any] = Future()
        answer.set_result({"scores": {name: {"alone": 1.0, "blended": 0.123} for name in TASKS}})
        return answer

    monkeypatch.setattr(inspector, "get_inspector", lambda worker: SimpleNamespace(submit=submit))
    app = drawn()
    assert not asked
    app.button(key="blend-run").click()
    app.run()
    assert asked[0][1:] == ("cat", blending.best()[0]["weights"]) and texts(app).count("0.12") >= len(TASKS)
