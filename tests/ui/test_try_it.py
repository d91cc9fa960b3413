"""Experiments: offered before, with figures and sentence once the runs are there; discoveries with what shows them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from peft_lab.engine import published
from peft_lab.interview import since
from peft_lab.methods import all_methods
from peft_lab.runs import child, store
from peft_lab.runs.spec import RunRequest
from peft_lab.runs.store import Run
from peft_lab.studies.experiments import Experiment, all_experiments, of_method
from tests.prose import says
from tests.ui.test_pages import opened, told

pytestmark = pytest.mark.weights
RANK = next(experiment for experiment in of_method("lora") if experiment.id == "lora-rank")


def ended(spec: RunRequest, score: float) -> Run:
    """A finished run's folder, made up."""
    run = store.create(spec.complete())
    run.log.emit("queued", owner={})
    run.log.emit("ready", trainable=10, head=0, total=100, dtype="float32", device="cpu", learning_rate=1e-3)
    for step in (1, 2):
        run.log.emit("step", step=step, loss=1 / step, lr=1e-3, grad_norm=1.0, tokens=10, seconds=0.1)
    run.log.emit("memory", peak_bytes=1000, parts={})
    for which in ("tuned", "base"):
        run.log.emit(
            "evaluated",
            which=which,
            metrics={"accuracy": score, "macro_f1": score},
            loss=0.5,
            rows=500,
            seconds=1,
        )
    child.end_run(run, "done", "")
    return run


@pytest.fixture
def finished() -> Iterator[list[Run]]:
    runs = [ended(spec, score) for spec, score in zip(RANK.requests(), (0.70, 0.80, 0.82, 0.83), strict=True)]
    yield runs
    for run in runs:
        shutil.rmtree(run.folder)


def buttons(experiment: Experiment) -> dict[str, str]:
    app = opened(experiment.method, tab="experiments")
    assert not app.exception
    return {str(button.key): button.label for button in app.button}


@pytest.mark.slow
@pytest.mark.parametrize("slug", sorted({experiment.method for experiment in all_experiments()}))
def test_every_experiment_is_offered(slug: str) -> None:
    experiments = of_method(slug)
    found = buttons(experiments[0])
    for experiment in experiments:
        assert says(found[f"{experiment.id}-run"], len(experiment.arms))


def test_finished_runs_are_shown_at_once_with_what_they_say(finished: list[Run]) -> None:
    app = opened("lora", tab="experiments")
    assert not app.exception
    shown = told(app)
    assert says(shown, "83.0%", 64, "70.0%", 1, "higher")
    assert RANK.why in shown
    keys = {str(button.key) for button in app.button}
    assert "lora-rank-run" not in keys and "lora-rank-open-rank 64" in keys


def test_the_knobs_are_set_as_a_run_had_them(finished: list[Run]) -> None:
    app = opened("lora", tab="experiments")
    app.button(key="lora-rank-open-rank 64").click().run()
    assert not app.exception
    assert app.query_params["r"] == "64" and app.query_params["lora_alpha"] == "128"
    assert app.query_params["run"] == finished[-1].id
    assert "tab" not in app.query_params or app.query_params["tab"] == "train"


@pytest.mark.slow
def test_a_run_opens_where_its_figure_stands() -> None:
    """Made up without what LoRA notes, so that there is no figure yet; the way to it is there all the same."""
    used = next(experiment for experiment in of_method("lora") if experiment.quantity.tab == "inside")
    runs = [ended(spec, 0.8) for spec in used.requests()]
    app = opened("lora", tab="experiments")
    assert any("under Inside" in caption.value for caption in app.caption)
    app.button(key=f"{used.id}-open-{used.arms[-1].label}").click().run()
    assert not app.exception
    assert app.query_params["tab"] == "inside"
    for run in runs:
        shutil.rmtree(run.folder)


def test_a_missing_run_alone_is_offered(finished: list[Run]) -> None:
    shutil.rmtree(finished[0].folder)
    finished[0].folder.mkdir()
    assert says(buttons(RANK)["lora-rank-run"], "1 short run")


PLACE = {"tab": "experiments", "part": "what changed since"}


@pytest.mark.sampled(4)
@pytest.mark.parametrize("slug", [slug for slug in all_methods() if slug != "full"])
def test_each_is_told_with_its_source_and_one_thing_to_see(slug: str) -> None:
    app = opened(slug, **PLACE)
    assert not app.exception
    shown = told(app)
    titles = [each.label for each in app.expander]
    keys = {str(button.key) for button in app.button}
    tables = "\n".join(element.proto.body for element in app.get("html"))
    for discovery in since.of_method(slug):
        assert f"**{discovery.title}**" in titles and discovery.said in shown and discovery.follows in shown
        assert discovery.address in shown
        assert (f"lab-{discovery.id}" in keys) == (discovery.opens is not None)
        for name in discovery.rows:
            assert f"{100 * published.rows()[name].accuracy:.1f}%" in tables


@pytest.mark.slow
def test_it_leads_to_another_tab_of_the_same_page_and_keeps_the_knobs() -> None:
    app = opened("lora", **PLACE, r="4")
    app.button(key="lab-lora-since-intruders").click().run()
    assert not app.exception
    assert app.query_params["tab"] in ("inside", ["inside"]) and "part" not in app.query_params
    assert app.query_params["r"] in ("4", ["4"])
