"""Look inside virtual tokens: drawn from a real run, played along its steps."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from peft_lab.methods.recording import trained_tokens as attention
from peft_lab.runs import child, store, training
from peft_lab.runs.spec import RunRequest, RunSpec
from peft_lab.runs.store import Run
from peft_lab.ui.method.inside.soft import slower
from tests.prose import says
from tests.ui.test_memory_page import tables
from tests.ui.test_pages import opened, told

V2 = {"version": "v2", "init_weights": "zero"}
SPECS = {
    "prompt": RunRequest("minilm-l6", "prompt", "sentiment", steps=2, batch=8, eval_rows=8),
    "ptuning": RunRequest("minilm-l6", "ptuning", "sentiment", steps=2, batch=8, eval_rows=8),
    "ptuning-v2": RunRequest("minilm-l6", "ptuning", "sentiment", V2, steps=2, batch=8, eval_rows=8),
    "prefix": RunRequest("smollm2-135m", "prefix", "json", steps=2, batch=2, eval_rows=1),
}


@pytest.fixture(scope="module", params=SPECS)
def run(request: pytest.FixtureRequest, assets_home: Path) -> Iterator[Run]:
    made = store.create(SPECS[request.param].complete())
    made.log.emit("queued", owner={})
    task = made.spec.task_object()
    with pytest.MonkeyPatch.context() as patch:
        # whole answers, and writing timed again and again, would take most of the time
        patch.setattr(attention, "ROUNDS", 2)
        if task.max_new_tokens:
            short = replace(task, max_new_tokens=3)
            patch.setattr(RunSpec, "task_object", lambda self: short)
        child.end_run(made, *training.train(made))
    yield made
    store.delete(made.id)


@pytest.mark.weights
@pytest.mark.slow
@pytest.mark.sampled(4)
def test_a_run_is_opened_up_and_played(run: Run) -> None:
    spec = run.spec
    app = opened(spec.method, tab="inside", model=spec.model, task=spec.task)
    assert not app.exception
    words = told(app)
    assert "After **2 steps**" in words
    assert "Recorded run" not in told(app)
    next(item for item in app.select_slider if item.label == "Training step").set_value(0).run()
    assert not app.exception
    assert "After **0 steps**" in told(app)
    keeps = "for every sequence" in words
    assert keeps == (spec.method == "prefix"), "only what generates keeps keys and values"
    if spec.values.get("version") == "v2":
        assert says(words, "nothing", "between passes")


@pytest.mark.weights
@pytest.mark.slow
@pytest.mark.sampled(4)
def test_its_step_stands_measured_beside_simulated(run: Run) -> None:
    spec = run.spec
    app = opened(spec.method, tab="inside", part="memory", model=spec.model, task=spec.task)
    assert not app.exception
    words = told(app)
    assert "from a run" in words and "same size" in words
    (row,) = (line for line in tables(app).split("<tr>") if "Simulated without weights" in line)
    (error,) = re.findall(r"([+-]\d+\.\d+)%", row)
    assert abs(float(error)) <= 1


def test_times_that_overlap_show_no_difference() -> None:
    def timed(slow: tuple[float, float]) -> str:
        rounds = {"without": [0.010, 0.012], "with": list(slow)}
        return slower({"without": 0.011, "with": sum(slow) / 2, "rounds": rounds})

    assert "no measurable difference" in timed((0.009, 0.011))
    assert "+100%" in timed((0.021, 0.023))
    assert "may be noise" in slower({"without": 1.0, "with": 0.8})
