"""A model put on several devices with torch's own wrappers. The same for tensors with values and without."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from peft_lab.memory.setting import torch_dtype
from peft_lab.memory.tracker import Recorder, recording
from peft_lab.sharding.how import Sharding

if TYPE_CHECKING:
    import torch


def blocks_of(model: torch.nn.Module, layers: Sequence[torch.nn.Module]) -> list[torch.nn.Module]:
    """What is split as one: the layers, or where there are several stacks what transformers calls its blocks
    (``_no_split_modules``, which accelerate goes by)."""
    if layers:
        return list(layers)
    names = {name for each in model.modules() for name in getattr(each, "_no_split_modules", None) or ()}
    return [each for each in model.modules() if type(each).__name__ in names]


def shard(
    model: torch.nn.Module, layers: Sequence[torch.nn.Module], mesh: Any, how: Sharding, recorder: Recorder
) -> torch.nn.Module:
    """FSDP2: each block, then what is left in one group at the root."""
    from torch.distributed.fsdp import CPUOffloadPolicy, FSDPModule, MixedPrecisionPolicy, fully_shard

    policy = MixedPrecisionPolicy(
        param_dtype=torch_dtype(how.compute) if how.compute else None,
        reduce_dtype=torch_dtype(how.reduce) if how.reduce else None,
    )
    common: dict[str, Any] = {"mesh": mesh, "mp_policy": policy}
    if how.offload:
        common["offload_policy"] = CPUOffloadPolicy(pin_memory=False)
    for block in blocks_of(model, layers):
        fully_shard(block, reshard_after_forward=how.reshards, **common)
    if how.apart:
        for outside in _ends(model):
            fully_shard(outside, reshard_after_forward=how.reshards, **common)
    fully_shard(model, **common)
    if how.offload and mesh.device_type == "meta":
        host(model)
    gather, scatter = _labelling(recorder, mesh.device_type == "cpu")
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.set_custom_all_gather(gather())
            module.set_custom_reduce_scatter(scatter())
    return model


def host(model: torch.nn.Module) -> None:
    """What is split goes to main memory, buffers stay. Memory that nobody writes to is never really taken."""
    buffers = {
        (module, name): buffer
        for module in model.modules()
        for name, buffer in module.named_buffers(recurse=False)
    }
    model.to_empty(device="cpu")
    for (module, name), buffer in buffers.items():
        module._buffers[name] = buffer


@contextmanager
def apart(model: Any, how: Sharding) -> Iterator[None]:
    """For a pass before the last one of a step: gradients stay whole and at home, if ``how`` says so."""
    if how.sync_each or how.runs in ("none", "tp"):
        yield
    elif how.runs == "ddp":
        with model.no_sync():
            yield
    else:
        model.set_requires_gradient_sync(False)
        yield
        model.set_requires_gradient_sync(True)


def _ends(model: torch.nn.Module) -> list[torch.nn.Module]:
    """Embeddings and head, where they do not share their matrix."""
    base: Any = model
    while not hasattr(base, "get_output_embeddings"):
        base = base.base_model
    ends = [base.get_input_embeddings(), base.get_output_embeddings()]
    found = [each for each in ends if each is not None]
    weights = {id(getattr(each, "weight", each)) for each in found}
    return found if len(weights) == len(found) else []


def _labelling(recorder: Recorder, gloo: bool) -> tuple[Any, Any]:
    """FSDP2's default exchanges, whose buffers are called so. ``gloo``: it splits a copy of its own, as NCCL does not:
    what is inside is not counted."""
    from torch.distributed.fsdp._fully_shard._fsdp_collectives import DefaultAllGather, DefaultReduceScatter
    from torch.utils._python_dispatch import _disable_current_modes

    def buffer(tensor: torch.Tensor) -> None:
        number = recorder.number(tensor)
        if number is not None and number >= 0:
            recorder.trace.storages[number].part = "buffers"

    class Gather(DefaultAllGather):
        def __call__(self, output_tensor: Any, *args: Any, **kwargs: Any) -> Any:
            buffer(output_tensor)
            return super().__call__(output_tensor, *args, **kwargs)

    class Scatter(DefaultReduceScatter):
        def __call__(self, output_tensor: Any, input_tensor: Any, *args: Any, **kwargs: Any) -> Any:
            buffer(input_tensor)
            with _disable_current_modes() if gloo else nullcontext():
                return super().__call__(output_tensor, input_tensor, *args, **kwargs)

    return Gather, Scatter


def replicate(
    model: torch.nn.Module, how: Sharding, recorder: Recorder, real: bool = False
) -> torch.nn.Module:
    """DDP, of processes that start with equal weights (it does not send them around first). ``real``: there are others
    to talk to."""
    import torch
    from torch.nn.parallel import DistributedDataParallel

    class Replicated(DistributedDataParallel):
        def _pre_forward(self, *inputs: Any, **kwargs: Any) -> Any:
            # The first time after a backward pass it makes its buckets anew, in the order in which gradients came.
            before, recorder.part = recorder.part, "buffers"
            try:
                return super()._pre_forward(*inputs, **kwargs)  # type: ignore[no-untyped-call]
            finally:
                recorder.part = before

    recorder.part = "buffers"
    try:
        with recording(recorder, watched={}):
            wrapped = Replicated(
                model,
                init_sync=False,
                bucket_cap_mb=how.bucket_mb,
                gradient_as_bucket_view=how.bucket_view,
            )
    finally:
        recorder.part = ""
    if not real:
        # DDP reads the types that a hook declares, and takes none but its own.
        def summed(_, bucket):  # type: ignore[no-untyped-def]
            recorder.sends("all-reduce", bucket.buffer().numel() * bucket.buffer().element_size())
            done: Any = torch.futures.Future()
            done.set_result(bucket.buffer())
            return done

        wrapped.register_comm_hook(None, summed)
    return wrapped
