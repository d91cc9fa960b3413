"""Define how a step is split over several devices, and place a model on them with torch's own wrappers, for tensors
with values and without."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

from peft_lab.core import limits
from peft_lab.core.errors import BadInput, Unsupported, named
from peft_lab.core.later import torch
from peft_lab.engine.request import torch_dtype
from peft_lab.engine.step import OPTIMIZER_TITLES, TITLES, Nothing
from peft_lab.engine.tracker import MemoryRecorder, own_part, recording

#: Titles of the kinds, with what each splits, in the order in which to offer them.
SHARDING_TITLES = TITLES["shardings"]
SHARDING_KINDS = tuple(SHARDING_TITLES)
#: What runs for a kind of another library: it splits the same tensors, but DeepSpeed and FSDP1 lay them out otherwise.
STANDS_FOR = {"zero1": "ddp", "zero2": "fsdp2", "zero3": "fsdp2", "fsdp1": "fsdp2"}


@dataclass(frozen=True)
class Sharding:
    """A number of devices and how a step is split over them. Hashable; passed as a whole to other processes.

    Attributes:
        kind: one of :data:`SHARDING_KINDS`.
        devices: their total number.
        reshard: free a layer's gathered weights after its forward pass and gather them again for its backward pass
            (``reshard_after_forward``; ``zero3`` always does, ``zero2`` never).
        offload: keep sharded tensors in main memory, where the optimizer runs too (``CPUOffloadPolicy``).
        compute: precision in which layers are gathered and computed (``MixedPrecisionPolicy.param_dtype``); ``None``:
            that of the stored weights.
        reduce: precision in which gradients are summed; ``None``: that in which they are computed.
        accumulate: forward and backward passes per optimizer step.
        sync_each: reduce the gradients after each pass; if False they stay whole until the last one (``no_sync``).
        apart: shard embeddings and head in groups of their own, as torchtitan does; if False in the root's group.
        bucket_mb: DDP's ``bucket_cap_mb``; ``None``: a first bucket of 1 MiB, then 25.
        bucket_view: DDP's ``gradient_as_bucket_view``: gradients are views of the buckets instead of separate tensors.
    """

    kind: str = "none"
    devices: int = 1
    reshard: bool = True
    offload: bool = False
    compute: str | None = None
    reduce: str | None = None
    accumulate: int = 1
    sync_each: bool = True
    apart: bool = False
    bucket_mb: float | None = None
    bucket_view: bool = False

    @property
    def runs(self) -> str:
        """Return which of torch's wrappers runs: ``none``, ``ddp``, ``fsdp2`` or ``tp``."""
        return "none" if self.devices == 1 else STANDS_FOR.get(self.kind, self.kind)

    @property
    def readers(self) -> int:
        """Return how many devices read rows of their own: with tensor parallelism all read the same."""
        return 1 if self.kind == "tp" else self.devices

    @property
    def reshards(self) -> bool:
        """Return whether layers are gathered again for the backward pass."""
        return {"zero2": False, "zero3": True}.get(self.kind, self.reshard)

    def check(self) -> None:
        """Check the settings. Raises BadInput if one is unknown or out of range, or they contradict each other."""
        named("sharding", self.kind, SHARDING_TITLES, "sharding")
        if not 1 <= self.devices <= limits.DEVICES:
            raise BadInput(
                f"{self.devices:,} devices are out of range: choose from 1 to {limits.DEVICES:,}.", "devices"
            )
        if self.kind == "none" and self.devices > 1:
            raise BadInput("Several devices need a way to share the work, such as fsdp2.", "sharding")
        if self.bucket_mb is not None and not 0 < self.bucket_mb <= limits.BUCKET_MB:
            raise BadInput(f"A bucket of {self.bucket_mb:g} MB is out of range.", "bucket_mb")
        if not 1 <= self.accumulate <= limits.DEVICES:
            raise BadInput(f"{self.accumulate:,} accumulated passes per step are out of range.", "accumulate")
        if self.runs != "fsdp2" and (self.offload or self.compute or self.reduce):
            raise BadInput(
                "Offloading and the precisions for gathering and reducing can be set only for fsdp2, zero2 and zero3.",
                "sharding",
            )


def sharding_notes(how: Sharding) -> tuple[str, ...]:
    """Return as sentences what the figures of a step on several devices leave out."""
    if how.runs == "none":
        return ()
    found = ["Not counted: loading the model, and NCCL's own buffers, which are outside PyTorch's allocator."]
    if how.kind == "fsdp1":
        found.append(
            "Simulated as FSDP2, plus the tensors that FSDP1 keeps for frozen layers under checkpointing."
        )
    elif how.kind in STANDS_FOR:
        run = {"ddp": "DDP with torch's ZeroRedundancyOptimizer", "fsdp2": "FSDP2"}[how.runs]
        found.append(
            f"Simulated as {run}, which shards in the same way. DeepSpeed's buffers and float32 copies are not "
            "simulated."
        )
    if how.runs == "tp":
        found.append(
            "All devices read the same rows and wait for each other's sums in every layer. No device computes while it "
            "waits."
        )
    if how.offload:
        found.append(
            "The optimizer runs on the processor. The main memory that it takes is counted. Its work is not simulated."
        )
    return tuple(found)


