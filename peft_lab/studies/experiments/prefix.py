"""Prefix Tuning: where the prefix starts, and what the projection adds to training."""

from __future__ import annotations

from functools import partial

from peft_lab.core.units import Source
from peft_lab.studies.experiments.base import (
    LOSS,
    STEP_SECONDS,
    STORED,
    TRAIN_LOSS,
    TRAINED,
    Arm,
    Expectation,
    Experiment,
    ExperimentOutcome,
    Quantity,
)

_here = partial(Experiment, method="prefix", model="smollm2-135m", task="json", steps=12, eval_rows=8)
_STARTS = (
    Arm("zeros", {"init_weights": "zero"}),
    Arm("noise", {"init_weights": "random"}),
    Arm("a text", {"init_weights": "text"}),
)


def _apart(outcome: ExperimentOutcome) -> float:
    return float(outcome.insight["attention"][-1]["apart"])


def _on_prefix(outcome: ExperimentOutcome) -> float:
    share = outcome.insight["attention"][-1]["share"]
    return sum(map(sum, share)) / sum(map(len, share))


APART = Quantity("Difference between the virtual tokens", "share", Source.MEASURED, _apart, tab="look inside")
ON_PREFIX = Quantity("Attention on the prefix", "share", Source.MEASURED, _on_prefix, tab="look inside")

EXPERIMENTS = (
    _here(
        id="prefix-start",
        title="Zeros, noise or a text to start from",
        question="PEFT fills a prefix with normal noise. What does that do to a small model, beside zeros and a text?",
        why="Every layer's attention sees the prefix at once, so noise in it throws the model off before anything is "
        "learnt. Zeros only dilute the attention, and the keys and values of a text are what the layers are used to.",
        arms=_STARTS,
        quantities=(LOSS, TRAIN_LOSS, ON_PREFIX),
        expect=Expectation("noise", "above", "a text"),
        source="Li and Liang 2021, arXiv 2101.00190, section 7.4, figure 5",
    ),
    _here(
        id="prefix-alike",
        title="Twenty zeros are one token",
        question="Twenty virtual tokens that all start at zero: how far apart are they after training?",
        why="Equal keys and values get equal gradients, so they stay equal: twenty of them are one token that counts "
        "twenty times. Nothing in the loss can tell them apart, whatever the learning rate.",
        arms=(_STARTS[0], _STARTS[2]),
        quantities=(APART, LOSS),
        expect=Expectation("zeros", "below", "a text"),
        source="follows from softmax attention: a permutation of equal keys changes nothing",
    ),
    _here(
        id="prefix-projection",
        title="The projection: trained against stored",
        question="With the projection many more parameters are trained. How much larger is the file?",
        why="The MLP is run once at the end and only its output is stored, so the file is the same size. In training "
        "its parameters, gradients and optimizer states are all there.",
        arms=(
            Arm("without", {"prefix_projection": False, "init_weights": "zero"}),
            Arm("with", {"prefix_projection": True, "init_weights": "zero"}),
        ),
        quantities=(STORED, TRAINED, STEP_SECONDS),
        expect=Expectation("with", "near", "without", margin=1000),
        source="Li and Liang 2021, arXiv 2101.00190, section 4.3",
        steps=4,
        eval_rows=4,
    ),
)
