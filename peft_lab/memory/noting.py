"""What a traced operation did, and whose it was; found once for inputs of the same shapes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import TYPE_CHECKING, Any

from peft_lab.memory.known_shapes import Known
from peft_lab.memory.work import Op, is_over_lists, operation, operations

if TYPE_CHECKING:
    import torch


def noted(
    known: Known | None, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], result: Any
) -> Iterable[tuple[Op, Any]]:
    """As :func:`peft_lab.memory.work.operations`, from what is known of the operation."""
    if is_over_lists(func, args):
        return operations(func, args, kwargs, result)
    if known is None:
        return ((operation(func, args, kwargs, result), None),)
    if known.op is None:
        known.op = operation(func, args, kwargs, result)
    return ((known.op, None),)


def tensors_in(result: Any) -> Iterator[torch.Tensor]:
    """The tensors an operation returned: itself, or those in a tuple or list of outputs. Of any shape."""
    import torch

    if isinstance(result, torch.Tensor):
        yield result
    elif isinstance(result, (tuple, list)):
        for item in result:
            yield from tensors_in(item)


def first_tensor(args: Any, result: Any) -> torch.Tensor | None:
    """The first tensor that an operation was given, or else returned. Of any shape."""
    return next(chain(tensors_in(args), tensors_in(result)), None)
