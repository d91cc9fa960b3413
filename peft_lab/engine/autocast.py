"""Run the forward pass of a simulated step as ``torch.autocast`` does on its device.

torch's autocast kernels cast only tensors on their own device, so on tensors without values they do nothing. The same
kernels are registered here for a dispatch key that no device of a simulation uses. They stand above autograd, as
torch's do: a cast is part of the graph, its result is saved for the backward pass, and the cast of a trained float32
weight is kept until the forward pass ends (``cached_cast`` in ATen/autocast_mode.cpp).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from peft_lab.core.content import read_entry
from peft_lab.core.later import torch
from peft_lab.engine import kernels
from peft_lab.engine.kernels import REPLACED

_KEY = "AutocastIPU"
#: Whose state of autocast tells whether it is on. Checkpointing restores the processor's for every device.
_STATE = "cpu"
AUTOCAST_STATE = REPLACED["autocast state"]
AUTOCAST_CACHE = REPLACED["autocast cache"]


#: Operations by what autocast casts, for each device.
CASTS = read_entry(Path(__file__).with_name("autocast.yaml"), dict[str, dict[str, tuple[str, ...]]])
_cached: dict[int, torch.Tensor] = {}
_device = "cuda"


@cache
def cast_operations(device: str) -> frozenset[str]:
    """Return the names of the operations that autocast casts on ``cuda`` or ``cpu``."""
    names: list[str] = torch._C._dispatch_get_registrations_for_dispatch_key(f"Autocast{device.upper()}")
    return frozenset(name.removeprefix("aten::") for name in names)


@contextmanager
def simulated(device: str, dtype: str) -> Iterator[Callable[[torch.nn.Module], None]]:
    """Yield a function that makes a model's forward passes run under autocast to ``dtype``, on tensors without values.
    Enter it where attention is replaced already (:func:`peft_lab.engine.kernels.attention`)."""
    global _device
    attend, clear, enabled = (r.original() for r in (kernels.ATTENTION, AUTOCAST_CACHE, AUTOCAST_STATE))

    def cleared() -> None:
        _cached.clear()
        clear()

    def attention(*args: Any, **kwargs: Any) -> Any:
        if enabled(_STATE):
            args, kwargs = _cast((args, kwargs), torch.get_autocast_dtype(_STATE))
        return attend(*args, **kwargs)

    def enter(model: torch.nn.Module) -> None:
        model.forward = torch.autocast(_STATE, getattr(torch, dtype))(model.forward)

    def include(on: bool) -> None:
        torch._C._dispatch_tls_set_dispatch_key_excluded(_KEY, not on)
        torch._C._dispatch_tls_set_dispatch_key_included(_KEY, on)

    _register()
    _device = device
    always = AUTOCAST_STATE.by(lambda device_type=_STATE: enabled(_STATE))
    with always, AUTOCAST_CACHE.by(cleared), kernels.ATTENTION.by(attention):
        include(True)
        try:
            yield enter
        finally:
            include(False)
            _cached.clear()


@cache
def _register() -> tuple[torch.library.Library, ...]:
    """Register a kernel for each operation that autocast casts on some device; return what keeps them registered."""
    rest, ours = (torch.library.Library(namespace, "IMPL", _KEY) for namespace in ("_", "aten"))
    rest.fallback(torch.library.fallthrough_kernel)
    for name in sorted(cast_operations("cuda") | cast_operations("cpu")):
        packet, _, overload = name.partition(".")
        ours.impl(name, _kernel(name, getattr(getattr(torch.ops.aten, packet), overload or "default")))
    return rest, ours


def _kernel(name: str, operation: Any) -> Callable[..., Any]:
    """Return the kernel of an operation: cast as on the simulated device, then run it below autocast."""
    from torch.utils._pytree import tree_leaves

    below = torch._C.DispatchKeySet(getattr(torch._C.DispatchKey, _KEY))

    def run(*args: Any, **kwargs: Any) -> Any:
        with torch._C._ExcludeDispatchKeyGuard(below):
            if not torch.is_autocast_enabled(_STATE) or name not in cast_operations(_device):
                return operation(*args, **kwargs)
            if name in CASTS["result"][_device]:
                more = {"dtype": torch.float32} if _is_cast(args[0]) else {}
                return operation(*args, **{**more, **kwargs})
            given = [one.dtype for one in tree_leaves((args, kwargs)) if _is_cast(one)]
            low = name in CASTS["lower"][_device] or (
                name in CASTS["widest"][_device] and torch.float32 not in given
            )
            target = torch.get_autocast_dtype(_STATE) if low else torch.float32
            args, kwargs = _cast((args, kwargs), target)
            return operation(*args, **kwargs)

    return run


def _is_cast(value: Any) -> bool:
    """Return whether autocast casts a value: a tensor of floating-point numbers in at most 32 bits."""
    return (
        isinstance(value, torch.Tensor)
        and value.is_meta
        and value.dtype.is_floating_point
        and value.itemsize < 8
    )


def _cast(values: Any, dtype: torch.dtype) -> Any:
    """Return the values with all tensors cast, of any shape. That of a trained float32 weight is made once a pass."""
    from torch.utils._pytree import tree_map_only

    def cast(tensor: torch.Tensor) -> torch.Tensor:
        if not _is_cast(tensor) or tensor.dtype == dtype:
            return tensor
        trained = tensor.requires_grad and tensor.is_leaf and tensor.dtype == torch.float32
        if not trained or tensor._is_view():
            return tensor.to(dtype)
        if id(tensor) not in _cached:
            _cached[id(tensor)] = tensor.to(dtype)
        return _cached[id(tensor)]

    return tree_map_only(torch.Tensor, cast, values)
