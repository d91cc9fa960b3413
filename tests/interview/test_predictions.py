"""Predictions: every inquiry runs and says what its text explains."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from peft_lab.core import inspector
from peft_lab.core.content import ContentError
from peft_lab.core.errors import BadInput
from peft_lab.core.units import Source
from peft_lab.interview import predictions
from peft_lab.interview.predictions import (
    Contest,
    Inquiry,
    Prediction,
    all_predictions,
    decide,
    decide_records,
    submission,
)
from peft_lab.interview.question import topics
from tests.interview.each import over

EXPECTED = {
    "predict-ia3-peak": "IA³",
    "predict-checkpointing": "Gradient checkpointing at rank 64",
    "predict-short-sequences": "more than three times",
    "predict-prefix-trained": "over 5%",
    "predict-value-map": "the value maps",
    "predict-ptuning-size": "P-Tuning with its MLP",
    "predict-first-gradient": "B",
    "predict-both-zero": "B = 0, A random",
    "predict-alpha": "2",
    "predict-merge-precision": "bfloat16",
    "predict-merge-four-bit": "about as large as ΔW itself, or larger",
    "predict-four-bit-types": "FP4",
    "predict-saved-activations": "over 50%",
    "predict-misspelt": "nothing: q_proj is adapted alone",
    "predict-wrapped-twice": "more",
    "predict-prompt-length": "32",
    "predict-pissa-off": "off",
    "predict-prefix-encoder": "it is refused",
    "predict-key-bias": "the key's",
}
INQUIRIES = [prediction for prediction in all_predictions().values() if not prediction.trains]
QUICK = [p for p in INQUIRIES if p.experiment.source is not Source.SIMULATED]
SLOW = [p for p in INQUIRIES if p.experiment.source is Source.SIMULATED]


def here(function: Callable[..., Any], *arguments: Any) -> Any:
    """Ask in this process."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return function(*arguments)


def check(prediction: Prediction) -> None:
    function, arguments = submission(prediction)
    outcome = decide(prediction, here(function, *arguments))
    right = EXPECTED[prediction.id]
    assert prediction.options[outcome.right] == right, outcome.figures


@pytest.mark.parametrize("prediction", QUICK, ids=lambda prediction: prediction.id)
def test_experiment_settles_it(prediction: Prediction) -> None:
    check(prediction)


@pytest.mark.slow
@pytest.mark.parametrize("prediction", SLOW, ids=lambda prediction: prediction.id)
def test_simulation_settles_it(prediction: Prediction) -> None:
    check(prediction)


@over(all_predictions().values())
def test_prediction_is_complete(prediction: Prediction) -> None:
    assert prediction.topic in topics()
    assert len(set(prediction.options)) == len(prediction.options) >= 2
    assert prediction.belief.endswith(".")
    assert 2 <= len([part for part in prediction.why.split(". ") if part]) <= 3, "two or three sentences"
    assert prediction.sources
    assert prediction.pages
    if prediction.rule == "bands":
        assert len(prediction.bands) == len(prediction.options) - 1
        assert list(prediction.bands) == sorted(prediction.bands)
        assert len(prediction.experiment.labels) == 1
    else:
        assert len(prediction.experiment.labels) == len(prediction.options)
    if isinstance(prediction.experiment, Inquiry):
        function, arguments = submission(prediction)
        assert inspector.question_key(function, arguments, {}), "can be sent to the inspector"
    else:
        for spec in prediction.experiment.runs:
            spec.complete()


def test_enough_and_all_expected() -> None:
    assert len(all_predictions()) >= 12
    assert set(EXPECTED) == {prediction.id for prediction in INQUIRIES}


def test_rules() -> None:
    prediction = all_predictions()["predict-value-map"]
    assert decide(prediction, [3, 1, 2, 4]).right == 1
    assert decide(replace(prediction, rule="largest"), [3, 1, 2, 4]).right == 3
    banded = all_predictions()["predict-prefix-trained"]
    assert [decide(banded, [value]).right for value in (0.5, 1.0, 3.0, 10.6)] == [0, 0, 1, 2]


def test_contests_are_decided_by_records() -> None:
    contest = all_predictions()["predict-lora-against-prompt"]
    assert isinstance(contest.experiment, Contest)
    records = [{"run_id": "a", "metric": {"after": 0.81}}, {"run_id": "b", "metric": {"after": 0.56}}]
    assert contest.options[decide_records(contest, records).right] == "LoRA r=8"
    with pytest.raises(BadInput, match=r"b has no metric\.after \(status: failed\)"):
        decide_records(contest, [records[0], {"run_id": "b", "status": "failed", "metric": None}])
    with pytest.raises(BadInput, match="training runs"):
        submission(contest)
    with pytest.raises(BadInput, match="no training runs"):
        decide_records(all_predictions()["predict-alpha"], records)


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("function: peaks", "function: peeks", 13),
        ("source: simulated", "source: dreamt", 17),
        ("topic: memory", "topic: memories", 4),
        ("rule: largest", "rule: biggest", 18),
        ("  rule: largest\n", "", 3),
        ("id: predict-checkpointing", "id: predict-ia3-peak", 27),
    ],
)
def test_a_mistake_is_named_with_its_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: str, new: str, line: int
) -> None:
    path = tmp_path / predictions.FILE.name
    path.write_text(predictions.FILE.read_text("utf-8").replace(old, new, 1), "utf-8")
    monkeypatch.setattr(predictions, "FILE", path)
    with pytest.raises(ContentError) as caught:
        all_predictions.__wrapped__()
    assert caught.value.line == line, caught.value
