"""Ship it, *Blend*: sliders snap to recorded blends and say so, and a press scores one on this machine."""

from __future__ import annotations

import base64
import json
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from peft_lab.core import inspector
from peft_lab.interview.computed import wilson
from peft_lab.studies import blending
from peft_lab.studies.blending import TASKS
from peft_lab.ui.ship import blend
from tests.waits import SECONDS


def section() -> None:
    from peft_lab.ui.ship.blend import blend_section

    blend_section()


def drawn() -> AppTest:
    app = AppTest.from_function(section, default_timeout=SECONDS).run()
    assert not app.exception
    return app


def opening() -> Any:
    return next(iter(blending.best().values()))[0]


def values(matrix: Any) -> list[list[float]]:
    """A matrix as Plotly writes it: as lists, or as bytes in base 64."""
    if isinstance(matrix, list):
        return matrix
    rows, columns = map(int, matrix["shape"].split(","))
    flat = np.frombuffer(base64.b64decode(matrix["bdata"]), matrix["dtype"])
    return [list(map(float, row)) for row in flat.reshape(rows, columns)]


def texts(app: AppTest) -> str:
    tables = [element.proto.body for element in app.get("html")]
    return "\n".join([*(element.value for element in app.markdown), *tables])


def test_sliders_show_a_recorded_blend_and_say_when_they_snap() -> None:
    app = drawn()
    assert len(app.slider) == len(TASKS)
    best = opening()
    assert f"Weights {blend._weights(best)}, rank" in texts(app) and "Snapped" not in texts(app)
    app.slider[1].set_value(0.95)
    app.run()
    assert "Snapped" in texts(app)
    between = (best["weights"][0], 0.95, best["weights"][2])
    assert f"Weights {blend._weights(blending.nearest(best['how'], between))}," in texts(app)


def test_the_best_of_each_group_stands_with_its_doubt() -> None:
    about, said = blending.recorded()[0], texts(drawn())
    for members, cells in blending.best().items():
        assert f">{blend._weights(cells[0])}<" in said
        low, high = wilson(cells[0]["scores"][members[0]] * about["rows"], about["rows"])
        assert f"({low:.2f} to {high:.2f})" in said
        if blending.worth(cells[0])[0]:
            assert f">{cells[0]['how']}<" in said
            assert all(f"{score:.2f} (alone " in said for score in cells[0].get("again", ()))
        else:
            assert ">no blend keeps all scores<" in said


def test_a_published_result_stands_beside_ours() -> None:
    sums, said = blending.recorded()[0]["sums"], texts(drawn())
    assert f"https://arxiv.org/abs/{sums['source']}" in said
    assert all(f">{cell}<" in said for row in sums["shown"] for cell in row)


def test_overlaps_are_drawn_for_every_pair_as_multiples_of_chance() -> None:
    about = blending.recorded()[0]
    (chart,) = drawn().get("plotly_chart")
    (trace,) = json.loads(chart.proto.spec)["data"]
    drawn_lines = dict(zip(trace["y"], values(trace["z"]), strict=True))
    assert len(drawn_lines) == 12 and trace["zmax"] == max(map(max, drawn_lines.values()))
    for side, lines in about["overlap"].items():
        for name, line in lines.items():
            chance = about["chance"][side][name[-1]]
            assert drawn_lines[f"{side}: {name}"] == pytest.approx([share / chance for share in line])


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
    assert asked[0][1:] == (opening()["how"], opening()["weights"]) and texts(app).count("0.12") >= len(TASKS)
