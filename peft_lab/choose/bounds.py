"""What a step needs at least and at most, told by simulations of the same step with other rows and other lengths.

With ``b`` rows of ``s`` tokens a step needs c₀ + c₁·b·s + c₂·b·s², no coefficient negative: weights and states, what is
kept of every token, and the scores of attention where they are stored. So

- a step with more rows, or with longer ones, needs no less;
- between two numbers of rows of one length it is a line, and on that line, counted in tokens, longer rows need no less;
- all beside the weights grows no faster than the faster of b·s and b·s².

The allocator rounds, and its segments do not always find the same gaps: a bound decides only where it is
:data:`MARGIN` away from the limit, and what is near is simulated (``tests/choose/test_bounds.py`` sets bounds against
simulations).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import ceil, inf

MARGIN = 1.05
#: How much of a line's slope counts past its second point: what the allocator rounded there grows with the distance.
TRUSTED = 0.9

#: rows, tokens of a row -> bytes, as simulated
Known = Mapping[tuple[int, int], int]
#: rows -> bytes at least and at most
Between = Callable[[int], tuple[float, float]]


def bounds(known: Known, weights: int, rows: int, seq: int) -> tuple[float, float]:
    """Bytes that ``rows`` of ``seq`` tokens need at least and at most; twice the same where that was simulated.

    ``weights``: bytes that every step needs.

    >>> bounds({(1, 512): 18, (4, 512): 24}, 16, 4, 1024)
    (31.2, 48.0)
    """
    if (rows, seq) in known:
        return known[rows, seq], known[rows, seq]
    low, high = float(weights), inf
    lengths: dict[int, dict[int, int]] = {}
    for (other, length), needed in known.items():
        ratio = max(1.0, rows * seq / (other * length), rows * seq**2 / (other * length**2))
        high = min(high, weights + max(0, needed - weights) * ratio)
        if other <= rows and length <= seq:
            low = max(low, needed)
        lengths.setdefault(length, {})[other] = needed
    for length, by_rows in lengths.items():
        few, many = min(by_rows), max(by_rows)
        tokens = rows * seq / length
        if length <= seq and few < many and tokens >= few:
            slope = max(0, by_rows[many] - by_rows[few]) / (many - few)
            beyond = max(0.0, tokens - many)
            low = max(low, by_rows[few] + slope * (tokens - beyond - few + TRUSTED * beyond))
    # The allocator rounds, so that they may cross; the same twice would say that it was simulated.
    return min(low, high), max(low, high, min(low, high) + 1)


def anything(rows: int) -> tuple[float, float]:
    """Nothing is known."""
    return 0.0, inf


def decided(between: tuple[float, float], limit: float) -> bool | None:
    """Whether a step is within a limit for certain; ``None``: it has to be simulated."""
    low, high = between
    if low == high:
        return low <= limit
    if low > limit * MARGIN:
        return False
    return True if high <= limit / MARGIN else None


def largest_rows(
    needs: Callable[[int], int], most: int, limit: int, tight: bool = False, between: Between = anything
) -> tuple[int, int] | None:
    """The most rows that fit, up to ``most``, and what they need: in one pass, or in equal ones, as few as will do.

    ``tight``: one row is asked for first, as it may well be too much already. ``between``: what spares asking.
    """

    def fits(rows: int) -> bool:
        known = decided(between(rows), limit)
        return needs(rows) <= limit if known is None else known

    def holds(rows: int) -> bool:
        return decided(between(rows), limit) is not False and needs(rows) <= limit

    if most > 1 and tight and not fits(1):
        return None
    if holds(most):
        return most, needs(most)
    if most == 1 or not fits(1):
        return None
    passes = 2
    if most > 2:
        least, whole = needs(1), needs(most)
        line = 1 + max(0, limit - least) * (most - 1) // (whole - least) if whole > least else 1
        passes = max(passes, ceil(most / min(line, most)))
    while (rows := ceil(most / passes)) > 1:
        if holds(rows):
            return rows, needs(rows)
        passes += max(1, passes // 8)
        while ceil(most / passes) == rows:
            passes += 1
    return (1, needs(1)) if needs(1) <= limit else None