def blocks_of(model: torch.nn.Module, layers: Sequence[torch.nn.Module]) -> list[torch.nn.Module]:
    """Return the modules to shard as units: the layers, or if there is no single stack the blocks that transformers
    names (``_no_split_modules``, which accelerate uses)."""
    if layers:
        return list(layers)
    names = {name for each in model.modules() for name in getattr(each, "_no_split_modules", None) or ()}
    return [each for each in model.modules() if type(each).__name__ in names]


def shard(
    model: torch.nn.Module,
    layers: Sequence[torch.nn.Module],
    mesh: Any,
    how: Sharding,
    recorder: MemoryRecorder,
) -> torch.nn.Module:
    """Apply FSDP2 to each block, to embeddings and head if ``how.apart``, then to the rest as one group at the root.

    ZeRO-2 splits gradients and states, which frozen weights have none of: they stay whole on each device (DeepSpeed,
    ``runtime/zero/stage_1_and_2.py``: only groups of trained parameters are partitioned).
    """
    from torch.distributed.fsdp import CPUOffloadPolicy, FSDPModule, MixedPrecisionPolicy, fully_shard

    policy = MixedPrecisionPolicy(
        param_dtype=torch_dtype(how.compute) if how.compute else None,
        reduce_dtype=torch_dtype(how.reduce) if how.reduce else None,
    )
    common: dict[str, Any] = {"mesh": mesh, "mp_policy": policy}
    if how.offload:
        common["offload_policy"] = CPUOffloadPolicy(pin_memory=False)
    if how.kind == "zero2":
        common["ignored_params"] = {each for each in model.parameters() if not each.requires_grad}
    blocks = blocks_of(model, layers)
    for block in blocks:
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
    if how.kind == "fsdp1":
        checkpointed = [block for block in blocks if getattr(block, "gradient_checkpointing", False)]
        frozen = [block for block in checkpointed if not all(one.requires_grad for one in block.parameters())]
        _keep_inputs(frozen, recorder)
    return model


def _keep_inputs(blocks: Sequence[Any], recorder: MemoryRecorder) -> None:
    """Keep the blocks' inputs and the inputs' gradients until the backward pass ends, and prefetch no block in it.

    FSDP1 frees a frozen block by a hook on its inputs (``_register_post_backward_reshard_only_hook`` in
    fsdp/_runtime_utils.py, torch 2.1 to 2.13), which it holds until the root's last callback. A reentrant checkpoint
    (transformers' default before 5) recomputes from detached inputs; the hook's node keeps those and their ``grad``.
    PEFT's ``fsdp_auto_wrap_policy`` makes units of A and B, so what is prefetched in a block's backward pass is first
    its own adapters.
    """
    kept: list[torch.Tensor] = []

    def before(module: Any, args: Any, kwargs: Any) -> None:
        hidden = args[0] if args else kwargs.get("hidden_states")
        if not isinstance(hidden, torch.Tensor) or not hidden.requires_grad or recorder.phase == "backward":
            return
        same = hidden.detach()

        def arrives(gradient: torch.Tensor) -> None:
            if not kept:
                torch.autograd.Variable._execution_engine.queue_callback(kept.clear)
            kept.extend((same, gradient))

        hidden.register_hook(arrives)

    for block in blocks:
        block.register_forward_pre_hook(before, with_kwargs=True)
        block.set_modules_to_backward_prefetch([block])


def host(model: torch.nn.Module) -> None:
    """Move sharded tensors to main memory; buffers stay. Memory that is never written takes no physical pages."""
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
    """Keep gradients whole and unsynchronised in a pass before the last one of a step, if ``how`` says so."""
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
    """Return embeddings and head; empty if they share their matrix."""
    base: Any = model
    while not hasattr(base, "get_output_embeddings"):
        base = base.base_model
    ends = [base.get_input_embeddings(), base.get_output_embeddings()]
    found = [each for each in ends if each is not None]
    weights = {id(getattr(each, "weight", each)) for each in found}
    return found if len(weights) == len(found) else []


