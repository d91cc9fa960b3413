"""Doubts about answers on training."""

from __future__ import annotations

from peft_lab import references as src
from peft_lab.quiz.challenge import Challenge, give_way, hold
from peft_lab.quiz.follow_up import lab

CHALLENGES: tuple[Challenge, ...] = (
    hold(
        "train-learning-rate",
        "LoRA wants about ten times the rate of full fine-tuning.",
        "A higher rate destroys the pretrained weights. You should go lower.",
        "They are frozen. The whole change has to come from a few parameters, of which half start at zero; at the "
        "rate of "
        "full fine-tuning it hardly moves.",
        f"{src.LORA_REGRET}, Optimal learning rate and rank",
        opens=lab("misconceptions", belief="predict-learning-rate"),
    ),
    give_way(
        "train-forgetting",
        "The weights are frozen, so nothing can be forgotten.",
        "Do you run the model with the adapter or without it?",
        "With it, and then the function is another one: old abilities can get worse. It forgets less than full "
        "fine-tuning, and switching it off gives the base back. That is all.",
        f"{src.LEARNS_LESS}, section 4",
    ),
    hold(
        "train-work-ratio",
        "A LoRA step still has {{value}} of the arithmetic of a full one.",
        "You train less than a percent of the parameters. The work falls in proportion.",
        "Forward pass and gradient for the inputs go through every frozen map. Only the gradient for the weights is "
        "left out, about a third.",
        f"{src.SCALING}, section 2.1", src.ALGEBRA,
    ),
    give_way(
        "train-misspelt",
        "If a target were misspelt, PEFT would have raised an error.",
        "If all were. What if one of two is right?",
        "Then it says nothing: the right one is adapted and the other ignored. Compare the count with the formula, or "
        "print what was replaced.",
        src.PEFT, src.RUN, opens=lab("misconceptions", belief="predict-misspelt"),
    ),
    hold(
        "train-steps",
        "{{value}}.",
        "Examples times epochs through batch size, that is fewer.",
        "The last, smaller batch of each epoch is kept and makes a step of its own, so one rounds up in every epoch.",
        "PyTorch documentation, torch.utils.data.DataLoader, drop_last", src.ALGEBRA,
    ),
    hold(
        "train-checkpointing-frozen",
        "Nothing is recorded, because the first segment's input requires no gradient.",
        "The adapters inside require one, and that is what counts.",
        "Not in the reentrant variant: it looks at a segment's inputs only. Mark the embedding's output, or use the "
        "other variant.",
        "PyTorch documentation, torch.utils.checkpoint", src.RUN,
    ),
    give_way(
        "train-wrapped-twice",
        "I deleted the first wrapper, so the second run was on a fresh base.",
        "Where did the first call put its layers?",
        "Into the base itself. They are still there and trainable. Unload them, or load the base again; the count "
        "shows "
        "it.",
        src.PEFT, src.RUN, opens=lab("misconceptions", belief="predict-wrapped-twice"),
    ),
)  # fmt: skip
