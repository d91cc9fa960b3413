"""Optimizers of a step on several devices that one device does not have."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from peft_lab.errors import Unsupported
from peft_lab.memory.optimizers import OPTIMIZER_TITLES, Nothing
from peft_lab.memory.tracker import own_part
from peft_lab.sharding import tensor

if TYPE_CHECKING:
    import torch

#: Moments that an optimizer keeps, in numbers as wide as a parameter's.
_MOMENTS = {"adamw": 2, "sgd": 0}


def _refuse(name: str, where: str) -> Unsupported:
    known = " and ".join(OPTIMIZER_TITLES[each] for each in _MOMENTS)
    return Unsupported(f"{OPTIMIZER_TITLES[name]} is not simulated {where}: {known} are.", "optimizer")


#: Why an optimizer of torch's or PEFT's does not work on what FSDP2 splits. Tried on two processes with torch 2.13.
_WHOLE = {
    "adafactor": "torch's Adafactor stops at parameters that FSDP2 has split: it squares a norm in place of which each "
    "device has a part.",
    "muon": "Muon needs whole matrices; on the parts of them that FSDP2 leaves it, its sums in bfloat16 moved losses "
    "further from one process's than DDP does.",
    "lorafa": "LoRA-FA's optimizer mixes whole matrices with the parts that FSDP2 leaves it, which torch refuses.",
}


#: Nor with DDP: it counts on a gradient of every parameter that needed one when it was made.
_BEFORE_DDP = (
    "PEFT's LoRA-FA optimizer freezes every A when it is made, whose gradients DDP waits for by then."
)


def why_not(name: str, runs: str) -> str:
    """Why an optimizer does not work where a step ``runs`` as ``fsdp2``, ``tp`` or ``ddp``; empty where it does.

    Tried with bitsandbytes 0.50.2: its operations raise for a DTensor ("got mixed torch.Tensor and DTensor", "does not
    have a sharding strategy registered").
    """
    if runs == "ddp" and name == "lorafa":
        return _BEFORE_DDP
    if runs == "tp":
        return tensor.why_no_optimizer(name)
    if runs != "fsdp2" or name in _MOMENTS:
        return ""
    theirs = f"{OPTIMIZER_TITLES[name]} is bitsandbytes', whose optimizers do not take parameters that FSDP2 has split."
    return _WHOLE.get(name, theirs)


def check(name: str, runs: str) -> None:
    """Raises Unsupported for an optimizer that does not work where a step runs so, with the reason."""
    if reason := why_not(name, runs):
        raise Unsupported(reason, "optimizer")


def moments(name: str) -> int:
    """Numbers that an optimizer keeps for each that it trains; 0 of those that take no part in offloading."""
    return _MOMENTS.get(name, 0)


class Hosted:
    """An optimizer whose parameters, gradients and states are in main memory: there it works, here it takes nothing."""

    def __init__(self, name: str, parameters: Sequence[torch.nn.Parameter]) -> None:
        if name not in _MOMENTS:
            raise _refuse(name, "with what is split in main memory")
        self._moments = _MOMENTS[name]
        self._parameters = list(parameters)

    def paged_bytes(self, parameters: Sequence[torch.nn.Parameter] | None = None) -> int:
        """Bytes in main memory of all parameters or of these: themselves, and if trained gradients and states."""
        total = 0
        for parameter in self._parameters if parameters is None else parameters:
            share = own_part(parameter)
            each = 2 + self._moments if parameter.requires_grad else 1
            total += share.numel() * share.element_size() * each
        return total

    def zero_grad(self) -> None:
        """Lets all gradients go."""
        for parameter in self._parameters:
            parameter.grad = None

    def step(self) -> None:
        """Nothing of it happens on the device."""


def divided(name: str, parameters: Sequence[torch.nn.Parameter], foreach: bool) -> Any:
    """torch's ZeroRedundancyOptimizer: each device keeps the states of some parameters, updates them, and sends them
    to the others.

    Raises Unsupported for optimizers that it is not simulated with.
    """
    import torch
    from torch.distributed.optim import ZeroRedundancyOptimizer

    trained = [parameter for parameter in parameters if parameter.requires_grad]
    if name not in _MOMENTS:
        raise _refuse(name, "with its states split")
    if not trained:
        return Nothing()
    kinds = {"adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}
    return ZeroRedundancyOptimizer(trained, optimizer_class=kinds[name], lr=1e-3, foreach=foreach)
