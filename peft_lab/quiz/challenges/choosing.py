"""Doubts about answers on choosing a method."""

from __future__ import annotations

from peft_lab import references as src
from peft_lab.quiz.challenge import Challenge, give_way, hold
from peft_lab.quiz.follow_up import lab

CHALLENGES: tuple[Challenge, ...] = (
    give_way(
        "choose-when-full",
        "Full fine-tuning is always better if one can afford it.",
        "Always? What did you measure besides the task?",
        "Not what it forgets, for one: it loses more of what the base could do. On instructions LoRA on all maps keeps "
        "up. It is worth it where there is more to learn than LoRA can hold.",
        f"{src.LEARNS_LESS}, section 4", f"{src.LORA_REGRET}, introduction",
        opens=lab("fact_check", claim="full-always-best"),
    ),
    hold(
        "choose-fair-comparison",
        "One learning rate for all methods does not make a comparison fair.",
        "Equal settings are the very definition of fair.",
        "Their best rates lie orders of magnitude apart, so one rate tests which method it suits. Fair is equal "
        "effort: "
        "as many trials for each.",
        src.BENCH, opens=lab("fact_check", claim="method-matters-most"),
    ),
    give_way(
        "choose-prompt-first",
        "I would begin with LoRA at rank 16.",
        "What did the prompt reach?",
        "That has to be known first: a good prompt, examples or retrieval may do. Then data, metric and limits, and "
        "only "
        "then a method.",
        "the lab's own decision tree, which asks first whether a prompt reaches the target",
        opens=lab("choose", prompting="yes"),
    ),
    hold(
        "choose-gpus-for-full",
        "{{value}}, before any activations.",
        "{{need}} GB? The weights are far smaller than that. You need a fraction of the cards.",
        "The weights are a small part: gradients, the float32 copy and two moments come with them, sixteen bytes for "
        "each parameter.",
        f"{src.ZERO}, section 3.1",
    ),
    hold(
        "choose-few-shot",
        "With 60 examples I would not fine-tune everything.",
        "Sixty examples are sixty gradients. Full fine-tuning uses them best.",
        "It has the capacity to memorise them and varies strongly from seed to seed. A small LoRA or IA³ with early "
        "stopping is steadier; several seeds and held-out examples show it.",
        f"{src.IA3}, section 3", f"{src.FEW_SAMPLE}, abstract",
    ),
    give_way(
        "choose-variants",
        "I take the newest variant, it has beaten LoRA in its paper.",
        "At which learning rate was their LoRA trained?",
        "That is the question: tune plain LoRA first. In the published comparison DoRA cost time and gained nothing, "
        "and "
        "settings moved scores by more.",
        src.BENCH, opens=lab("fact_check", claim="dora-better"),
    ),
)  # fmt: skip
