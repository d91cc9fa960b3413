"""NF4 in plain Python: the code book and the bits that one weight costs.

Source: Dettmers et al. 2023, section 3 and appendix E. bitsandbytes has the same code book, which a test holds equal.
"""

from __future__ import annotations

from functools import cache
from statistics import NormalDist

BLOCK = 64  # weights that share one constant
SECOND_BLOCK = 256  # constants that share one second constant under double quantisation
CONSTANT_BITS = 32
SECOND_CONSTANT_BITS = 8
CODE_BITS = 4
HALF = 8  # values on the positive side; the negative side has one fewer, and zero makes it 16


@cache
def nf4_values() -> tuple[float, ...]:
    """The 16 values, ascending, from -1 to 1: quantiles of the normal distribution, divided by the largest.

    The outermost quantile is the mean of those that 15 and 16 equal bins would have, so that both ends exist and one
    value is exactly zero.
    """
    outermost = 1 - (1 / (2 * (2 * HALF - 1)) + 1 / (2 * 2 * HALF)) / 2
    positive, negative = _side(outermost, HALF), _side(outermost, HALF - 1)
    values = sorted([*positive, 0.0, *(-value for value in negative)])
    return tuple(value / values[-1] for value in values)


def _side(outermost: float, count: int) -> list[float]:
    step = (outermost - 0.5) / count
    return [NormalDist().inv_cdf(outermost - step * index) for index in range(count)]


def nearest(value: float) -> float:
    """The code value that a normalised weight is rounded to.

    >>> round(nearest(0.1), 4), nearest(0.0), nearest(0.9)
    (0.0796, 0.0, 1.0)
    """
    return min(nf4_values(), key=lambda code: abs(code - value))


def bits(
    block: int = BLOCK, double: bool = False, constant: int = CONSTANT_BITS, code: int = CODE_BITS
) -> float:
    """Bits per weight, constants included.

    >>> bits(), bits(double=True)  # 4 of the code; a constant of 32 bits for 64 weights, or one of 8 and few of 32
    (4.5, 4.126953125)
    """
    if not double:
        return code + constant / block
    return code + SECOND_CONSTANT_BITS / block + constant / (block * SECOND_BLOCK)
