"""Doubts about answers on Prompt Tuning."""

from __future__ import annotations

from peft_lab import references as src
from peft_lab.quiz.challenge import Challenge, give_way, hold
from peft_lab.quiz.follow_up import lab

CHALLENGES: tuple[Challenge, ...] = (
    give_way(
        "prompt-share",
        "With so few parameters it must need the least memory in training.",
        "What does the gradient pass through on its way to the prompt?",
        "The whole model. Activations are kept, the sequence is longer, and the optimizer, where it does save, was "
        "small "
        "for LoRA already. In the published comparison its peak was above LoRA's.",
        src.BENCH, opens=lab("fact_check", claim="fewer-is-less-memory"),
    ),
    hold(
        "prompt-count",
        "{{value}}, whatever the depth.",
        "You forgot the layers: every layer sees the prompt.",
        "Every layer sees it, but only the input embeddings are trained. What they become above is computed by the "
        "frozen model.",
        f"{src.PROMPT}, section 2",
    ),
    give_way(
        "prompt-scale",
        "Prompt Tuning matches full fine-tuning.",
        "On which model?",
        "On the largest of its paper, with about eleven billion parameters. On smaller ones it was clearly behind.",
        f"{src.PROMPT}, section 3.1",
    ),
    hold(
        "prompt-waywardness",
        "That its neighbours read like nonsense tells me little.",
        "It tells you that the prompt has overfitted. A good one reads like an instruction.",
        "Prompts can be trained that solve a task while their neighbours spell an arbitrary other text. The nearest "
        "word is not what the model does with a vector.",
        src.WAYWARD,
    ),
    hold(
        "prompt-logits-length",
        "For {{value}}, so my labels need ignored entries in front.",
        "The library cuts the virtual positions off again. You would shift your labels wrongly.",
        "It does not cut them off: PEFT lengthens the labels that are passed in, and the logits come back long. Print "
        "the shape.",
        src.PEFT, src.RUN, opens=lab("misconceptions", belief="predict-prompt-length"),
    ),
)  # fmt: skip
