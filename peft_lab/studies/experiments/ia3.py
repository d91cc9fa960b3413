"""IA³: few parameters and their price, and the steps that factors need."""

from __future__ import annotations

from functools import partial

from peft_lab.studies.experiments.base import (
    LOSS,
    METRIC,
    PEAK,
    STORED,
    TRAINED,
    Arm,
    Expectation,
    Experiment,
)

_here = partial(Experiment, method="ia3", model="minilm-l6", task="sentiment")

EXPERIMENTS = (
    _here(
        id="ia3-peak",
        title="Fewer parameters, more memory",
        question="IA³ trains far fewer parameters than LoRA. Does a training step need less memory?",
        why="The gradient of a factor needs the very activation that it scales, so every scaled activation is kept for "
        "the backward pass, the wide feed-forward ones too. LoRA on query and value keeps less, and the optimizer's "
        "share is small in both.",
        arms=(Arm("IA³"), Arm("LoRA", method="lora")),
        quantities=(PEAK, TRAINED, STORED),
        expect=Expectation("IA³", "above", "LoRA"),
        source="PEFT method comparison, MetaMathQA, Llama 3.2 3B: IA³ peaks above LoRA",
        steps=5,
        eval_rows=0,
    ),
    _here(
        id="ia3-learning-rate",
        title="Small steps leave factors at one",
        question="A learning rate of 1e-4 is large for full fine-tuning. What does it do to factors that start at 1?",
        why="A factor has to move by tenths to amplify or inhibit, and Adam moves it by about the rate at each step: "
        "sixty steps of 1e-4 end within a hundredth of one. The head has the same rate in all variants, so any "
        "difference comes from the factors.",
        arms=tuple(
            Arm(name, learning_rate=rate, settings={"head_learning_rate": 3e-2})
            for name, rate in (("1e-4", 1e-4), ("3e-3", 3e-3), ("3e-2", 3e-2))
        ),
        quantities=(METRIC, LOSS),
        expect=Expectation("1e-4", "below", "3e-2"),
        source="PEFT method comparison, MetaMathQA: settings move a result more than the choice of method",
    ),
)
