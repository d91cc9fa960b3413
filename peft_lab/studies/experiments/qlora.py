"""QLoRA beside LoRA: what four bits cost in loss, and what they save."""

from __future__ import annotations

from functools import partial

from peft_lab.studies.experiments.base import (
    BASE_LOSS,
    LOSS,
    METRIC,
    PEAK,
    STEP_SECONDS,
    STORED,
    Arm,
    Expectation,
    Experiment,
)

_encoder = partial(Experiment, method="qlora", model="minilm-l6", task="sentiment", steps=40)
# Short: the third step is the one measured, and the base is scored whatever was learnt.
_causal = partial(Experiment, method="qlora", model="smollm2-135m", task="json", steps=6, eval_rows=8)
_PAIR = {"r": 8, "lora_alpha": 16, "target_modules": ("query", "value")}
_RATE = 4e-3
_SETTING = {"r": 8, "lora_alpha": 16, "target_modules": ("q_proj", "v_proj")}
_PLAIN = Arm("16 bits", _SETTING, method="lora")
_NF4 = Arm("NF4", _SETTING)
_FP4 = Arm("FP4", {**_SETTING, "bnb_4bit_quant_type": "fp4"})

_INT8 = Arm("int8", {**_SETTING, "load_in_8bit": True})

EXPERIMENTS = (
    _encoder(
        id="qlora-loss",
        title="Loss against LoRA",
        question="The base in four bits instead of sixteen, the same adapter and seeds: how much worse does it learn?",
        why="The adapter is trained through the rounded weights and makes up for much of what rounding cost. The paper "
        "finds no difference between the two on its models.",
        arms=(
            Arm("LoRA, seed 0", _PAIR, method="lora", learning_rate=_RATE),
            Arm("QLoRA, seed 0", _PAIR, learning_rate=_RATE),
            Arm("LoRA, seed 1", _PAIR, method="lora", learning_rate=_RATE, seed=1),
            Arm("QLoRA, seed 1", _PAIR, learning_rate=_RATE, seed=1),
        ),
        quantities=(LOSS, METRIC, STORED),
        expect=Expectation(
            "QLoRA, seed 0",
            "near",
            "LoRA, seed 0",
            reseeded=(("LoRA, seed 0", "LoRA, seed 1"), ("QLoRA, seed 0", "QLoRA, seed 1")),
        ),
        source="Dettmers et al. 2023, arXiv 2305.14314, section 4",
    ),
    _causal(
        id="qlora-types",
        title="NF4 against FP4 and int8",
        question="Before any training: which of the two four-bit types hurts the model more, and how much do "
        "eight bits?",
        why="NF4 puts its sixteen values where normally distributed weights are, FP4 spaces them as a floating point "
        "number does; int8 has 255 even steps. The loss is the base's own, so nothing that was learnt can hide the "
        "difference.",
        arms=(_PLAIN, _INT8, _NF4, _FP4),
        quantities=(BASE_LOSS,),
        expect=Expectation("FP4", "above", "NF4"),
        source="Dettmers et al. 2023, arXiv 2305.14314, section 4, table 2",
    ),
    _causal(
        id="qlora-memory",
        title="Memory and time against LoRA",
        question="Four bits instead of sixteen for the frozen weights: what becomes of memory, and of time?",
        why="Only the linear maps of the blocks shrink: embeddings, activations and the adapter stay as they are. "
        "Every multiplication first expands its matrix again, which takes time.",
        arms=(_PLAIN, _NF4),
        quantities=(PEAK, STEP_SECONDS),
        expect=Expectation("NF4", "below", "16 bits"),
        source="Dettmers et al. 2023, arXiv 2305.14314, section 3",
    ),
)
