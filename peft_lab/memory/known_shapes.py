"""What an operation returned for inputs of the same shapes before, so that it need not be worked out again.

On the meta device many operations run in Python, and a step repeats most of them layer after layer. Only operations
that neither change nor return one of their inputs are kept, and what they return is made anew each time. A simulation
takes half the time (bench/RESULTS.md). What such an operation does (:mod:`peft_lab.memory.work`) follows from the same
shapes, and is kept beside it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from peft_lab.memory.work import Op

_KEPT = 50_000  # operations; all are dropped when there are more


class Known:
    """An operation that was carried out before. ``make``: makes what it returns. ``op``: what it does, once noted."""

    __slots__ = ("make", "op")

    def __init__(self, make: Callable[[], Any]) -> None:
        self.make = make
        self.op: Op | None = None


_known: dict[Any, Known | None] = {}


class _Unknown(Exception):
    """Inputs that cannot be told by their shapes."""


def carry_out(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Known | None]:
    """``func(*args, **kwargs)``, from what is known where that is the same; and what is known of it, if it is kept."""
    if not _is_pure(func):
        if not _changes_lists(func):
            return func(*args, **kwargs), None
        _changed(func, args, kwargs)
        return None, None
    try:
        key = (func, _key(args), _key(tuple(kwargs.items())) if kwargs else ())
        known = _known.get(key)
    except (_Unknown, TypeError):
        return func(*args, **kwargs), None
    if known is not None:
        return known.make(), known
    result = func(*args, **kwargs)
    # Some return an input although their schema says otherwise (_unsafe_view); for the same shapes they always do.
    make = None if _places(result) & _places((args, tuple(kwargs.values()))) else _maker(result)
    if make is None:
        return result, None
    if len(_known) >= _KEPT:
        _known.clear()
    found = _known[key] = Known(make)
    return result, found


def _changed(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """A kernel over lists that changes what it is given: of the same shapes it does nothing where there are no values,
    whatever the numbers beside them are."""
    try:
        key = (func, _key(args, numbers=False), _key(tuple(kwargs.items()), numbers=False))
        known = key in _known
    except (_Unknown, TypeError):
        func(*args, **kwargs)
        return
    if not known:
        func(*args, **kwargs)
        if len(_known) >= _KEPT:
            _known.clear()
        _known[key] = None


@cache
def _changes_lists(func: Any) -> bool:
    """Whether an operation changes tensors of lists and returns nothing."""
    name = func.__name__.partition(".")[0]
    return name.startswith("_foreach_") and name.endswith("_") and not func._schema.returns


@cache
def _is_pure(func: Any) -> bool:
    """Whether an operation reads its inputs and returns something new, by its schema."""
    schema = func._schema
    return bool(schema.returns) and not any(
        each.alias_info is not None for each in (*schema.arguments, *schema.returns)
    )


def _key(value: Any, numbers: bool = True) -> Any:
    """A value, with tensors by their shape, strides and type. Equal numbers of different types differ. ``numbers``:
    whether other numbers of a type are another value."""
    import torch

    if isinstance(value, torch.Tensor):
        if (type(value) is not torch.Tensor and type(value) is not torch.nn.Parameter) or not value.is_meta:
            raise _Unknown
        return value.shape, value.stride(), value.dtype, value.storage_offset()
    if isinstance(value, tuple | list):
        return tuple([_key(each, numbers) for each in value])
    return (type(value), value) if numbers or not isinstance(value, int | float) else type(value)


def _maker(result: Any) -> Callable[[], Any] | None:
    """What makes the same result anew; ``None`` where that is not known to be the same."""
    import torch

    if isinstance(result, torch.Tensor):
        if type(result) is not torch.Tensor or not result.is_meta or result.storage_offset():
            return None
        size, stride, dtype = result.shape, result.stride(), result.dtype

        def make() -> torch.Tensor:
            return torch.empty_strided(size, stride, dtype=dtype, device="meta")

        return make if make().untyped_storage().nbytes() == result.untyped_storage().nbytes() else None
    if isinstance(result, tuple | list):
        makers = [_maker(each) for each in result]
        if any(maker is None for maker in makers) or len(_places(result)) < len(makers):
            return None
        kind = type(result)
        return lambda: kind(maker() for maker in makers if maker is not None)
    return None


def _places(value: Any) -> set[int]:
    """The storages of all tensors in a value."""
    import torch

    if isinstance(value, torch.Tensor):
        return {value.untyped_storage()._cdata}
    if isinstance(value, tuple | list):
        return {place for each in value for place in _places(each)}
    return set()
