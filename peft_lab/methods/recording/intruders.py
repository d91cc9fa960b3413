"""Intruder dimensions: strong singular vectors of a tuned matrix that resemble none of the pretrained matrix's.

Shuttleworth et al. 2024, arXiv 2410.21228. The number of vectors examined and the cosine threshold are the defaults of
PEFT's ``reduce_intruder_dimension``, which also compares left singular vectors only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

STRONGEST, THRESHOLD = 10, 0.5


@dataclass(frozen=True)
class Intruders:
    """The strongest singular vectors of a tuned matrix compared with the pretrained ones.

    Attributes:
        cosines: absolute cosines by tuned, then by pretrained vector, of the strongest of each.
        nearest: for each tuned vector, the largest absolute cosine with any pretrained vector, strong or not.
        tuned, pretrained: singular values, descending, as many as there are cosines.
    """

    cosines: tuple[tuple[float, ...], ...]
    nearest: tuple[float, ...]
    tuned: tuple[float, ...]
    pretrained: tuple[float, ...]

    @property
    def found(self) -> tuple[int, ...]:
        """The numbers, from 1, of the tuned vectors that count as intruders."""
        return tuple(number for number, cosine in enumerate(self.nearest, 1) if cosine < THRESHOLD)


def compare(weight: torch.Tensor, change: torch.Tensor, strongest: int = STRONGEST) -> Intruders:
    """Compare the left singular vectors of W + ΔW with those of W.

    Args:
        weight, change: W and ΔW, both (d_out, d_in), of any floating-point type.
        strongest: how many of the largest singular values to examine, at most min(d_out, d_in).
    """
    import torch

    before, old, _ = torch.linalg.svd(weight.float(), full_matrices=False)
    after, new, _ = torch.linalg.svd(weight.float() + change.float(), full_matrices=False)
    cosines = (after[:, :strongest].T @ before).abs()
    return Intruders(
        cosines=tuple(map(tuple, cosines[:, :strongest].tolist())),
        nearest=tuple(cosines.max(dim=1).values.tolist()),
        tuned=tuple(new[:strongest].tolist()),
        pretrained=tuple(old[:strongest].tolist()),
    )
