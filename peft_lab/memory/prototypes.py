"""Models that simulations of the same question with other rows start from: built once, and copied for each.

Building one costs a simulation a fifth of its time, most of it PEFT's look at every module; a copy a sixth of that.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from peft_lab.memory.build import Blueprint, tensors_of

if TYPE_CHECKING:
    import torch

_KEPT = 4
#: By what was built and how deep; ``None`` for a model whose copy is not like it.
_known: OrderedDict[tuple[str, int], torch.nn.Module | None] = OrderedDict()


def fresh(blueprint: Blueprint, depth: int) -> torch.nn.Module:
    """A model that nobody has stepped yet, as :meth:`Blueprint.build` makes it."""
    if not blueprint.source:
        return blueprint.build(depth)
    key = (blueprint.source, depth)
    if key in _known:
        _known.move_to_end(key)
        kept = _known[key]
        return blueprint.build(depth) if kept is None else _copy(kept)
    built = blueprint.build(depth)
    copied = _copy(built)
    _known[key] = built if _storages(built) == _storages(copied) else None
    if len(_known) > _KEPT:
        _known.popitem(last=False)
    return built if _known[key] is None else copied


def _copy(model: torch.nn.Module) -> torch.nn.Module:
    """All of it, with what is noted on its parameters, which torch leaves behind."""
    memo: dict[int, Any] = {}
    copied = copy.deepcopy(model, memo)
    for parameter in model.parameters():
        vars(memo[id(parameter)]).update(vars(parameter))
    return copied


def _storages(model: torch.nn.Module) -> list[tuple[int, str, bool]]:
    """What tells whether a copy shares what its model shares."""
    return [
        (tensor.untyped_storage().nbytes(), str(tensor.dtype), tensor.requires_grad)
        for tensor in tensors_of(model)
    ]
