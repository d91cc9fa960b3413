"""The verdict on a claim about all models of the catalogue, not about one."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

from peft_lab.claims import get_claim
from peft_lab.claims.base import Claim, Found


@cache
def on_all(claim_id: str) -> dict[str, Found]:
    """What is found on each model of the catalogue that a general claim can be checked on."""
    claim = get_claim(claim_id)
    return {name: claim.on(name) for name in claim.models()} if claim.general else {}


def overall(claim: Claim, here: Found) -> Found:
    """The verdict on the claim as it stands: right where it holds on every model, wrong where on none.

    A claim that is not general has the verdict of the model it was checked on.
    """
    verdicts = {found.verdict for found in on_all(claim.id).values()}
    if not verdicts:
        return here
    return replace(here, verdict=verdicts.pop() if len(verdicts) == 1 else "imprecise")
