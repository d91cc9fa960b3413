"""Doubts about answers on QLoRA."""

from __future__ import annotations

from peft_lab import references as src
from peft_lab.quiz.challenge import Challenge, give_way, hold
from peft_lab.quiz.follow_up import lab

CHALLENGES: tuple[Challenge, ...] = (
    give_way(
        "qlora-storage-compute",
        "The product is made in 4 bits, that is why it is so small.",
        "Which unit of the GPU multiplies NF4?",
        "None. 4 bits are how the weight is stored; it is rebuilt to the compute type before every product. That saves "
        "memory and costs time. Blackwell GPUs do multiply four-bit floats, NVFP4 and MXFP4, but NF4 is neither.",
        f"{src.QLORA}, section 3", src.BLOCK_SCALED,
    ),
    hold(
        "qlora-base-bytes",
        "{{value}}.",
        "Four bits are half a byte each, so it must be less.",
        "Half a byte is the code alone. Each block has a constant, in 8 bits, and groups of these have another: a "
        "little more than half a byte.",
        f"{src.QLORA}, section 3",
    ),
    give_way(
        "qlora-not-saved",
        "QLoRA trains faster than LoRA, because there are fewer bytes to move.",
        "Time a step of both on a card on which both fit.",
        "It is slower there: every pass rebuilds the weights. It is worth it where LoRA does not fit, or where the "
        "room "
        "allows a larger batch.",
        f"{src.QLORA}, section 3", opens=lab("qlora", model="smollm2-135m", tab="try it"),
    ),
    hold(
        "qlora-gradient-path",
        "No gradient for the 4-bit weights is formed, and yet adapters in the first layer learn.",
        "Rounding has no useful derivative. So nothing can pass a rounded layer without a straight-through estimator.",
        "What passes is the gradient for the layer's input, the rebuilt weight transposed times the incoming gradient. "
        "The rounded values are constants; nobody differentiates the rounding.",
        f"{src.QLORA}, section 3",
    ),
    hold(
        "qlora-step-zero",
        "With B = 0, QLoRA does not start at the 16-bit model.",
        "B = 0 means that nothing is changed, so it starts exactly there.",
        "Nothing is changed against the base it stands on, and that is the rounded one. The rounding error is there "
        "from the first step; LoftQ is about just that.",
        f"{src.LOFTQ}, section 3",
    ),
    hold(
        "qlora-numel",
        "`numel` shows {{value}}, and the model is whole.",
        "Half the weights are missing from that tensor. Your file must be damaged.",
        "The tensor holds bytes with two weights in each. Count from the shapes; PEFT's own count doubles packed "
        "tensors for that reason.",
        src.PEFT, src.RUN,
    ),
)  # fmt: skip
