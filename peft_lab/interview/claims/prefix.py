"""What the source text says about Prefix Tuning alone: its parameters, what it is, what it costs."""

from __future__ import annotations

from peft_lab.core import units
from peft_lab.interview.claims.base import Found, Subject, counted, holds
from peft_lab.interview.claims.figures import TOKENS, share, times
from peft_lab.interview.question import prefixed

NEAR = 2  # times: still "slightly"


def _prefix_share(model: Subject) -> Found:
    plain = model.share("prefix", num_virtual_tokens=TOKENS)
    projected = model.share("prefix", num_virtual_tokens=TOKENS, prefix_projection=True)
    verdict = "right" if max(plain, projected) < 1 else "imprecise" if plain < 1 else "wrong"
    return Found(
        verdict,  # type: ignore[arg-type]
        f"{TOKENS} tokens: {share(plain)} trained without projection, {share(projected)} with it",
        "The text's own snippet switches the projection on: an MLP that exists in training only is then most of what "
        "is "
        "trained. What is stored stays small.",
        {"plain": plain, "projected": projected},
    )


def _prefix_against_prompt(model: Subject) -> Found:
    prefix = model.stored("prefix", num_virtual_tokens=TOKENS)
    prompt = model.stored("prompt", num_virtual_tokens=TOKENS)
    ratio = prefix / prompt
    return Found(
        holds(ratio <= NEAR),
        f"{units.count(prefix)} against {units.count(prompt)} for {TOKENS} tokens: {times(ratio)} as many",
        "A prompt is one vector for each token; a prefix has keys and values in every layer.",
        {"ratio": ratio},
    )


CLAIMS = (
    counted(
        id="prefix-share", topic="prefix", check=_prefix_share, fits=prefixed,
        claim="Prefix Tuning trains less than 1% of the parameters.", quote="Prefix Tuning | <1%",
    ),
    counted(
        id="prefix-slightly-more", topic="prefix", check=_prefix_against_prompt, fits=prefixed,
        claim="Prefix Tuning has slightly more parameters than Prompt Tuning.",
        quote="Slightly more parameters than prompt tuning but more expressive.",
    ),
)  # fmt: skip
