"""Doubts about answers on memory."""

from __future__ import annotations

from peft_lab import references as src
from peft_lab.quiz.challenge import Challenge, give_way, hold
from peft_lab.quiz.follow_up import lab

LLAMA = "llama-3.2-3b"

CHALLENGES: tuple[Challenge, ...] = (
    give_way(
        "memory-not-saved",
        "LoRA trains a thousandth of the parameters, so a thousandth of the memory is enough.",
        "Where are the weights in your sum?",
        "They have to be there, and so have most activations: the gradient travels through frozen layers. What falls "
        "is gradients and optimizer states.",
        f"{src.LORA}, section 4.2", src.RUN, opens=lab("memory", model=LLAMA, tab="timeline"),
    ),
    hold(
        "memory-mixed-adam",
        "{{value}}.",
        "Two bytes for each weight. You are eight times too high.",
        "Two bytes are the weights alone. Gradient, float32 copy and two float32 moments come with every one of them: "
        "{{each}} bytes.",
        f"{src.ZERO}, section 3.1", f"{src.MIXED}, section 3.1",
    ),
    hold(
        "memory-logits",
        "That tensor alone takes {{value}}.",
        "The hidden states are small. Logits cannot be so much more.",
        "They are as wide as the vocabulary, and float32 for the loss. That is {{times}} times the hidden states, and "
        "the "
        "gradient is as large again.",
        src.ALGEBRA, src.RUN,
    ),
    give_way(
        "memory-parts",
        "The peak is the sum of the largest values of all parts.",
        "Are they at their largest at the same time?",
        "No. Activations are largest at the end of the forward pass, gradients grow while activations are freed. The "
        "peak is a moment, usually early in the backward pass.",
        src.RUN, opens=lab("memory", model=LLAMA, tab="timeline"),
    ),
    hold(
        "memory-fewer-parameters",
        "Fewer trained parameters do not have to mean a lower peak.",
        "Give me one published case, or take it back.",
        "IA³ and Prompt Tuning: both trained far fewer than LoRA in PEFT's comparison and both reserved more. "
        "Activations "
        "and longer sequences did it.",
        src.BENCH, opens=lab("fact_check", claim="fewer-is-less-memory"),
    ),
    give_way(
        "memory-reserved",
        "The monitor shows more than PyTorch has allocated, so there is a leak.",
        "Does it grow from step to step?",
        "If it does not, it is none: the allocator keeps freed segments, rounds up and fragments, and the driver's "
        "context comes on top.",
        "PyTorch documentation, CUDA semantics, memory management",
    ),
)  # fmt: skip
