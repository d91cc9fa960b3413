"""How far a share from few answers can be trusted."""

from __future__ import annotations

from statistics import NormalDist

LEVEL = 0.95


def wilson(known: float, rated: int, level: float = LEVEL) -> tuple[float, float]:
    """Wilson's score interval of a share.

    Points that count in parts spread no more than whole ones of the same mean, so for them it is rather too wide.

    Source: Wilson 1927, "Probable inference, the law of succession, and statistical inference", JASA 22, 209-212.

    >>> [round(end, 3) for end in wilson(8, 10)]
    [0.49, 0.943]
    """
    z = NormalDist().inv_cdf(0.5 + level / 2)
    share, spread = known / rated, z * z / rated
    middle = (share + spread / 2) / (1 + spread)
    half = z * ((share * (1 - share) + spread / 4) / rated) ** 0.5 / (1 + spread)
    return max(0.0, middle - half), min(1.0, middle + half)
