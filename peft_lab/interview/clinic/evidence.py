"""Evidence for a fault, its weight, and the registry of the checks that look for it.

Every fault starts with the same odds, about 1 to 30. A piece of evidence multiplies its odds by e to the power of its
weight. The weights are set by hand in four sizes; how reliable the resulting probabilities are was measured: see
``bench/RESULTS.md``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from peft_lab.interview.clinic.features import Features

PRIOR = math.log(1 / 30)
#: Hardly any other explanation; usual with this fault and rare without; consistent; consistent with others too.
PROOF, STRONG, SOME, HINT = 7.0, 4.6, 2.8, 1.4
AGAINST = -3.0

#: The inputs of a check; it runs only if all were given.
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
    """An observation for a fault, or with a negative weight against it. ``text`` quotes what was seen."""

    fault: str
    weight: float
    text: str


Look = Callable[[Features], Iterable[Evidence]]


@dataclass(frozen=True)
class Check:
    """One function that looks for evidence. ``needs``: the inputs that must all be given."""

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
