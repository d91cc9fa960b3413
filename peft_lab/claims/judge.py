"""How a verdict follows from a figure."""

from __future__ import annotations

from math import sqrt

from peft_lab.claims.base import Verdict

ABOUT = 0.25  # relative: what "about" still covers
SURE = 2  # standard errors: a smaller difference between two scores proves nothing
FACTOR = 10  # beyond this factor off a bound a claim is wrong rather than imprecise


def within(value: float, low: float, high: float) -> Verdict:
    """Right inside the bounds, imprecise less than a factor of ten outside, else wrong."""
    if low <= value <= high:
        return "right"
    return "imprecise" if low / FACTOR <= value <= high * FACTOR else "wrong"


def about(value: float, stated: float) -> Verdict:
    """Right within a quarter of what was stated, imprecise less than a factor of ten off, else wrong."""
    if abs(value - stated) <= ABOUT * stated:
        return "right"
    return within(value, stated, stated)


def both(first: bool, second: bool) -> Verdict:
    """Right when both parts hold, imprecise when one does, else wrong."""
    return "right" if first and second else "imprecise" if first or second else "wrong"


def holds(statement: bool) -> Verdict:
    """Right or wrong."""
    return "right" if statement else "wrong"


def error(first: float, second: float, rows: int) -> float:
    """The standard error of a difference between two shares of right answers, each out of ``rows``.

    >>> round(error(0.5, 0.5, 1_319), 4)
    0.0195
    """
    return sqrt((first * (1 - first) + second * (1 - second)) / rows)


def apart(difference: float, one_error: float) -> Verdict:
    """Right where a difference is above what chance explains, wrong where it is as far below, else imprecise.

    >>> [apart(difference, 1.0) for difference in (2.1, 1.9, -1.9, -2.1)]
    ['right', 'imprecise', 'imprecise', 'wrong']
    """
    return holds(difference > 0) if abs(difference) > SURE * one_error else "imprecise"
