"""Every experiment of every method can run, and its conclusion is a sentence whichever way the figures come out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peft_lab.core.errors import BadInput
from peft_lab.methods import all_methods
from peft_lab.models.catalogue import get_model
from peft_lab.runs.record import stands_for
from peft_lab.runs.spec import RunSpec
from peft_lab.runs.view import RunSummary
from peft_lab.studies import experiments
from peft_lab.studies.experiments import (
    QUANTITIES,
    Arm,
    Expectation,
    Experiment,
    ExperimentOutcome,
    all_experiments,
    of_method,
)

METRIC, LOSS = QUANTITIES["metric"], QUANTITIES["loss"]
EXPERIMENTS = all_experiments()


def named(experiment: Experiment) -> str:
    return experiment.id


@pytest.mark.weights
@pytest.mark.parametrize("experiment", EXPERIMENTS, ids=named)
def test_every_run_of_an_experiment_can_start(experiment: Experiment) -> None:
    specs = [spec.complete() for spec in experiment.requests()]
    assert len(specs) == len(experiment.arms) >= 2
    assert all(stands_for(one, one) for one in specs)
    for index, one in enumerate(specs):
        assert not any(stands_for(other, one) for other in specs[:index]), "two arms are the same run"


@pytest.mark.parametrize("experiment", EXPERIMENTS, ids=named)
def test_an_experiment_says_what_it_is_about(experiment: Experiment) -> None:
    labels = [arm.label for arm in experiment.arms]
    assert len(set(labels)) == len(labels)
    assert {experiment.expect.first, experiment.expect.second} <= set(labels)
    assert experiment.expect.first != experiment.expect.second
    assert experiment.question.endswith("?") and experiment.why.endswith(".") and experiment.source
    assert experiment.id.startswith(experiment.method) and experiment in of_method(experiment.method)
    assert len({quantity.title for quantity in experiment.quantities}) == len(experiment.quantities) > 0


@pytest.mark.parametrize("experiment", EXPERIMENTS, ids=named)
@pytest.mark.parametrize("order", [1, -1])
def test_either_outcome_is_told(experiment: Experiment, order: int) -> None:
    count = len(experiment.arms)
    values = [float(order * index) for index in range(count)]
    readings = [
        experiments.ArmReading(arm.label, (value,) * len(experiment.quantities))
        for arm, value in zip(experiment.arms, values, strict=True)
    ]
    told = experiments.conclude(experiment, readings, [None] * count)
    assert told.holds is not None and told.text.endswith(".")
    assert told.text.count("As expected") + told.text.count("Not as expected") == 1


# -- conclusions -------------------------------------------------------------------------------------------------
def outcome(score: float = 0.5, rows: int = 100, loss: float = 1.0, **more: Any) -> ExperimentOutcome:
    record = {
        "metric": {"after": score, "rows": rows},
        "evaluation": {"before": {"loss": 2 * loss}, "after": {"loss": loss}},
        "loss": [3.0, loss, loss],
        "memory": {"peak_bytes": 7},
        "trainable": 5,
        "steps_per_second": 4.0,
        **more,
    }
    return ExperimentOutcome(record, {}, 11)


def experiment_of(quantity: Any, relation: Any, margin: float = 0.0) -> Experiment:
    return Experiment(
        id="lora-x", method="lora", title="", question="?", why=".", arms=(Arm("one"), Arm("two")),
        quantities=(quantity,), expect=Expectation("one", relation, "two", margin), source="", model="minilm-l6",
        task="sentiment",
    )  # fmt: skip


def concluded(experiment: Experiment, *found: ExperimentOutcome) -> experiments.Conclusion:
    readings = [
        experiments.read_results(experiment, arm.label, each)
        for arm, each in zip(experiment.arms, found, strict=True)
    ]
    return experiments.conclude(experiment, readings, found)


def test_every_quantity_is_read_off_a_record() -> None:
    rows = [
        {"ratio": 0.1, "effective_rank": 2.0, "rank": 8},
        {"ratio": 0.3, "effective_rank": 4.0, "rank": 8},
    ]
    insight = {"corrections": rows, "attention": [{}, {"apart": 0.25, "share": [[0.1, 0.3], [0.2]]}]}
    found = replace(outcome(score=0.8, loss=0.3), insight=insight)
    expected = {
        "metric": 0.8, "loss": 0.3, "base_loss": 0.6, "train_loss": 1.2, "peak": 7, "step_seconds": 0.25,
        "stored": 11, "trained": 5, "moved": 0.2, "used": 3.0, "used_share": 0.375, "apart": 0.25, "on_prefix": 0.2,
    }  # fmt: skip
    assert {name: quantity.read(found) for name, quantity in QUANTITIES.items()} == pytest.approx(expected)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"quantities": ["los"]}, "los"),
        ({"arms": [{"label": "one", "rank": 4}]}, "rank"),
        ({"arms": [{"label": "one", "learning_rate": "fast"}]}, "learning_rate"),
        ({"expect": {"first": "one", "relation": "over", "second": "two"}}, "relation"),
        ({"sorce": "a paper"}, "sorce"),
    ],
)
def test_a_mistake_in_a_file_names_its_entry(changes: dict[str, Any], named: str) -> None:
    entry = {
        "id": "lora-x", "title": "", "question": "?", "why": ".", "source": "", "model": "minilm-l6",
        "task": "sentiment", "arms": [{"label": "one"}, {"label": "two"}], "quantities": ["loss"],
        "expect": {"first": "one", "relation": "near", "second": "two"},
    }  # fmt: skip
    assert experiments._experiment("lora", entry).quantities == (LOSS,)
    with pytest.raises(BadInput, match=rf"lora\.yaml, lora-x: .*{named}"):
        experiments._experiment("lora", {**entry, **changes})


def test_a_difference_within_chance_is_none() -> None:
    near = concluded(experiment_of(METRIC, "above"), outcome(0.82), outcome(0.80))
    assert near.holds is False and "no clear difference" in near.text and "chance" in near.text
    far = concluded(experiment_of(METRIC, "above"), outcome(0.9), outcome(0.5))
    assert far.holds is True and "90.0% with one, 50.0% with two: higher. As expected." in far.text
    other = concluded(experiment_of(METRIC, "above"), outcome(0.5), outcome(0.9))
    assert other.holds is False and "lower. Not as expected: one was expected to be higher." in other.text


def test_a_difference_within_that_of_two_seeds_is_none() -> None:
    def told(other_seed: float) -> experiments.Conclusion:
        plain = experiment_of(LOSS, "near")
        experiment = replace(
            plain,
            arms=(*plain.arms, Arm("one, again")),
            expect=replace(plain.expect, reseeded=(("one", "one, again"),)),
        )
        return concluded(experiment, outcome(loss=0.50), outcome(loss=0.55), outcome(loss=other_seed))

    assert told(0.57).holds and "the effect of another seed" in told(0.57).text
    assert not told(0.51).holds


def test_an_arm_without_a_figure_leaves_the_question_open() -> None:
    experiment = experiment_of(METRIC, "above")
    broken = experiments.read_results(experiment, "one", outcome(score=None))  # type: ignore[arg-type]
    assert broken.problem
    told = experiments.conclude(experiment, [broken, experiments.ArmReading("two", (0.5,))], [None, None])
    assert told.holds is None and told.text.startswith("One gave no figure")


@given(st.floats(0, 1), st.floats(0, 1), st.sampled_from(["above", "below", "near"]), st.integers(1, 5000))
def test_exactly_one_relation_is_seen(one: float, two: float, relation: Any, rows: int) -> None:
    told = concluded(experiment_of(METRIC, relation), outcome(one, rows), outcome(two, rows))
    verdicts = [
        concluded(experiment_of(METRIC, each), outcome(one, rows), outcome(two, rows)).holds
        for each in ("above", "below", "near")
    ]
    assert verdicts.count(True) == 1 and told.holds in verdicts


# -- which run belongs to an arm ---------------------------------------------------------------------------------
def complete(**values: Any) -> RunSpec:
    shape = get_model("minilm-l6").shape
    full = all_methods()["lora"].complete(shape, values)
    return RunSpec(
        "minilm-l6",
        "lora",
        "sentiment",
        full,
        steps=60,
        batch=32,
        learning_rate=1e-3,
        max_length=64,
        eval_rows=9,
    )


def line(identity: str, spec: RunSpec, status: str = "done") -> RunSummary:
    return RunSummary(identity, status, 0.0, spec=spec)


def test_a_run_is_found_by_what_it_trains() -> None:
    wanted = complete(r=4)
    lines = [line("other", complete(r=8)), line("asked", replace(wanted, probes=("Good?",)))]
    found = experiments.run_of(wanted, lines)
    assert found is not None and found.id == "asked"
    assert experiments.run_of(replace(wanted, seed=1), lines) is None
    assert experiments.run_of(replace(wanted, steps=3), lines) is None


def test_a_finished_run_goes_before_one_that_is_going_and_that_before_a_failed_one() -> None:
    wanted = complete(r=4)
    lines = [line(status, wanted, status) for status in ("failed", "running", "done", "stopped", "damaged")]
    assert [getattr(experiments.run_of(wanted, lines[:stop]), "id", None) for stop in (1, 2, 3)] == [
        "failed",
        "running",
        "done",
    ]
    assert experiments.run_of(wanted, lines[3:]) is None
