"""The training loop: batch after batch through :func:`~peft_lab.training.step.train_step`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

from peft_lab.training.batches import Encoded, collate, loss_of
from peft_lab.training.step import nobody, train_step

if TYPE_CHECKING:
    import torch

    from peft_lab.training.step import Phase

if TYPE_CHECKING:
    #: What follows one step: told its number and its batch, it gives the function that hears the phases.
    Follow = Callable[[int, Mapping[str, torch.Tensor]], AbstractContextManager[Phase]]


class Made(NamedTuple):
    """A step that was made.

    Attributes:
        step: from 0. loss: the batch's mean. norm: of the gradients before clipping. rate: of the first group.
        tokens: in the batch, padding left out; 0 of images. seconds: from collating to the update.
    """

    step: int
    loss: float
    norm: float
    rate: float
    tokens: int
    seconds: float


def unfollowed(step: int, batch: Mapping[str, torch.Tensor]) -> AbstractContextManager[Phase]:
    """Follows no step. ``batch``: tensors of shape (rows, length)."""
    return nullcontext(nobody)


def fit(
    model: torch.nn.Module,
    encoded: Sequence[Encoded],
    order: Iterable[Sequence[int]],
    masters: Any,
    optimizer: Any,
    rate: Callable[[int], float],
    clip: float,
    pad: int,
    device: str,
    follow: Follow = unfollowed,
    first: int = 0,
) -> Iterator[Made]:
    """Make the steps one by one; whoever asks for no more of them ends the training.

    Args:
        encoded: the rows. order: the rows of every batch, by number.
        masters: the trained parameters (:class:`peft_lab.training.step.Masters`).
        optimizer: its groups say their peak rate (``peak``). rate: its share at a step.
        clip: the largest norm of the gradients; 0: any. pad: the token that fills rows up.
        first: the steps before it are left out: their updates have been made.
    """
    model.train()
    for step, numbers in enumerate(islice(order, first, None), first):
        start = time.perf_counter()
        batch = collate([encoded[number] for number in numbers], pad, device)
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * rate(step)
        with follow(step, batch) as phase:
            loss, norm = train_step(model, batch, loss_of, masters, optimizer, clip, phase)
            found = float(loss), float(norm)
        mask = batch.get("attention_mask")  # images have none
        tokens, seconds = 0 if mask is None else int(mask.sum()), time.perf_counter() - start
        yield Made(step, *found, optimizer.param_groups[0]["lr"], tokens, seconds)
