"""Doubts about answers on Prefix Tuning."""

from __future__ import annotations

from peft_lab import references as src
from peft_lab.quiz.challenge import Challenge, give_way, hold
from peft_lab.quiz.follow_up import lab

CHALLENGES: tuple[Challenge, ...] = (
    hold(
        "prefix-stored",
        "{{value}}.",
        "Number of tokens times hidden size, that is all. You are far too high.",
        "That is Prompt Tuning. A prefix has a key and a value for every layer: tokens times two times layers times "
        "the width of the keys.",
        f"{src.PREFIX}, section 4.2", src.PEFT,
    ),
    give_way(
        "prefix-projected-share",
        "What it trains is what it stores, a tiny share.",
        "With the projection on, too?",
        "No: {{value}} is trained then. The projection's last layer makes keys and values of all layers. Trained and "
        "stored are two figures here, and the small one is what is stored.",
        f"{src.PREFIX}, section 4.3", opens=lab("fact_check", claim="prefix-share"),
    ),
    give_way(
        "prefix-not-mergeable",
        "After training I merge the prefix into the key and value maps.",
        "What would you add to which weight?",
        "Nothing can be added: a prefix is further keys and values that do not depend on the input, not a change of a "
        "linear map. It stays in the cache of every request.",
        f"{src.PREFIX}, section 4", src.ALGEBRA,
    ),
    hold(
        "prefix-on-encoders",
        "Prefixes work on encoders; PEFT just does not do it.",
        "PEFT refuses it, so the method is for generation only.",
        "PEFT passes the prefix on as past keys and values, which an encoder does not take. Put into the attention "
        "function, with the mask widened, it works: P-Tuning v2 is that.",
        f"{src.PTUNING2}, section 3.2", src.RUN,
    ),
    hold(
        "prefix-batch-cache",
        "{{value}} of the cache are prefix.",
        "The prefix is one tensor, so it is there once.",
        "It could be; PEFT writes it into the cache of every sequence. Only a cache in pages with shared blocks "
        "keeps it once.",
        src.PEFT, src.PREFIX_CACHING,
    ),
)  # fmt: skip