def _labelling(recorder: MemoryRecorder, gloo: bool) -> tuple[Any, Any]:
    """Return FSDP2's default collectives with their buffers labelled as such. ``gloo``: do not record the copy that it,
    unlike NCCL, makes inside a reduce-scatter."""
    from torch.distributed.fsdp._fully_shard._fsdp_collectives import DefaultAllGather, DefaultReduceScatter
    from torch.utils._python_dispatch import _disable_current_modes

    def buffer(tensor: torch.Tensor) -> None:
        if (made := recorder.storage(tensor)) is not None:
            made.part = "buffers"

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
    model: torch.nn.Module, how: Sharding, recorder: MemoryRecorder, real: bool = False
) -> torch.nn.Module:
    """Wrap a model in DDP, for processes that start with equal weights; ``real``: the other processes exist."""
    from torch.nn.parallel import DistributedDataParallel

    class Replicated(DistributedDataParallel):
        def _pre_forward(self, *inputs: Any, **kwargs: Any) -> Any:
            # After the first backward pass it rebuilds its buckets, in the order in which gradients came.
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
        # DDP checks the types that a hook declares, and accepts only its own.
        def summed(_, bucket):  # type: ignore[no-untyped-def]
            recorder.sends("all-reduce", bucket.buffer().numel() * bucket.buffer().element_size())
            done: Any = torch.futures.Future()
            done.set_result(bucket.buffer())
            return done

        wrapped.register_comm_hook(None, summed)
    return wrapped


# ----------------------------------------
# Optimizers for steps on several devices.


#: Moments that an optimizer keeps for each parameter, in the parameter's precision.
MOMENTS = {"adamw": 2, "sgd": 0}


def _refuse(name: str, where: str) -> Unsupported:
    known = " and ".join(OPTIMIZER_TITLES[each] for each in MOMENTS)
    return Unsupported(f"{OPTIMIZER_TITLES[name]} is not simulated {where}. Use {known}.", "optimizer")


#: Why optimizers of torch and PEFT do not work on what FSDP2 shards. Tested on two processes with torch 2.13.
_WHOLE = {
    "adafactor": "torch's Adafactor fails on parameters that FSDP2 has sharded: it squares a norm of which each "
    "device has only a part.",
    "muon": "Muon needs whole matrices. On FSDP2's shards, Muon's bfloat16 sums moved the losses further from those "
    "of one process than DDP does.",
    "lorafa": "LoRA-FA's optimizer mixes whole matrices with FSDP2's shards, which torch refuses.",
}


def why_not(name: str, runs: str) -> str:
    """Explain why an optimizer does not work if a step ``runs`` as ``fsdp2``, ``tp`` or ``ddp``; empty if it does.
    bitsandbytes 0.50.2 raises for a DTensor ("got mixed torch.Tensor and DTensor")."""
    if runs == "ddp" and name == "lorafa":
        return (  # it expects a gradient of every parameter that required one when wrapped
            "Creating PEFT's LoRA-FA optimizer freezes every matrix A, but DDP waits for the gradients of these "
            "matrices."
        )
    if runs not in ("tp", "fsdp2") or name in MOMENTS:
        return ""
    if runs == "tp":
        title = OPTIMIZER_TITLES[name]
        return f"{title} was not tested on matrices that tensor parallelism splits; AdamW and SGD were."
    theirs = f"{OPTIMIZER_TITLES[name]} is bitsandbytes', whose optimizers do not accept FSDP2's shards."
    return _WHOLE.get(name, theirs)


class Hosted(Nothing):
    """An optimizer with parameters, gradients and states in main memory: it runs there and takes no device memory."""

    def __init__(self, name: str, parameters: Sequence[torch.nn.Parameter]) -> None:
        if name not in MOMENTS:
            raise _refuse(name, "with shards in main memory")
        self._moments = MOMENTS[name]
        self._parameters = list(parameters)

    def paged_bytes(self, parameters: Sequence[torch.nn.Parameter] | None = None) -> int:
        """Return the bytes in main memory of all parameters or of these, with gradients and states of trained ones."""
        total = 0
        for parameter in self._parameters if parameters is None else parameters:
            share = own_part(parameter)
            each = 2 + self._moments if parameter.requires_grad else 1
            total += share.numel() * share.element_size() * each
        return total

    def zero_grad(self) -> None:
        """Drop all gradients."""
        for parameter in self._parameters:
            parameter.grad = None


def divided_moments(name: str, parameters: Sequence[torch.nn.Parameter], foreach: bool) -> Any:
    """Return torch's ZeroRedundancyOptimizer: each device keeps the states of some parameters, updates them, and sends
    them to the others. Raises Unsupported for optimizers that it is not simulated with.
    """
    from torch.distributed.optim import ZeroRedundancyOptimizer

    trained = [parameter for parameter in parameters if parameter.requires_grad]
    if name not in MOMENTS:
        raise _refuse(name, "with sharded optimizer states")
    if not trained:
        return Nothing()
    kinds = {"adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}
    return ZeroRedundancyOptimizer(trained, optimizer_class=kinds[name], lr=1e-3, foreach=foreach)
