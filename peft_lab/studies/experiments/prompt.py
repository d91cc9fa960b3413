"""Prompt Tuning: the learning rate, the start, and why few parameters do not mean little memory."""

from __future__ import annotations

from functools import partial

from peft_lab.engine.published.rows import right
from peft_lab.studies.experiments.base import (
    LOSS,
    METRIC,
    PEAK,
    STEP_SECONDS,
    TRAINED,
    Arm,
    Expectation,
    Experiment,
)

_here = partial(Experiment, method="prompt", model="minilm-l6", task="sentiment", steps=40)
_TEXT = {"prompt_tuning_init": "TEXT"}

EXPERIMENTS = (
    _here(
        id="prompt-learning-rate",
        title="The learning rate of full fine-tuning",
        question="Same prompt, same text to start from, same steps. What does a rate of 2e-5 learn, 3e-2, 1?",
        why="A virtual token has to move about as far as words lie apart, which small steps cannot do in so "
        "short a training; what is learnt at 2e-5 is learnt by the head. The paper uses 0.3; in PEFT's own "
        f"comparison 1e-4 gives {right('prompt_tuning-default')} and 1e-3 gives {right('prompt_tuning-lr_0.001')}.",
        arms=(
            Arm("2e-5", _TEXT, learning_rate=2e-5),
            Arm("3e-2", _TEXT, learning_rate=3e-2),
            Arm("1", _TEXT, learning_rate=1.0),
        ),
        quantities=(LOSS, METRIC),
        expect=Expectation("2e-5", "above", "3e-2"),
        source="Lester et al. 2021, arXiv 2104.08691, section 3; PEFT method comparison, MetaMathQA",
    ),
    _here(
        id="prompt-start",
        title="Random numbers, words or a text to start from",
        question="Twenty virtual tokens that start as noise, as random words, as an instruction: which learns most?",
        why="The frozen model knows what to do with words and has never seen inputs far from them. Random "
        "vectors are such inputs: most of the training goes into moving away from there.",
        arms=(
            Arm("noise", {"prompt_tuning_init": "RANDOM"}),
            Arm("random words", {"prompt_tuning_init": "SAMPLE_VOCAB"}),
            Arm("a text", _TEXT),
        ),
        quantities=(LOSS, METRIC),
        expect=Expectation("noise", "above", "a text"),
        source="Lester et al. 2021, arXiv 2104.08691, section 3.2",
    ),
    _here(
        id="prompt-memory",
        title="Few parameters, little memory?",
        question="Prompt Tuning trains a tenth of what LoRA trains here. How much less memory does a step take?",
        why="What a step keeps is mostly activations, and gradients run back through the whole model either way. The "
        "prompt makes every sequence longer, which costs more than its few optimizer states save.",
        arms=(Arm("Prompt Tuning", _TEXT), Arm("LoRA", method="lora")),
        quantities=(PEAK, TRAINED, STEP_SECONDS),
        expect=Expectation("Prompt Tuning", "above", "LoRA"),
        source="PEFT method comparison, MetaMathQA: Prompt Tuning peaks above LoRA",
        steps=6,
        eval_rows=64,
    ),
)
