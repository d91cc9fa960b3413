"""Inside every method: drawn from what a recorder noted or a run left, played along its steps."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from peft_lab.drawing.trajectory import format
from peft_lab.methods import get_method
from peft_lab.methods.lora.recording import RunRecorder
from peft_lab.methods.qlora import recording as qlora_run
from peft_lab.methods.qlora import spec
from peft_lab.methods.recording import trained_tokens as attention
from peft_lab.runs import child, record, store, training
from peft_lab.runs.spec import RunRequest, RunSpec
from peft_lab.runs.store import Run
from peft_lab.studies.experiments import of_method
from peft_lab.ui.components.knobs import apart
from peft_lab.ui.method.inside import VIEWS, recorded
from peft_lab.ui.method.inside.soft import slower
from peft_lab.ui.method.inside.vectors import grid
from tests.methods import tiny
from tests.prose import says
from tests.ui.test_memory_page import tables
from tests.ui.test_pages import opened, told
from tests.ui.test_try_it import ended


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
def tiny_runs() -> Iterator[list[Run]]:
    made = [made_up("lora", {"r": 3}), made_up("lora", {"r": 2}), made_up("qlora", {"r": 3})]
    yield made
    for run in made:
        shutil.rmtree(run.folder)


@pytest.mark.weights
def test_a_lora_is_played_along_its_training(tiny_runs: list[Run]) -> None:
    app = opened("lora", tab="inside", run=tiny_runs[0].id)
    assert not app.exception
    assert "**Its 3 singular values**" in told(app)
    assert "Merged" in told(app)
    slider = next(slider for slider in app.select_slider if slider.label == "Training step")
    assert slider.value == 2
    slider.set_value(0).run()
    assert not app.exception
    assert "‖ΔW‖ is **0%** of ‖W‖" in told(app)


@pytest.mark.weights
def test_singular_vectors_are_compared_when_asked(
    tiny_runs: list[Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    from peft_lab.studies import blending as intruding

    rows = [
        {
            "module": row["module"], "shape": row["shape"], "cosines": [[0.1, 0.2], [1.0, 0.0]],
            "nearest": [0.21, 1.0], "tuned": [9.0, 3.0], "pretrained": [3.0, 2.0], "found": (1,),
        }
        for row in tiny_runs[0].insight()["corrections"]
    ]  # fmt: skip
    found: Future[list[dict[str, Any]]] = Future()
    found.set_result(rows)
    monkeypatch.setattr(intruding, "ask_intruders", lambda identity: found)
    app = opened("lora", tab="inside", run=tiny_runs[0].id)
    assert "#### Intruder dimensions" in told(app) and "Nearest pretrained" not in told(app)
    next(button for button in app.button if button.label == "Compare the singular vectors").click().run()
    assert not app.exception
    assert says(told(app), f"**{len(rows)}**", f"{len(rows)} of {len(rows)}")
    tables = "\n".join(element.proto.body for element in app.get("html"))
    assert "Nearest pretrained" in tables and tables.count(">intruder<") == 1


@pytest.mark.weights
def test_a_qlora_shows_its_storage_and_its_merges(
    tiny_runs: list[Run], monkeypatch: pytest.MonkeyPatch
) -> None:
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
    app = opened("qlora", model="minilm-l6", tab="inside", run=tiny_runs[2].id)
    assert not app.exception
    shown = told(app)
    assert says(shown, 3, "NF4") and "#### Ways to merge" in shown
    tables = "\n".join(element.proto.body for element in app.get("html"))
    assert "fresh base" in tables and "NF4, double quantisation" in tables


def test_equal_titles_end_with_their_ids() -> None:
    found = apart({"a-1234": "one", "b-5678": "one", "c-9999": "two"})
    assert found == {"a-1234": "one · 1234", "b-5678": "one · 5678", "c-9999": "two"}


@pytest.mark.usefixtures("own_home")
def test_without_a_run_the_recorded_one_is_shown() -> None:
    app = opened("ia3", tab="inside")
    assert not app.exception
    run = format.shipped("ia3")
    assert run.recorded[:10] in told(app) and run.model.title in told(app)
    step = next(item for item in app.select_slider if item.label == "Training step")
    assert [int(option) for option in step.options] == run.steps and step.value == run.steps[-1]
    step.set_value(0).run()
    assert not app.exception


@pytest.mark.parametrize("slug", sorted(set(VIEWS) - {"qlora"}))
def test_every_recording_has_a_part_to_show(slug: str) -> None:
    run = format.shipped(slug)
    pictured = [part for part in run.parts if part.tensors]
    assert pictured
    for part in pictured:
        name = next(name for name in recorded.SEEN if name in part.tensors)
        tensor = part.tensor(name, len(run.steps) - 1)
        assert tensor is not None
        rows = recorded.cells(tensor)
        assert (len(rows), len(rows[0])) == tensor.shape
        largest = max(abs(value) for row in rows for value in row)
        assert largest == pytest.approx(tensor.scale, rel=0.01) and part.change[-1]


def test_a_bias_that_a_layer_lacks_is_no_zero() -> None:
    moves = [
        {"bias": "h.0.ln.bias", "moved": 1.0},
        {"bias": "h.1.ln.bias", "moved": 2.0},
        {"bias": "h.1.fc.bias", "moved": 3.0},
        {"bias": "ln_f.bias", "moved": 9.0},
    ]
    assert grid(moves) == (["ln", "fc"], [0, 1], [[1.0, 2.0], [None, 3.0]])


def test_times_that_overlap_show_no_difference() -> None:
    def timed(slow: tuple[float, float]) -> str:
        rounds = {"without": [0.010, 0.012], "with": list(slow)}
        return slower({"without": 0.011, "with": sum(slow) / 2, "rounds": rounds})

    assert "no measurable difference" in timed((0.009, 0.011))
    assert "+100%" in timed((0.021, 0.023))
    assert "may be noise" in slower({"without": 1.0, "with": 0.8})


def _asked(method: str, values: dict[str, Any] | None = None, **more: Any) -> RunRequest:
    return RunRequest(
        "minilm-l6", method, "sentiment", values or {}, **{"steps": 2, "batch": 8, "eval_rows": 8} | more
    )


FELT = 0.05  # a rate at which two steps are felt
#: A short run of each method, and what its page has to name.
PLAYED: dict[str, tuple[RunRequest, tuple[str, ...]]] = {
    "prompt": (_asked("prompt"), ()),
    "ptuning": (_asked("ptuning"), ()),
    "ptuning-v2": (
        _asked("ptuning", {"version": "v2", "init_weights": "zero"}),
        ("nothing", "between passes"),
    ),
    "prefix": (
        RunRequest("smollm2-135m", "prefix", "json", steps=2, batch=2, eval_rows=1),
        ("for every sequence",),
    ),
    "adapters": (
        _asked("adapters", learning_rate=FELT),
        ("cannot be merged", "Three domains", "can be placed"),
    ),
    "ia3": (_asked("ia3", learning_rate=FELT), ("factors are redundant",)),
    "bitfit": (_asked("bitfit", learning_rate=FELT), ("keys' biases", "no effect", "has no biases")),
}


@pytest.mark.weights
@pytest.mark.slow
@pytest.mark.sampled(4)
@pytest.mark.parametrize("name", PLAYED)
def test_a_run_is_opened_up_and_played_and_its_step_stands_beside_the_simulated(
    name: str, assets_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, named = PLAYED[name]
    run = store.create(asked.complete())
    run.log.emit("queued", owner={})
    # whole answers, and writing timed again and again, would take most of the time
    monkeypatch.setattr(attention, "ROUNDS", 2)
    task = run.spec.task_object()
    if task.max_new_tokens:
        short = replace(task, max_new_tokens=3)
        monkeypatch.setattr(RunSpec, "task_object", lambda self: short)
    child.end_run(run, *training.train(run))
    spec = run.spec
    where = {"model": spec.model, "task": spec.task, "tab": "inside"}
    app = opened(spec.method, **where)
    words = told(app)
    assert not app.exception and "After **2 steps**" in words and "Recorded run" not in words
    assert says(words, *named)
    assert ("for every sequence" in words) == (name == "prefix"), "only what generates keeps keys and values"
    if name == "adapters":
        first, *_, last = run.insight()["snapshots"]
        assert first["logit_change"] < 0.01 < last["logit_change"]
    next(item for item in app.select_slider if item.label == "Training step").set_value(0).run()
    assert not app.exception and "After **0 steps**" in told(app)
    app = opened(spec.method, **where | {"tab": "train"}, run=run.id)
    assert not app.exception and says(told(app), "same size")
    (row,) = (line for line in tables(app).split("<tr>") if "Simulated without weights" in line)
    (error,) = re.findall(r"([+-]\d+\.\d+)%", row)
    assert abs(float(error)) <= 1
    store.delete(run.id)
