"""Doubts about answers on P-Tuning."""

from __future__ import annotations

from peft_lab import references as src
from peft_lab.quiz.challenge import Challenge, give_way, hold
from peft_lab.quiz.follow_up import lab

CHALLENGES: tuple[Challenge, ...] = (
    hold(
        "ptuning-stored",
        "{{value}}; the encoder is not kept.",
        "Without the encoder you cannot make the tokens again, so it has to be in the file.",
        "Its output is a constant, as it never sees the text. The tokens are computed once and stored.",
        f"{src.PTUNING}, section 2", src.PEFT,
    ),
    give_way(
        "ptuning-default-width",
        "It is a small MLP, so I left the width at its default.",
        "How wide is the default?",
        "As wide as the model: {{value}} are trained, {{times}} times what is stored. Set the width on purpose.",
        src.PEFT, opens=lab("ptuning", model="llama-3.2-3b", tab="parameters"),
    ),
    give_way(
        "ptuning-v1-v2",
        "Version 2 is version 1 with another encoder.",
        "At which layers do its tokens act?",
        "At all of them. Version 2 has trained keys and values in every layer and may do without any encoder; version "
        "1 has tokens at the input.",
        f"{src.PTUNING2}, section 3.2",
    ),
    hold(
        "ptuning-v2-in-peft",
        "I use `PrefixTuningConfig` with the projection off.",
        "`PromptEncoderConfig` is PEFT's P-Tuning. Take that.",
        "That is version 1: an encoder whose tokens act at the input. Deep prompts are a prefix without projection.",
        src.PEFT, f"{src.PTUNING2}, section 3.2",
    ),
    hold(
        "ptuning-why-encoder",
        "The encoder helps the search. It does not make anything representable that was not before.",
        "More parameters, more capacity. That is why it scores better.",
        "At inference there are the same few vectors, and any of them could have been learnt directly. What differs is "
        "the way there: shared parameters move the tokens together.",
        f"{src.PTUNING}, section 2",
    ),
)  # fmt: skip
