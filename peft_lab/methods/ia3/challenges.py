"""Doubts about answers on IA³."""

from __future__ import annotations

from peft_lab import references as src
from peft_lab.quiz.challenge import Challenge, give_way, hold
from peft_lab.quiz.follow_up import lab

CHALLENGES: tuple[Challenge, ...] = (
    hold(
        "ia3-start",
        "The vectors start at one.",
        "Everything in PEFT starts at zero, so that nothing is changed.",
        "What is added starts at zero. These multiply, and one is what changes nothing; zero would erase keys and "
        "values.",
        f"{src.IA3}, section 3.3",
    ),
    hold(
        "ia3-peak",
        "IA³ may peak above LoRA although it trains less.",
        "Fewer parameters, fewer gradients, fewer moments: that is less memory, by arithmetic.",
        "By arithmetic all three are next to nothing for both. Activations decide, and a product with a trained vector "
        "has to keep what it multiplies.",
        src.BENCH, src.RUN, opens=lab("misconceptions", belief="predict-ia3-peak"),
    ),
    give_way(
        "ia3-expressiveness",
        "IA³ is LoRA of rank one.",
        "What is the rank of a diagonal matrix times W?",
        "Usually high: every row may be scaled differently. It has few degrees of freedom, but not a low rank. The two "
        "are different restrictions.",
        src.ALGEBRA, f"{src.IA3}, section 3.3",
    ),
    give_way(
        "ia3-share",
        "IA³ trains under {{claimed}}% of any model.",
        "Of this one, too?",
        "Work it out: it is {{value}} here. Vectors grow with the width and matrices with its square, so the share "
        "belongs to a model.",
        f"{src.IA3}, section 3.3", opens=lab("fact_check", claim="ia3-share"),
    ),
    hold(
        "ia3-merge-why",
        "The feed-forward vector can be merged as well.",
        "It stands behind a nonlinearity. That cannot be merged, as with adapters.",
        "It acts after the nonlinearity and before the next linear map, so it scales that map's columns. A vector "
        "before "
        "the nonlinearity would be merged into the map in front.",
        f"{src.IA3}, section 3.3", src.ALGEBRA,
    ),
)  # fmt: skip
