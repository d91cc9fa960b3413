"""Predictions: every inquiry runs and says what its text explains."""

from __future__ import annotations

from dataclasses import replace

import pytest

from peft_lab.core import inspector
from peft_lab.core.errors import BadInput
from peft_lab.core.units import Source
from peft_lab.interview.predictions import (
    Contest,
    Inquiry,
    Prediction,
    all_predictions,
    decide,
    decide_records,
    submission,
)
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


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "prediction",
    [
        pytest.param(one, id=one.id, marks=[pytest.mark.slow] * (one.experiment.source is Source.SIMULATED))
        for one in INQUIRIES
    ],
)
def test_experiment_settles_it(prediction: Prediction) -> None:
    function, arguments = submission(prediction)
    outcome = decide(prediction, function(*arguments))
    assert prediction.options[outcome.right] == EXPECTED[prediction.id], outcome.figures


@over(all_predictions().values())
def test_prediction_is_complete(prediction: Prediction) -> None:
    assert len(set(prediction.options)) == len(prediction.options) >= 2
    assert prediction.belief.endswith(".") and prediction.sources and prediction.pages
    labels = len(prediction.experiment.labels)
    bands = prediction.rule == "bands"
    assert labels == (1 if bands else len(prediction.options))
    assert not bands or len(prediction.bands) == len(prediction.options) - 1 == len(set(prediction.bands))
    if isinstance(prediction.experiment, Inquiry):
        assert inspector.question_key(*submission(prediction), {}), "can be sent to the inspector"
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
