"""Make optimizer steps. There is one implementation: a run calls it on real tensors, a simulation on tensors without
values, and an exported script contains its source.

    loss = cross entropy of model(batch)        forward
    g = d loss / d trained                      backward
    g <- g · min(1, clip / ‖g‖)                 optimizer: clipping (Pascanu et al. 2013, arXiv 1211.5063),
    trained <- AdamW(trained, g)                           then the update
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

from peft_lab.models.shapes import in_head
from peft_lab.training.batches import Encoded, collate, loss_of

if TYPE_CHECKING:
    import torch

#: Called with the name of each phase as it begins: ``zero_grad``, ``forward``, ``backward``, ``optimizer``.
Phase = Callable[[str], None]


def nobody(phase: str) -> None:
    """Ignore the name of a phase."""


def add_gradients(
    model: torch.nn.Module,
    batch: Mapping[str, torch.Tensor],
    loss_of: Callable[[torch.nn.Module, Mapping[str, torch.Tensor]], torch.Tensor],
    phase: Phase = nobody,
) -> None:
    """Run a forward and a backward pass before the step's own, which adds its gradients to these. ``batch``: what
    ``loss_of`` reads, each tensor with the rows first. ``loss_of``: returns the mean loss over a batch, a scalar."""
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
    """Make a step: forward, backward, clipping, update. Gradients of the previous step are dropped first.

    Args:
        batch: what ``loss_of`` reads, each tensor with the rows first.
        loss_of: returns the mean loss over a batch, a scalar.
        masters: the trained parameters as the optimizer has them (:class:`peft_lab.training.step.Masters`).
        optimizer: over ``masters.parameters``; its groups hold this step's learning rates.
        clip: the largest norm that all gradients together may have; 0 leaves them as they are.
        foreach: whether the norm is computed on lists of tensors; ``None``: torch chooses.

    Returns:
        the loss, and the norm of the gradients before clipping; both scalars, without values if the model's tensors
        have none.
    """
    import torch

    phase("zero_grad")
    optimizer.zero_grad()
    phase("forward")
    loss = loss_of(model, batch)
    value = loss.detach()
    phase("backward")
    if loss.requires_grad:  # nothing is trained in a model of biases that has none
        loss.backward()
    del loss
    phase("optimizer")
    masters.take_gradients()
    norm = torch.nn.utils.clip_grad_norm_(masters.parameters, clip or math.inf, foreach=foreach)
    optimizer.step()
    masters.publish()
    return value, norm


# ----------------------------------------
# bfloat16 arithmetic with float32 memory.
#
# Multiplying in bfloat16 is twice as fast where the hardware has it, but a weight in bfloat16 forgets any update
# below 1/256 of itself. So the trained parameters live twice: in bfloat16 in the model, which computes, and in
# float32 in the optimizer, which remembers (Micikevicius et al. 2017, arXiv 1710.03740, section 3.1). They are few,
# so it costs little.


# PEFT's prompt encoders run once a step over a few tokens: they stay in float32, and PEFT casts their output.
KEPT = "prompt_encoder"


def cast_added(model: torch.nn.Module, dtype: torch.dtype) -> None:
    """Cast what a method added to a base of ``dtype`` to that precision, in place. PEFT keeps adapters in float32
    beside a 16-bit base, and then casts every activation on the way in and out."""
    import torch

    for name, parameter in model.named_parameters():
        if parameter.dtype == torch.float32 and KEPT not in name:
            parameter.data = parameter.data.to(dtype)


class Masters:
    """The trained parameters in float32. A parameter that is float32 in the model is used itself."""

    def __init__(self, model: torch.nn.Module) -> None:
        import torch

        named = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
        low = {name: parameter for name, parameter in named.items() if parameter.dtype != torch.float32}
        full = {name: torch.nn.Parameter(parameter.detach().float()) for name, parameter in low.items()}
        self._low: list[torch.Tensor] = list(low.values())
        self._full: list[torch.Tensor] = list(full.values())
        same = {name: parameter for name, parameter in named.items() if name not in low}
        self._named: dict[str, torch.Tensor] = {**same, **full}

    @property
    def parameters(self) -> list[torch.Tensor]:
        """Return the tensors to optimise, in float32: copies in the parameters' shapes, or the parameters
        themselves."""
        return list(self._named.values())

    def groups(
        self, rate: float, head_rate: float | None, factor: Callable[[str], float] = lambda name: 1.0
    ) -> list[dict[str, Any]]:
        """Return the parameters for an optimizer, those with the same learning rate in a group.

        Args:
            rate: of all parameters but a task head's. head_rate: of a task head; ``None``: as all others.
            factor: multiplies ``rate`` for a parameter, by its name in the model; ``head_rate`` is not multiplied.

        Returns:
            groups with their rate as ``lr`` and ``peak``; the group of the plain ``rate``, if there is one, first.
        """
        table: dict[tuple[bool, float], list[torch.Tensor]] = {}
        for name, parameter in self._named.items():
            head = head_rate is not None and in_head(name)
            key = (head, float(head_rate or 0.0) if head else rate * factor(name))
            table.setdefault(key, []).append(parameter)
        order = sorted(table, key=lambda key: (key[0], key[1] != rate))
        return [{"params": table[key], "lr": key[1], "peak": key[1]} for key in order]

    def state(self) -> dict[str, torch.Tensor]:
        """Return the parameters by their names in the model, in float32 and in the shape of each; not copies."""
        return {name: parameter.detach() for name, parameter in self._named.items()}

    def load(self, state: Mapping[str, torch.Tensor]) -> None:
        """Restore what :meth:`state` returned, in the model too. ``state``: a tensor in the shape of each parameter, by
        its name. Raises KeyError (a parameter is missing)."""
        import torch

        with torch.no_grad():
            for name, parameter in self._named.items():
                parameter.copy_(state[name])
        self.publish()

    def take_gradients(self) -> None:
        """Move the gradients of the last backward pass from the model to the masters."""
        for low, full in zip(self._low, self._full, strict=True):
            full.grad = None if low.grad is None else low.grad.float()
            low.grad = None

    def publish(self) -> None:
        """Copy the masters, rounded, into the model after an optimizer step."""
        import torch

        if self._low:
            with torch.no_grad():
                torch._foreach_copy_(self._low, self._full)

    def restore(self) -> None:
        """Replace the model's parameters by the float32 masters, to save what was learned without rounding."""
        for low, full in zip(self._low, self._full, strict=True):
            low.data = full.data


