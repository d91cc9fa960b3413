"""State the result of checking a claim, the model it is checked on, and how a verdict follows from a figure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import sqrt
from typing import Any, Literal

from peft_lab.interview.computed import Case

Verdict = Literal["right", "imprecise", "wrong"]
VERDICTS: tuple[Verdict, ...] = ("right", "imprecise", "wrong")
FIRST = "llama-3.2-3b"


@dataclass(frozen=True)
class Found:
    """The result of checking a claim on one model.

    Attributes:
        verdict: follows from the figures wherever figures decide.
        found: the figures, in one or two sentences without a full stop at the end of the last.
        why: the explanation of the figures.
        values: the figures themselves, by name, as computed.
        cited: published figures beside those of ``found``, as a sentence of the same kind; empty if there are none.
    """

    verdict: Verdict
    found: str
    why: str
    values: dict[str, float] = field(default_factory=dict)
    cited: str = ""


@dataclass(frozen=True)
class Checked:
    """The result of a check function: figures, and no sentence.

    Attributes:
        values: as in :class:`Found`. words: further numbers, texts and lists of (title, number) that sentences name.
        case: the key of the claim's other sentences that fit here; empty for its usual ones.
    """

    verdict: Verdict
    values: dict[str, float]
    words: Mapping[str, Any] = field(default_factory=dict)
    case: str = ""


@dataclass(frozen=True)
class ClaimModel(Case):
    """The model a claim is checked on. ``name``: in the catalogue, or a folder."""

    name: str = FIRST

    def total(self, method: str, **values: Any) -> int:
        """Return all parameters, including those that the method adds. Raises BadInput as :meth:`formula`."""
        return self.shape.total + self.formula(method, **values).added

    def share(self, method: str, **values: Any) -> float:
        """Return the trained parameters in percent of all. Raises BadInput as :meth:`formula`."""
        return 100 * self.trained(method, **values) / self.total(method, **values)


# ----------------------------------------
# How a verdict follows from a figure.


ABOUT = 0.25  # relative: what "about" still covers
SURE = 2  # standard errors: a smaller difference between two scores proves nothing
FACTOR = 10  # beyond this factor off a bound a claim is wrong rather than imprecise


def within(value: float, low: float, high: float) -> Verdict:
    """Return right inside the bounds, imprecise less than a factor of ten outside them, else wrong."""
    if low <= value <= high:
        return "right"
    return "imprecise" if low / FACTOR <= value <= high * FACTOR else "wrong"


def about(value: float, stated: float) -> Verdict:
    """Return right within a quarter of the stated value, imprecise less than a factor of ten off, else wrong."""
    if abs(value - stated) <= ABOUT * stated:
        return "right"
    return within(value, stated, stated)


def both(first: bool, second: bool) -> Verdict:
    """Return right if both parts hold, imprecise if one does, else wrong."""
    return "right" if first and second else "imprecise" if first or second else "wrong"


def holds(statement: bool) -> Verdict:
    """Return right or wrong."""
    return "right" if statement else "wrong"


def error(first: float, second: float, rows: int) -> float:
    """Return the standard error of a difference between two shares of right answers, each out of ``rows``.

    >>> round(error(0.5, 0.5, 1_319), 4)
    0.0195
    """
    return sqrt((first * (1 - first) + second * (1 - second)) / rows)


def apart(difference: float, one_error: float) -> Verdict:
    """Return right if a difference is above what chance explains, wrong if it is as far below, else imprecise.

    >>> [apart(difference, 1.0) for difference in (2.1, 1.9, -1.9, -2.1)]
    ['right', 'imprecise', 'imprecise', 'wrong']
    """
    return holds(difference > 0) if abs(difference) > SURE * one_error else "imprecise"
