"""What the source text says about Prompt Tuning alone: its parameters, what it is, what it costs."""

from __future__ import annotations

from peft_lab.claims.base import Found, Subject, counted
from peft_lab.claims.figures import TOKENS, share
from peft_lab.quiz.fits import prompted

FEW_TOKENS = 8


def _prompt_share(model: Subject) -> Found:
    few, more = (model.share("prompt", num_virtual_tokens=count) for count in (FEW_TOKENS, TOKENS))
    limit = 0.01
    verdict = "right" if more < limit else "imprecise" if few < limit else "wrong"
    return Found(
        verdict,  # type: ignore[arg-type]
        f"{share(few)} with {FEW_TOKENS} tokens, {share(more)} with {TOKENS}",
        "Tokens times width over all parameters: width grows far slower than the model, so the share is tiny only on "
        "large ones.",
        {"few": few, "more": more},
    )


CLAIMS = (
    counted(
        id="prompt-share", topic="prompt", check=_prompt_share, fits=prompted,
        claim="Prompt Tuning trains less than 0.01% of the parameters.", quote="Prompt Tuning | <0.01%",
    ),
)  # fmt: skip
