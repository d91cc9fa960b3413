"""Inside adapters, IA³ and BitFit: drawn from a real run, played along its steps."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from peft_lab.runs import child, store, training
from peft_lab.runs.spec import RunRequest
from peft_lab.runs.store import Run
from peft_lab.ui.method.inside import by_kind
from peft_lab.ui.method.inside.vectors import grid
from tests.prose import says
from tests.ui.test_pages import opened, told

SLUGS = ("adapters", "ia3", "bitfit")


def test_figures_are_sorted_by_kind_and_layer() -> None:
    found = by_kind({"bert.encoder.layer.0.output.dense": 1.0, "bert.encoder.layer.1.output.dense": 2.0})
    assert found == {"output.dense": {0: 1.0, 1: 2.0}}


def test_a_bias_that_a_layer_lacks_is_no_zero() -> None:
    moves = [
        {"bias": "h.0.ln.bias", "moved": 1.0},
        {"bias": "h.1.ln.bias", "moved": 2.0},
        {"bias": "h.1.fc.bias", "moved": 3.0},
        {"bias": "ln_f.bias", "moved": 9.0},
    ]
    assert grid(moves) == (["ln", "fc"], [0, 1], [[1.0, 2.0], [None, 3.0]])


@pytest.fixture(scope="module")
def runs(assets_home: Path) -> Iterator[dict[str, Run]]:
    """A short run of each on MiniLM, with a rate at which two steps are felt."""
    made = {}
    for slug in SLUGS:
        spec = RunRequest("minilm-l6", slug, "sentiment", steps=2, batch=8, eval_rows=64, learning_rate=0.05)
        run = store.create(spec.complete())
        run.log.emit("queued", owner={})
        child.end_run(run, *training.train(run))
        made[slug] = run
    yield made
    for run in made.values():
        store.delete(run.id)


def shown(slug: str) -> AppTest:
    app = opened(slug, tab="inside")
    assert not app.exception
    return app


@pytest.mark.further
@pytest.mark.weights
@pytest.mark.slow
@pytest.mark.sampled(3)
@pytest.mark.parametrize("slug", SLUGS)
def test_a_run_is_opened_up_and_played(slug: str, runs: dict[str, Run]) -> None:
    app = shown(slug)
    words = told(app)
    assert "After **2 steps**" in words
    assert "Recorded run" not in told(app)
    slider = next(item for item in app.select_slider if item.label == "Training step")
    slider.set_value(0).run()
    assert not app.exception
    assert "After **0 steps**" in told(app)


@pytest.mark.further
@pytest.mark.weights
@pytest.mark.slow
def test_what_each_shows(runs: dict[str, Run]) -> None:
    words = {slug: told(shown(slug)) for slug in SLUGS}
    for title in (
        "Why they cannot be merged",
        "Three domains, one base",
        "Where the same adapter can be placed",
    ):
        assert title in words["adapters"]
    found = runs["adapters"].insight()
    assert found["snapshots"][0]["logit_change"] < 0.01 < found["snapshots"][-1]["logit_change"]
    assert "redundant factors" in words["ia3"]
    assert says(words["bitfit"], "keys' biases", "no effect")
    assert "has no biases" in words["bitfit"]
