"""One optimizer step. There is no second one: a run calls it on real tensors, a simulation on tensors without values,
and an exported script holds its source.

    loss = cross entropy of model(batch)        forward
    g = d loss / d trained                      backward
    g <- g · min(1, clip / ‖g‖)                 optimizer: clipping (Pascanu et al. 2013, arXiv 1211.5063),
    trained <- AdamW(trained, g)                           then the update
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

#: Told of each phase as it begins: ``zero_grad``, ``forward``, ``backward``, ``optimizer``.
Phase = Callable[[str], None]


def nobody(phase: str) -> None:
    """For those who do not follow the phases."""


def add_gradients(
    model: torch.nn.Module,
    batch: Mapping[str, torch.Tensor],
    loss_of: Callable[[torch.nn.Module, Mapping[str, torch.Tensor]], torch.Tensor],
    phase: Phase = nobody,
) -> None:
    """A pass before that of the step: its gradients stay, and the step's own are added to them.

    Args:
        batch: what ``loss_of`` reads, each tensor with the rows first.
        loss_of: the mean loss over a batch, a tensor without dimensions.
    """
    phase("forward")
    loss = loss_of(model, batch)
    phase("backward")
    loss.backward()


def train_step(
    model: torch.nn.Module,
    batch: Mapping[str, torch.Tensor],
    loss_of: Callable[[torch.nn.Module, Mapping[str, torch.Tensor]], torch.Tensor],
    masters: Any,
    optimizer: Any,
    clip: float = 0.0,
    phase: Phase = nobody,
    foreach: bool | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Forward, backward, clipping, update. Gradients of the step before are dropped first.

    Args:
        batch: what ``loss_of`` reads, each tensor with the rows first.
        loss_of: the mean loss over a batch, a tensor without dimensions.
        masters: the trained parameters as the optimizer has them (:class:`peft_lab.training.precision.Masters`).
        optimizer: over ``masters.parameters``; its groups' rates are those of this step.
        clip: the largest norm that all gradients together may have; 0 leaves them as they are.
        foreach: whether the norm is taken of lists of tensors; ``None``: as torch chooses.

    Returns:
        the loss, and the norm of the gradients before clipping; both without dimensions, and without values where the
        model's tensors have none.
    """
    import torch

    phase("zero_grad")
    optimizer.zero_grad()
    phase("forward")
    loss = loss_of(model, batch)
    found = loss.detach()
    phase("backward")
    if loss.requires_grad:  # nothing is trained in a model of biases that has none
        loss.backward()
    del loss
    phase("optimizer")
    masters.take_gradients()
    norm = torch.nn.utils.clip_grad_norm_(masters.parameters, clip or math.inf, foreach=foreach)
    optimizer.step()
    masters.publish()
    return found, norm
