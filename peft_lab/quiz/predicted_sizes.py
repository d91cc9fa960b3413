"""Predictions that a count or a simulation settles."""

from __future__ import annotations

from typing import Any

from peft_lab import references as src
from peft_lab.quiz import experiments as run
from peft_lab.quiz.predictions import Inquiry, Prediction
from peft_lab.units import Source

LLAMA = "llama-3.2-3b"
_LORA_QV: tuple[str, str, str, dict[str, Any]] = ("LoRA r=8 on q and v", LLAMA, "lora", {"r": 8})
_IA3: tuple[str, str, str, dict[str, Any]] = ("IA³", LLAMA, "ia3", {})


def _counts(quantity: str, unit: str, *contenders: tuple[str, str, str, dict[str, Any]]) -> Inquiry:
    arguments = ([list(contender[1:]) for contender in contenders], quantity)
    labels = tuple(contender[0] for contender in contenders)
    return Inquiry(run.counted, labels, unit, Source.COUNTED, arguments)


def _peaks(
    *contenders: tuple[str, str, str, dict[str, Any], bool], batch: int = 4, seq: int = 768
) -> Inquiry:
    arguments = ([list(contender[1:]) for contender in contenders], batch, seq)
    return Inquiry(
        run.peaks, tuple(contender[0] for contender in contenders), "bytes", Source.SIMULATED, arguments
    )


PREDICTIONS = (
    Prediction(
        id="predict-ia3-peak",
        topic="memory",
        belief="Fewer trained parameters, less memory.",
        question="A training step of Llama 3.2 3B, 4 sequences of 768 tokens, bfloat16, AdamW. LoRA (r = 8 on q "
        "and v) trains eight times as many parameters as IA³. Which of them peaks higher?",
        options=("LoRA", "IA³"),
        experiment=_peaks((*_LORA_QV, False), (*_IA3, False)),
        rule="largest",
        why="Both train so little that gradients and optimizer states hardly count. IA³ has to keep the "
        "activations that its vectors multiply, those of the feed-forward part above all, and that costs more than "
        "it saves.",
        sources=(src.BENCH,),
        pages=("ia3", "memory"),
    ),
    Prediction(
        id="predict-checkpointing",
        topic="memory",
        belief="To save memory in LoRA, lower the rank.",
        question="LoRA on Llama 3.2 3B, 4 sequences of 768 tokens. Which change lowers the peak more?",
        options=("Rank 1 instead of 64", "Gradient checkpointing at rank 64"),
        experiment=_peaks(
            ("rank 1", LLAMA, "lora", {"r": 1}, False),
            ("rank 64, checkpointing", LLAMA, "lora", {"r": 64}, True),
        ),
        rule="smallest",
        why="The adapter and its optimizer states are a small part at any usual rank. Activations are the large "
        "part, and checkpointing keeps one input per layer instead of all of them.",
        sources=(f"{src.CHECKPOINTING}, section 4",),
        pages=("lora", "memory"),
    ),
    Prediction(
        id="predict-short-sequences",
        topic="memory",
        belief="The model decides the memory, the data does not.",
        question="LoRA on Llama 3.2 1B, rows of 768 tokens. How does the peak of a batch of 8 rows compare with "
        "that of one row?",
        options=("about the same", "up to three times", "more than three times"),
        experiment=Inquiry(
            run.peak_growth,
            ("8 rows over 1 row",),
            "times",
            Source.SIMULATED,
            ("llama-3.2-1b", "lora", 1, 8, 768),
        ),
        rule="bands",
        bands=(1.3, 3.0),
        why="Weights are paid once, activations and logits per token. With a large vocabulary the logits alone "
        "soon outweigh the model.",
        sources=(src.RUN,),
        pages=("memory",),
    ),
    Prediction(
        id="predict-prefix-trained",
        topic="prefix",
        belief="Prefix Tuning trains under one percent.",
        question="GPT-2, a prefix of 20 tokens with `prefix_projection=True`. How many percent of all parameters "
        "are trained?",
        options=("under 1%", "1 to 5%", "over 5%"),
        experiment=_counts(
            "percent",
            "percent",
            ("", "gpt2", "prefix", {"num_virtual_tokens": 20, "prefix_projection": True}),
        ),
        rule="bands",
        bands=(1.0, 5.0),
        why="The projection's last layer makes keys and values for all layers at once and dwarfs the prefix. It "
        "exists in training only; what is stored is the small part.",
        sources=(f"{src.PREFIX}, section 4.3",),
        pages=("prefix",),
    ),
    Prediction(
        id="predict-value-map",
        topic="lora",
        belief="LoRA costs the same on every attention map.",
        question="LoRA of rank 16 on one kind of map of Llama 3.2 3B. Which is the cheapest target?",
        options=("the query maps", "the value maps", "the output maps", "the feed-forward down maps"),
        experiment=_counts(
            "trainable",
            "parameters",
            ("q_proj", LLAMA, "lora", {"r": 16, "target_modules": ["q_proj"]}),
            ("v_proj", LLAMA, "lora", {"r": 16, "target_modules": ["v_proj"]}),
            ("o_proj", LLAMA, "lora", {"r": 16, "target_modules": ["o_proj"]}),
            ("down_proj", LLAMA, "lora", {"r": 16, "target_modules": ["down_proj"]}),
        ),
        rule="smallest",
        why="The cost is r times inputs plus outputs. Under grouped-query attention keys and values have fewer "
        "outputs than queries, so adapting them is cheaper.",
        sources=(f"{src.LORA}, section 4.1", f"{src.GQA}, section 2"),
        pages=("lora",),
    ),
    Prediction(
        id="predict-ptuning-size",
        topic="ptuning",
        belief="P-Tuning trains a few virtual tokens, so it is smaller than LoRA.",
        question="Llama 3.2 3B, PEFT's defaults with 20 virtual tokens. Which of these trains the most parameters?",
        options=("P-Tuning with its MLP", "LoRA r=16 on q and v", "a prefix of 20 tokens"),
        experiment=_counts(
            "trainable",
            "parameters",
            ("P-Tuning", LLAMA, "ptuning", {"num_virtual_tokens": 20}),
            ("LoRA", LLAMA, "lora", {"r": 16}),
            ("Prefix Tuning", LLAMA, "prefix", {"num_virtual_tokens": 20}),
        ),
        rule="largest",
        why="The encoder that makes the tokens is as wide as the model by default, and its size grows with the "
        "square of that. It is thrown away afterwards; the stored file is the smallest of the three.",
        sources=(f"{src.PTUNING}, section 2", src.PEFT),
        pages=("ptuning",),
    ),
)
