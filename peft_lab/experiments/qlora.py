"""QLoRA beside LoRA: what four bits cost in loss, and what they save."""

from __future__ import annotations

from functools import partial

from peft_lab.experiments.base import Arm, Expectation, Experiment
from peft_lab.experiments.quantities import BASE_LOSS, LOSS, PEAK, STEP_SECONDS, STORED

_here = partial(Experiment, method="qlora", model="smollm2-135m", task="json", steps=24, eval_rows=24)
_SETTING = {"r": 8, "lora_alpha": 16, "target_modules": ("q_proj", "v_proj")}
_PLAIN = Arm("LoRA", _SETTING, method="lora")
_FOUR = Arm("QLoRA", _SETTING)

EXPERIMENTS = (
    _here(
        id="qlora-loss",
        title="Loss against LoRA",
        question="The base in four bits instead of sixteen, the same adapter and seed: how much worse does it learn?",
        why="The adapter is trained through the rounded weights and makes up for most of what rounding cost. The paper "
        "finds no difference on models from 125 million parameters up.",
        arms=(_PLAIN, _FOUR),
        quantities=(LOSS, BASE_LOSS, STORED),
        expect=Expectation("QLoRA", "near", "LoRA", margin=0.1),
        source="Dettmers et al. 2023, arXiv 2305.14314, section 4, table 3",
    ),
    _here(
        id="qlora-memory",
        title="Memory and time against LoRA",
        question="Four bits instead of sixteen for the frozen weights: what becomes of memory, and of time?",
        why="Only the linear maps of the blocks shrink: embeddings, activations and the adapter stay as they are. "
        "Every multiplication first expands its matrix again, which takes time.",
        arms=(_PLAIN, _FOUR),
        quantities=(PEAK, STEP_SECONDS),
        expect=Expectation("QLoRA", "below", "LoRA"),
        source="Dettmers et al. 2023, arXiv 2305.14314, section 3",
    ),
)
