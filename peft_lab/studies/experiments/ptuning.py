"""P-Tuning: the encoder that is thrown away, and prompts in front of every layer."""

from __future__ import annotations

from functools import partial

from peft_lab.studies.experiments.base import LOSS, METRIC, STORED, TRAINED, Arm, Expectation, Experiment

_here = partial(Experiment, method="ptuning", model="minilm-l6", task="sentiment")

EXPERIMENTS = (
    _here(
        id="ptuning-deep",
        title="In front of the input, or of every layer",
        question="Version 1 acts through the input alone, version 2 in every layer. Which learns more?",
        why="A prompt at the input has to pass through all layers before it matters, and nothing but its few vectors "
        "can carry the task. Deep prompts are seen by every layer's attention directly.",
        arms=(Arm("version 1", {"version": "v1"}), Arm("version 2", {"version": "v2"})),
        quantities=(METRIC, LOSS, TRAINED, STORED),
        expect=Expectation("version 2", "above", "version 1"),
        source="Liu et al. 2021, arXiv 2110.07602, section 3.2",
        steps=40,
    ),
    _here(
        id="ptuning-encoder",
        title="A larger encoder, the same file",
        question="The LSTM has many times the parameters of the narrow MLP. How much larger is what is stored?",
        why="Whatever the encoder is, it is run once at the end and only the virtual tokens it made are kept. What is "
        "trained and what is stored are two different numbers.",
        arms=(
            Arm("MLP, 64 wide", {"encoder_hidden_size": 64}),
            Arm("LSTM", {"encoder_reparameterization_type": "LSTM"}),
        ),
        quantities=(STORED, TRAINED, METRIC),
        expect=Expectation("LSTM", "near", "MLP, 64 wide", margin=1000),
        source="Liu et al. 2021, arXiv 2103.10385, section 2; PEFT stores the output alone",
        steps=10,
        eval_rows=200,
    ),
    _here(
        id="ptuning-shared",
        title="With the encoder, and without",
        question="Twenty virtual tokens that start from the same text, made by a trained encoder or trained themselves "
        "as Prompt Tuning does, each at its own rate: which learns more?",
        why="One encoder makes all tokens, so what one of them learns moves the others. Theory finds that such a "
        "shared structure needs fewer examples; the price is a larger training for the same file. The two need "
        "different learning rates, and each has its own.",
        arms=(
            Arm("an encoder", {"encoder_hidden_size": 64}),
            Arm("no encoder", {"prompt_tuning_init": "TEXT"}, method="prompt"),
            Arm("an encoder, seed 1", {"encoder_hidden_size": 64}, seed=1),
            Arm("no encoder, seed 1", {"prompt_tuning_init": "TEXT"}, method="prompt", seed=1),
        ),
        quantities=(LOSS, METRIC, TRAINED, STORED),
        expect=Expectation(
            "an encoder",
            "below",
            "no encoder",
            reseeded=(("an encoder", "an encoder, seed 1"), ("no encoder", "no encoder, seed 1")),
        ),
        source="Le et al. 2024, arXiv 2410.02200, abstract",
        steps=40,
    ),
)
