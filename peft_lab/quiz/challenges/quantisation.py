"""Doubts about answers on quantisation."""

from __future__ import annotations

from peft_lab import references as src
from peft_lab.quiz.challenge import Challenge, give_way, hold
from peft_lab.quiz.follow_up import lab

CHALLENGES: tuple[Challenge, ...] = (
    hold(
        "quant-single-level",
        "{{value}}.",
        "It is called four-bit, so it is four.",
        "The code is. Each block has a constant as well, shared by its weights, and that is {{more}} more.",
        f"{src.QLORA}, section 3",
    ),
    hold(
        "quant-negative",
        "{{value}}.",
        "Sixteen values, a symmetric distribution: eight.",
        "An exact zero takes one place, so the sides cannot be equal; there are {{positive}} positive ones.",
        f"{src.QLORA}, section 3 and appendix E",
    ),
    give_way(
        "quant-why-nf4",
        "NF4 is the best four-bit format for everything.",
        "For activations, too?",
        "No: it is made for values that are normally distributed, as weights of a block are about. Activations have "
        "outliers, and then most codes are wasted.",
        f"{src.QLORA}, section 3", f"{src.LLM_INT8}, section 3", opens=lab("fact_check", claim="nf4-better"),
    ),
    hold(
        "quant-double-cost",
        "It costs next to no accuracy.",
        "Eight bits instead of thirty-two for the scale: that is a quarter of the precision.",
        "Of the scale's precision. A scale that is off by a fraction of a percent stands beside weights that are off "
        "by "
        "several percent, and the errors add in squares.",
        f"{src.QLORA}, section 3", src.RUN,
    ),
    give_way(
        "quant-int8-activations",
        "A 4-bit model runs four times faster, since it multiplies four bits.",
        "What is multiplied, in a weight-only scheme?",
        "Sixteen bits: the weights are rebuilt first. Generation can gain because fewer bytes are read; arithmetic "
        "does "
        "not become cheaper.",
        f"{src.QLORA}, section 3", f"{src.GPTQ}, section 5",
    ),
    hold(
        "quant-outlier",
        "To {{value}}.",
        "Fifteen: the outlier takes one code and leaves the others.",
        "It leaves them where they are, spread over the whole range. The rest of the block is squeezed into the middle "
        "of it and reaches only the codes next to zero.",
        src.BLOCKWISE, src.ALGEBRA,
    ),
)  # fmt: skip
