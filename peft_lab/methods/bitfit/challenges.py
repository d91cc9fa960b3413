"""Doubts about answers on BitFit."""

from __future__ import annotations

from peft_lab import references as src
from peft_lab.quiz.challenge import Challenge, give_way, hold
from peft_lab.quiz.follow_up import lab

CHALLENGES: tuple[Challenge, ...] = (
    hold(
        "bitfit-none",
        "None.",
        "0.08%, it is in every overview.",
        "That is a BERT. {{model}} has no biases, neither in its maps nor in its norms, so there is nothing to train.",
        src.RUN, src.BITFIT, opens=lab("fact_check", claim="bitfit-share"),
    ),
    give_way(
        "bitfit-rate",
        "It learns nothing at the rate of my last full fine-tuning, so the method does not work here.",
        "Which rate was that?",
        "One that is made for moving all weights a little. A few biases have to move far: try rates ten to a hundred "
        "times larger before you judge, and check that they are trainable.",
        src.BITFIT, src.RUN,
    ),
    hold(
        "bitfit-inert-keys",
        "The key's biases change nothing: {{value}} that are trained in vain.",
        "Every bias in attention shifts the scores, so they all matter.",
        "The key's adds the same to all scores of one query, and softmax takes that out. The query's meets each key "
        "with "
        "another result, so it does matter. With rotary positions the key's would, too.",
        src.ALGEBRA, opens=lab("misconceptions", belief="predict-key-bias"),
    ),
    give_way(
        "bitfit-inference",
        "It is free at inference because it has so few parameters.",
        "LoRA has few as well, and unmerged it costs time.",
        "Right: what counts is that nothing is added. BitFit changes values of parameters the model has anyway. On a "
        "model without biases that argument is gone.",
        src.BITFIT,
    ),
    hold(
        "bitfit-limits",
        "With much data I would expect it to fall behind.",
        "It matched full fine-tuning in its paper. Why should that change?",
        "It matched with small and medium data; on growing parts of SQuAD the trend turned. Shifts bring out what is "
        "there, and much data hold something new.",
        f"{src.BITFIT}, abstract and figure 2",
    ),
)  # fmt: skip
