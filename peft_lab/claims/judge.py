"""How a verdict follows from a figure."""

from __future__ import annotations

from peft_lab.claims.base import Verdict

ABOUT = 0.25  # relative: what "about" still covers
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
