"""Task heads of several adapters on one classifier: each adapter answers through the head it was trained with.

A copy of the head is kept for every adapter, as a child of the model's own head, which stays as it was. A forward hook
puts the active copy's output in place of the head's own, for the whole batch or row by row.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from peft_lab.methods.shared import own_format
from peft_lab.models.heads import HEADS

if TYPE_CHECKING:
    import torch

CHILD = "of_adapters"  # attribute of the head that holds the copies
Active = str | tuple[str | None, ...] | None


@cache
def _kind() -> type[Any]:
    from torch import nn

    class Heads(nn.Module):
        """The copies by adapter name. ``active`` as in :mod:`_bottleneck`."""

        def __init__(self) -> None:
            super().__init__()
            self.copies = nn.ModuleDict()
            self.active: Active = None

        def forward(self, head: Any, args: tuple[Any, ...], output: torch.Tensor) -> torch.Tensor:
            """Hook after the head. ``args``: (states,), rows first."""
            if self.active is None:
                return output
            if isinstance(self.active, str):
                return self.copies[self.active](*args) if self.active in self.copies else output
            mixed = output.clone()
            for name in dict.fromkeys(self.active):
                if name is not None and name in self.copies:
                    rows = [row for row, other in enumerate(self.active) if other == name]
                    mixed[rows] = self.copies[name](args[0][rows])
            return mixed

    return Heads


def add(model: torch.nn.Module, name: str, state: Mapping[str, torch.Tensor]) -> None:
    """Keep a head for an adapter. ``state``: the head's parameters by their path in the model.

    Each has the shape that it has in the model.

    Raises:
        BadInput: parameters that this model's head does not have.
    """
    own = dict(model.named_parameters())
    own_format.require_same(own, state)
    root = _root(next(iter(state)))
    head = model.get_submodule(root)
    heads = getattr(head, CHILD, None)
    made: Any = copy.deepcopy(head)
    if heads is None:
        heads = _kind()()
        head.register_forward_hook(heads)
        setattr(head, CHILD, heads)
    else:
        delattr(made, CHILD)
        made._forward_hooks.clear()
    inside = {key.removeprefix(f"{root}."): tensor for key, tensor in state.items()}
    own_format.copy_into(dict(made.named_parameters()), inside)
    made.requires_grad_(False)
    heads.copies[name] = made


def set_active(model: torch.nn.Module, active: Active) -> None:
    """Answer through the heads of these adapters; ``None``, or an adapter without a head, through the model's own."""
    for _, heads in _found(model):
        heads.active = active


def state_of(model: torch.nn.Module, name: str) -> dict[str, torch.Tensor]:
    """The parameters of one adapter's head by their path in the model; empty when none is kept for it.

    Each has the shape that it has in the model.
    """
    found = {}
    for path, heads in _found(model):
        if name in heads.copies:
            root = path.removesuffix(f".{CHILD}")
            for key, parameter in heads.copies[name].named_parameters():
                found[f"{root}.{key}"] = parameter.detach()
    return found


def remove(model: torch.nn.Module) -> None:
    """Take all copies off."""
    for path, heads in _found(model):
        head = model.get_submodule(path.removesuffix(f".{CHILD}"))
        delattr(head, CHILD)
        for key in [key for key, hook in head._forward_hooks.items() if hook is heads]:
            del head._forward_hooks[key]


def _found(model: torch.nn.Module) -> list[tuple[str, Any]]:
    return [(path, module) for path, module in model.named_modules() if isinstance(module, _kind())]


def _root(parameter: str) -> str:
    """``classifier`` of ``classifier.out_proj.weight``."""
    parts = parameter.split(".")
    last = next(index for index, part in enumerate(parts) if part in HEADS)
    return ".".join(parts[: last + 1])
