"""Evidence for a fault, how much it weighs, and the registry of what looks for it.

Every fault begins with the same odds, about 1 to 30. A piece of evidence multiplies its odds by e to its weight. The
weights are set by hand in four sizes, and how far the probabilities that come out can be trusted was measured: see
``bench/RESULTS.md``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from peft_lab.interview.clinic.features import Features

PRIOR = math.log(1 / 30)
#: It can hardly be otherwise; it is usual with this fault and rare without; it fits; it fits, as it fits others.
PROOF, STRONG, SOME, HINT = 7.0, 4.6, 2.8, 1.4
AGAINST = -3.0

#: What a check reads. One whose input was not given is not run.
Needs = Literal["adapter", "arguments", "rows", "messages", "tensors", "tokens"]
NEEDS: dict[Needs, str] = {
    "adapter": "the adapter's config",
    "arguments": "the training arguments",
    "rows": "the losses",
    "messages": "what the console said",
    "tensors": "the adapter's weights",
    "tokens": "the tokenizer's files",
}


@dataclass(frozen=True)
class Evidence:
    """Something seen that speaks for a fault, or with a negative weight against it. ``text`` quotes what was seen."""

    fault: str
    weight: float
    text: str


Look = Callable[[Features], Iterable[Evidence]]


@dataclass(frozen=True)
class Check:
    """One function that looks for evidence. ``needs``: all of it has to be given."""

    name: str
    needs: tuple[Needs, ...]
    look: Look


CHECKS: list[Check] = []


def check(*needs: Needs) -> Callable[[Look], Look]:
    """Register a function as a check."""

    def register(look: Look) -> Look:
        CHECKS.append(Check(look.__name__, needs, look))
        return look

    return register
