"""Inside LoRA and QLoRA, drawn from what a recorder noted on a tiny model, at every snapshot."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

import pytest

from peft_lab.methods import get_method
from peft_lab.methods.lora.recording import RunRecorder
from peft_lab.methods.qlora import recording as qlora_run
from peft_lab.methods.qlora import spec
from peft_lab.runs import record
from peft_lab.runs.store import Run
from peft_lab.studies.experiments import of_method
from tests.methods import tiny
from tests.prose import says
from tests.ui.test_pages import opened, told
from tests.ui.test_try_it import ended

pytestmark = [pytest.mark.weights, pytest.mark.filterwarnings("ignore")]


def noted(slug: str, values: dict[str, Any]) -> dict[str, Any]:
    """What a run's recorder keeps, of two steps of a tiny model."""
    recorder_of = qlora_run.RunRecorder if slug == "qlora" else RunRecorder
    model = tiny.apply(get_method(slug), "llama", values)
    recorder = recorder_of(model, tiny.shape_of("llama"), values)
    rows = tiny.batch("llama")
    recorder.snapshot(0)
    tiny.loss(model, rows).backward()
    recorder.after_backward(0)
    for step in (1, 2):
        tiny.train_step(model, rows)
        recorder.snapshot(step)
    inputs = {key: rows[key] for key in ("input_ids", "attention_mask")}
    model.eval()
    return recorder.finish(inputs, lambda: tiny.build("llama"))


def made_up(slug: str, values: dict[str, Any]) -> Run:
    spec = replace(of_method("lora")[0].requests()[0], method=slug, values=values)
    run = ended(spec, 0.8)
    record.write_insight(run, noted(slug, values))
    return run


@pytest.fixture
def runs() -> Iterator[list[Run]]:
    made = [made_up("lora", {"r": 3}), made_up("lora", {"r": 2}), made_up("qlora", {"r": 3})]
    yield made
    for run in made:
        shutil.rmtree(run.folder)


def test_a_lora_is_played_along_its_training(runs: list[Run]) -> None:
    app = opened("lora", tab="inside", run=runs[0].id)
    assert not app.exception
    assert "**Its 3 singular values**" in told(app)
    assert "Merged" in told(app) and "Two adapters" in told(app)
    slider = next(slider for slider in app.select_slider if slider.label == "Training step")
    assert slider.value == 2
    slider.set_value(0).run()
    assert not app.exception
    assert "‖ΔW‖ is **0%** of ‖W‖" in told(app)


def test_singular_vectors_are_compared_when_asked(runs: list[Run], monkeypatch: pytest.MonkeyPatch) -> None:
    from peft_lab.studies import blending as intruding

    rows = [
        {
            "module": row["module"], "shape": row["shape"], "cosines": [[0.1, 0.2], [1.0, 0.0]],
            "nearest": [0.21, 1.0], "tuned": [9.0, 3.0], "pretrained": [3.0, 2.0], "found": (1,),
        }
        for row in runs[0].insight()["corrections"]
    ]  # fmt: skip
    found: Future[list[dict[str, Any]]] = Future()
    found.set_result(rows)
    monkeypatch.setattr(intruding, "ask_intruders", lambda identity: found)
    app = opened("lora", tab="inside", run=runs[0].id)
    assert "#### Intruder dimensions" in told(app) and "Nearest pretrained" not in told(app)
    next(button for button in app.button if button.label == "Compare the singular vectors").click().run()
    assert not app.exception
    assert says(told(app), f"**{len(rows)}**", f"{len(rows)} of {len(rows)}")
    tables = "\n".join(element.proto.body for element in app.get("html"))
    assert "Nearest pretrained" in tables and tables.count(">intruder<") == 1


def test_two_runs_of_one_base_can_be_combined(runs: list[Run], monkeypatch: pytest.MonkeyPatch) -> None:
    from peft_lab.studies import blending

    answer = {"text": "x", "answer": "positive", "scores": {"positive": 0.75, "negative": 0.25}}
    rows = [{"weight": weight, "losses": [0.5, 0.6], **answer} for weight in blending.WEIGHTS]
    monkeypatch.setattr(blending, "ask", lambda *given: rows)
    app = opened("lora", tab="inside", run=runs[0].id)
    next(button for button in app.button if button.label == "Combine them").click().run()
    assert not app.exception
    tables = "\n".join(element.proto.body for element in app.get("html"))
    assert tables.count("positive (75%)") == len(blending.WEIGHTS)


def test_a_qlora_shows_its_storage_and_its_merges(runs: list[Run], monkeypatch: pytest.MonkeyPatch) -> None:
    found: Future[dict[str, Any]] = Future()
    errors = dict.fromkeys(spec.FORMS, 0.1)
    size = {"memory": 10, "disk": 11, "bits": 4.5}
    found.set_result(
        {
            "modules": [{"path": "layer.0.query", "shape": [4, 4], "errors": errors, "histogram": [1] * spec.BINS}],
            "codes": {"nf4": [-1.0, 0.0, 1.0], "fp4": [-1.0, 0.0, 0.0, 1.0]},
            "sizes": {"bfloat16": size, **dict.fromkeys(spec.FORMS, size)},
            "weights": 100,
            "kept": 5,
            "dtype": "bfloat16",
        }
    )  # fmt: skip
    monkeypatch.setattr(spec, "ask_survey", lambda model: found)
    app = opened("qlora", model="minilm-l6", tab="inside", run=runs[2].id)
    assert not app.exception
    shown = told(app)
    assert says(shown, 3, "NF4") and "#### Ways to merge" in shown
    tables = "\n".join(element.proto.body for element in app.get("html"))
    assert "fresh base" in tables and "NF4, double quantisation" in tables
