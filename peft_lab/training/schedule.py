"""How the learning rate moves: a rise to its peak, then a fall towards 0."""

from __future__ import annotations

import math


def rate_at(step: int, steps: int, warmup: float, kind: str) -> float:
    """The learning rate at a step as a share of its peak.

    The rise takes ``warmup`` of all steps and starts above 0, so that the first step learns too. The fall is a straight
    line (``linear``) or half a cosine (``cosine``; Loshchilov & Hutter 2016, arXiv 1608.03983).

    Args:
        step: from 0. steps: how many there are. warmup: from 0 to below 1. kind: ``linear`` or ``cosine``.

    >>> [rate_at(step, 4, 0.5, "linear") for step in range(4)]
    [0.3333333333333333, 0.6666666666666666, 1.0, 0.5]
    """
    rise = min(round(steps * warmup), steps - 1)  # one step at least has the whole rate
    if step < rise:
        return (step + 1) / (rise + 1)
    left = (steps - step) / max(1, steps - rise)
    return left if kind == "linear" else 0.5 * (1 + math.cos(math.pi * (1 - left)))
