"""NF4 in plain Python: the code book and the bits that one weight costs.

Source: Dettmers et al. 2023, section 3 and appendix E. bitsandbytes has the same code book, which a test holds equal.
Beside it two formats that GPUs multiply in: NVFP4 and MXFP4, of the same 4-bit floats with other constants.
"""

from __future__ import annotations

from functools import cache
from statistics import NormalDist
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

BLOCK = 64  # weights that share one constant
SECOND_BLOCK = 256  # constants that share one second constant under double quantisation
CONSTANT_BITS = 32
SECOND_CONSTANT_BITS = 8
CODE_BITS = 4
NVFP4_BLOCK, MXFP4_BLOCK = 16, 32
E2M1 = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)  # what a 4-bit float can be, beside its sign
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


def float_errors(rows: int = 1 << 18) -> list[float]:
    """Error of normal numbers in percent of their norm in NVFP4 and in MXFP4.

    NVFP4's constants are 8-bit floats (E4M3) under one 32-bit constant for the tensor; MXFP4's are powers of two, the
    largest number's own divided by that of E2M1's (Open Compute Project, Microscaling Formats 1.0, section 6.3).
    """
    import torch

    torch.manual_seed(0)
    weights, largest = torch.randn(rows, MXFP4_BLOCK), E2M1[-1]
    blocks = weights.reshape(-1, NVFP4_BLOCK)
    scale = blocks.abs().amax(dim=1, keepdim=True) / largest
    tensor = scale.max() / torch.finfo(torch.float8_e4m3fn).max
    nvidia = (scale / tensor).to(torch.float8_e4m3fn).float() * tensor
    powers = 2 ** (weights.abs().amax(dim=1, keepdim=True).log2().floor() - 2)
    grid = torch.tensor(E2M1)

    def lost(numbers: torch.Tensor, constant: torch.Tensor) -> float:
        size = (numbers / constant).abs().clamp(max=largest)
        restored = grid[torch.bucketize(size, (grid[1:] + grid[:-1]) / 2)] * numbers.sign() * constant
        return 100 * float((restored - numbers).norm() / numbers.norm())

    return [lost(blocks, nvidia), lost(weights, powers)]
