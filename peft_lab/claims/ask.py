"""Claims as questions to another process: plain arguments in, plain data out."""

from __future__ import annotations

from peft_lab.claims.base import Found


def found(claim: str, model: str | None = None) -> Found:
    """:meth:`peft_lab.claims.base.Claim.on` by the claim's id. Raises as there."""
    from peft_lab.claims import get_claim

    return get_claim(claim).on(model)
