"""Simulations, experiments and published figures that several checks ask for."""

from __future__ import annotations

from dataclasses import replace
from functools import cache, lru_cache
from typing import Any

from peft_lab.advise.words import PUBLISHED
from peft_lab.core import units
from peft_lab.engine import published
from peft_lab.engine.request import Setting, Simulation, StepRequest
from peft_lab.engine.simulate import simulate
from peft_lab.interview.claims import get_claim
from peft_lab.interview.claims.base import Claim, Found
from peft_lab.methods import get_method
from peft_lab.models.shapes import ModelShape

BATCH, SEQ = 4, 512  # of the steps that are simulated, where a claim says nothing
FEWEST = 1  # rows
RANK, TOKENS = 16, 20  # of the text's snippets


def query_value(shape: ModelShape) -> list[str]:
    """Query and value maps under the model's names (the fused map where there is one)."""
    return list(get_method("lora").defaults(shape)["target_modules"])


def share(value: float) -> str:
    """A percentage as it is written."""
    return units.percent(value)


def simulated(
    model: str, method: str, values: dict[str, Any] | None = None, batch: int = BATCH, seq: int = SEQ,
    checkpointing: bool = False,
) -> Simulation:  # fmt: skip
    """A training step in bfloat16 with AdamW. Imports torch; each is run once per process.

    Raises:
        BadInput, SimulationError: as :func:`peft_lab.engine.simulate.simulate`.
    """
    return _simulated(
        StepRequest(model, method, values or {}, Setting(batch, seq), checkpointing=checkpointing)
    )


_simulated = lru_cache(maxsize=128)(simulate)


def accuracy(method: str) -> float:
    """Percent of right answers in the published comparison."""
    return 100 * published.rows()[PUBLISHED[method]].accuracy


def published_row(experiment: str) -> published.PublishedRow:
    return published.rows()[experiment]


def times(value: float) -> str:
    """How many times: three digits."""
    return f"{value:,.3g} times"


# ----------------------------------------
# The verdict on a claim about all models of the catalogue, not about one.


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
