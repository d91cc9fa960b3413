"""How a step is split over several devices."""

from __future__ import annotations

from dataclasses import dataclass

from peft_lab.ask import limits
from peft_lab.core.errors import BadInput

#: Titles of the kinds, with what each splits, in the order in which to offer them.
TITLES: dict[str, str] = {
    "none": "one device",
    "ddp": "DDP: every device has all, gradients are averaged",
    "zero1": "ZeRO-1: the optimizer's states split",
    "zero2": "ZeRO-2: gradients and states split",
    "zero3": "ZeRO-3: weights, gradients and states split",
    "fsdp2": "FSDP2: weights, gradients and states split",
    "tp": "tensor parallelism: every matrix split, all devices read the same rows",
}
KINDS = tuple(TITLES)
#: What runs for a kind named after DeepSpeed's: it splits the same tensors, but DeepSpeed lays them out differently.
STANDS_FOR = {"zero1": "ddp", "zero2": "fsdp2", "zero3": "fsdp2"}


@dataclass(frozen=True)
class Sharding:
    """A number of devices and how a step is split over them. Hashable; passed as a whole to other processes.

    Attributes:
        kind: one of :data:`KINDS`.
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
        if self.kind not in KINDS:
            raise BadInput(
                f"There is no way to split a step called '{self.kind}'. Known: {', '.join(KINDS)}.",
                "sharding",
            )
        if not 1 <= self.devices <= limits.DEVICES:
            raise BadInput(
                f"{self.devices:,} devices cannot be meant: choose from 1 to {limits.DEVICES:,}.", "devices"
            )
        if self.kind == "none" and self.devices > 1:
            raise BadInput("Several devices need a way to work together, such as fsdp2.", "sharding")
        if self.bucket_mb is not None and not 0 < self.bucket_mb <= limits.BUCKET_MB:
            raise BadInput(f"{self.bucket_mb:g} MB is no size for a bucket.", "bucket_mb")
        if not 1 <= self.accumulate <= limits.DEVICES:
            raise BadInput(f"{self.accumulate:,} passes for one step cannot be meant.", "accumulate")
        if self.runs != "fsdp2" and (self.offload or self.compute or self.reduce):
            raise BadInput(
                "Offloading and the precisions of gathering and reducing are settings of fsdp2, zero2 and zero3.",
                "sharding",
            )


def notes(how: Sharding) -> tuple[str, ...]:
    """Return what the figures of such a step leave out, as sentences."""
    if how.runs == "none":
        return ()
    found = [
        "NCCL's own buffers lie outside PyTorch's allocator and are not counted; nor is loading the model."
    ]
    if how.kind in STANDS_FOR:
        run = {"ddp": "DDP with torch's ZeroRedundancyOptimizer", "fsdp2": "FSDP2"}[how.runs]
        found.append(
            f"Run as {run}, which splits the same; DeepSpeed's own buffers and float32 copies are not simulated."
        )
    if how.runs == "tp":
        found.append(
            "All devices read the same rows. What each sums up with the others in every layer is waited for: nothing "
            "computes meanwhile."
        )
    if how.offload:
        found.append(
            "The optimizer runs on the processor; what it takes there is counted, its work is not simulated."
        )
    return tuple(found)