class InPlace:
    """The trained parameters themselves, updated in the precision in which they compute."""

    def __init__(self, parameters: Sequence[torch.Tensor]) -> None:
        self.parameters = list(parameters)

    def take_gradients(self) -> None:
        """Do nothing: the optimizer reads the model's gradients."""

    def publish(self) -> None:
        """Do nothing: the optimizer updates the model."""


# ----------------------------------------
# How the learning rate moves: a rise to its peak, then a fall towards 0.


def rate_at(step: int, steps: int, warmup: float, kind: str) -> float:
    """Return the learning rate at a step as a share of its peak.

    The rise takes ``warmup`` of all steps and starts above 0, so that the first step learns too. The fall is a straight
    line (``linear``) or half a cosine (``cosine``; Loshchilov & Hutter 2016, arXiv 1608.03983).

    Args:
        step: from 0. steps: their number. warmup: from 0 to below 1. kind: ``linear`` or ``cosine``.

    >>> [rate_at(step, 4, 0.5, "linear") for step in range(4)]
    [0.3333333333333333, 0.6666666666666666, 1.0, 0.5]
    """
    rise = min(round(steps * warmup), steps - 1)  # one step at least has the whole rate
    if step < rise:
        return (step + 1) / (rise + 1)
    left = (steps - step) / max(1, steps - rise)
    return left if kind == "linear" else 0.5 * (1 + math.cos(math.pi * (1 - left)))


if TYPE_CHECKING:
    #: Observes one step: given its number and batch, returns a context that yields a function to call with each phase.
    Follow = Callable[[int, Mapping[str, torch.Tensor]], AbstractContextManager[Phase]]


class Made(NamedTuple):
    """A finished step. ``step``: from 0. ``loss``: the batch's mean. ``norm``: of the gradients before clipping.
    ``rate``: of the first group. ``tokens``: in the batch, without padding; 0 for images. ``seconds``: from collating
    to the update."""

    step: int
    loss: float
    norm: float
    rate: float
    tokens: int
    seconds: float


def unfollowed(step: int, batch: Mapping[str, torch.Tensor]) -> AbstractContextManager[Phase]:
    """Return a context that ignores the step's phases. ``batch``: tensors of shape (rows, length)."""
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
    """Make the steps and yield them one by one. ``encoded``: the rows. ``order``: those of every batch, by number.
    ``optimizer``: its groups hold their peak rate as ``peak``. ``rate``: returns the share of it at a step. ``clip``:
    the largest norm of the gradients; 0: any. ``first``: the number of steps made before, which are skipped."""
    model.train()
    for step, numbers in enumerate(islice(order, first, None), first):
        start = time.perf_counter()
        batch = collate([encoded[number] for number in numbers], pad, device)
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * rate(step)
        with follow(step, batch) as phase:
            loss, norm = train_step(model, batch, loss_of, masters, optimizer, clip, phase)
            figures = float(loss), float(norm)
        mask = batch.get("attention_mask")  # images have none
        tokens, seconds = 0 if mask is None else int(mask.sum()), time.perf_counter() - start
        yield Made(step, *figures, optimizer.param_groups[0]["lr"], tokens, seconds)
