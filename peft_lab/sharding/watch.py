"""What a recorder has to be told of a step on several devices, with values or without: what is sent, which storages are
emptied and filled in place, and whose a tensor is."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from peft_lab.memory.tracker import Recorder, Watched
from peft_lab.replacing import Replacement

if TYPE_CHECKING:
    import torch

_PARAM = "torch.distributed.fsdp._fully_shard._fsdp_param"
FREES = Replacement(
    "gathered freed",
    _PARAM,
    "FSDPParam.free_unsharded_param",
    "FSDP2 empties the storages of gathered weights in place, which no operation tells of.",
)
FILLS = Replacement(
    "gathered filled", _PARAM, "FSDPParam.alloc_all_gather_outputs", "It fills them in place as well."
)
PLANS = Replacement(
    "sharding plans",
    "torch.distributed.tensor._sharding_prop",
    "ShardingPropagator._propagate_tensor_meta_non_cached",
    "The first time torch tries an operation out on whole tensors without values, which no device holds.",
)
_NUMBER = re.compile(r"\.\d+(?=\.)")
#: What PEFT and DDP put around a model.
_AROUND = re.compile(r"^(module\.)?(base_model\.model\.)?")


def short(path: str) -> str:
    """A module's path without what is wrapped around the model, and with ``*`` for numbers of layers.

    >>> short("base_model.model.model.layers.3.mlp.up_proj")
    'model.layers.*.mlp.up_proj'
    """
    return _NUMBER.sub(".*", _AROUND.sub("", path))


@contextmanager
def following(recorder: Recorder) -> Iterator[None]:
    """The recorder hears of storages that FSDP2 empties and fills in place, and not of what torch only tries out."""
    from torch.utils._python_dispatch import _disable_current_modes

    free, fill, plan = FREES.original(), FILLS.original(), PLANS.original()

    def name(parameter: Any) -> str:
        return short(str(parameter._param_fqn or "").rpartition(".")[0])

    def freed(parameter: Any) -> None:
        gathered = [tensor for tensor in parameter.all_gather_outputs if tensor.untyped_storage().nbytes()]
        for tensor in gathered:
            number = recorder.number(tensor)
            if number is not None and number >= 0:
                recorder.trace.storages[number].part = "gathered"
                recorder.trace.storages[number].module = name(parameter)
        free(parameter)
        for tensor in gathered:
            recorder.emptied(tensor)

    def filled(parameter: Any) -> None:
        empty = [tensor for tensor in parameter.all_gather_outputs if not tensor.untyped_storage().nbytes()]
        fill(parameter)
        for tensor in empty:
            recorder.refilled(tensor, "gathered", name(parameter))

    def planned(*args: Any, **kwargs: Any) -> Any:
        with _disable_current_modes():
            return plan(*args, **kwargs)

    with FREES.by(freed), FILLS.by(filled), PLANS.by(planned):
        yield


def watched(recorder: Recorder) -> Watched:
    """Which operations the recorder hears of, and how."""
    import torch
    import torch.distributed._tools.fake_collectives
    from torch.distributed.fsdp import fully_shard  # defines the operations of its own

    assert fully_shard is not None
    direct, functional = torch.ops.c10d, torch.ops._c10d_functional

    def sent(kind: str, which: int) -> Callable[..., None]:
        """``which``: the argument that is the whole tensor, or -1 for the result."""

        def note(result: Any, *args: Any, **_: Any) -> None:
            recorder.sends(kind, _bytes(result if which < 0 else args[which]))

        return note

    def cut(result: Any, gradients: Sequence[torch.Tensor], *_: Any, **__: Any) -> None:
        for gradient in gradients:
            number = recorder.number(gradient)
            if number is not None and number >= 0 and not recorder.trace.storages[number].part:
                recorder.trace.storages[number].part = "unreduced"

    return {
        direct._allgather_base_.default: sent("all-gather", 0),
        direct._reduce_scatter_base_.default: sent("reduce-scatter", 1),
        direct.allreduce_.default: sent("all-reduce", 0),
        direct.broadcast_.default: sent("broadcast", 0),
        functional.all_reduce.default: sent("all-reduce", 0),
        functional.all_gather_into_tensor.default: sent("all-gather", -1),
        functional.reduce_scatter_tensor.default: sent("reduce-scatter", 0),
        torch.ops.fsdp.chunk_cat.default: cut,
    }


def _bytes(value: Any) -> int:
    tensors = value if isinstance(value, list | tuple) else [value]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


@contextmanager
def naming(model: torch.nn.Module, recorder: Recorder) -> Iterator[None]:
    """What a module makes in its forward pass has its name."""
    handles: list[Any] = []

    def hooks(name: str) -> tuple[Callable[..., None], Callable[..., None]]:
        outer: list[str] = []

        def enters(*_: Any) -> None:
            outer.append(recorder.module)
            recorder.module = name

        def leaves(*_: Any) -> None:
            recorder.module = outer.pop()

        return enters, leaves

    for path, module in model.named_modules():
        enters, leaves = hooks(short(path))
        handles.append(module.register_forward_pre_hook(enters, prepend=True))
        handles.append(module.register_forward_hook(leaves))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def own(model: torch.nn.Module, recorder: Recorder) -> None:
    """Parameters and buffers have the names of their modules."""
    for path, module in model.named_modules():
        for tensor in (*module.parameters(recurse=False), *module.buffers(recurse=False)):
            number = recorder.number(tensor)
            if number is not None and number >= 0:
                recorder.trace.storages[number].module = short(path)
