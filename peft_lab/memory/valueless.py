"""What an operation gets where it reads a value of a tensor that has none: the answer that needs most memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

#: Mark on a tensor without values that says where values are infinite or no number.
BROKEN = "_says_broken"


def scalar_standin(tensor: torch.Tensor) -> bool | int | float:
    """What code reads when it asks a tensor without values for one: yes, one, the first of a list; no, when it
    asks whether a value is broken.

    ``tensor`` holds one number, whatever its shape.

    PEFT asks in order to decide whether a module dropout spares this step (``rand(1) > p``), whether a norm is
    finite or a logit infinite: the answers that compute, and so need memory, are given.
    """
    import torch

    if tensor.dtype == torch.bool:
        return not getattr(tensor, BROKEN, False)
    return 1.0 if tensor.is_floating_point() else 0


def without_masks(see: Callable[[torch.Tensor], object], indices: Any) -> list[Any]:
    """Indices with every mask replaced by positions, which is what the device does first.

    A mask is taken to pick everything: how much it picks depends on values.
    ``see`` is told of each tensor of positions, of shape (elements of the mask,).
    """
    import torch

    found: list[Any] = []
    for index in indices:
        if index is None or index.dtype not in (torch.bool, torch.uint8):
            found.append(index)
            continue
        for _ in range(index.dim()):
            position = torch.zeros(index.numel(), dtype=torch.int64)
            see(position)
            found.append(position)
    return found
