"""From a trace to figures: the peak, what it consists of, the timeline, and what the CUDA allocator would reserve."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import repeat

from peft_lab.memory.allocator import CachingAllocator, round_size
from peft_lab.memory.kernels import cublas_workspace
from peft_lab.memory.trace import EMPTY_CACHE, Trace

#: What memory is for, in the order in which it is stacked.
PARTS = (
    "weights",
    "quantisation",
    "adapter",
    "gradients",
    "optimizer",
    "activations",
    "logits",
    "temporary",
)


@dataclass(frozen=True)
class Point:
    """The fullest moment of one stretch of the run.

    Attributes:
        phase: ``load``, ``forward``, ``backward``, ``optimizer``, ``generation`` ...
        layer: the layer being computed, None outside the layers.
        nbytes: tensors alive, each rounded up to 512 bytes.
        parts: the same by what it is for.
    """

    phase: str
    layer: int | None
    nbytes: int
    parts: dict[str, int]


def parts_of(trace: Trace) -> list[str]:
    """The part of each storage.

    What is not known from the start follows from a storage's life: made in a forward pass and still there afterwards is
    an activation (saved for the backward pass), made by the optimizer and kept is optimizer state, all else is
    temporary. Keys and values of a generation are said to be activations by the step itself.
    """
    ends: dict[int, str] = {}
    births: dict[int, str] = {}
    for event, phase, _ in walk(trace):
        if event >= 0:
            births[event] = phase
        elif event != EMPTY_CACHE:
            ends[~event] = phase
    return [
        storage.part or ("logits" if storage.logits else _by_life(births.get(index, ""), ends.get(index, "")))
        for index, storage in enumerate(trace.storages)
    ]


def _by_life(born: str, end: str) -> str:
    kept = {"forward": "activations", "optimizer": "optimizer", "generation": "activations"}
    return "temporary" if born == end else kept.get(born, "temporary")


def walk(trace: Trace) -> list[tuple[int, str, int | None]]:
    """Every event with its phase and layer. Of a finished trace: what was found once is kept with it."""
    if len(trace.walked) == len(trace.events):
        return trace.walked
    out: list[tuple[int, str, int | None]] = []
    layer: int | None = None
    phase, start = "load", 0
    for mark in (*trace.marks, None):
        stop = len(trace.events) if mark is None else mark.at
        out += zip(trace.events[start:stop], repeat(phase), repeat(layer), strict=False)
        if mark is not None:
            phase, layer, start = mark.phase or phase, mark.layer, stop
    trace.walked = out
    return out


def timeline(trace: Trace, names: Sequence[str] = PARTS) -> list[Point]:
    """One point for each stretch (a phase, or a layer within one), in order; host memory is not part of it.

    ``names``: of all parts that there are.
    """
    parts = parts_of(trace)
    sizes = [round_size(storage.nbytes) if storage.nbytes else 0 for storage in trace.storages]
    live = dict.fromkeys(names, 0)
    total = best = 0
    at_best = dict(live)
    points: list[Point] = []
    here: tuple[str, int | None] | None = None
    for event, phase, layer in walk(trace):
        if (phase, layer) != here:
            if here is not None:
                points.append(Point(*here, best, at_best))
            here, best, at_best = (phase, layer), total, dict(live)
        if event >= 0:
            live[parts[event]] += sizes[event]
            total += sizes[event]
            if total > best:
                best, at_best = total, dict(live)
        elif event != EMPTY_CACHE:
            live[parts[~event]] -= sizes[~event]
            total -= sizes[~event]
    if here is not None:
        points.append(Point(*here, best, at_best))
    return points


@dataclass(frozen=True)
class Reserve:
    """Bytes the allocator holds at most, allocated and reserved, and the workspaces among them."""

    allocated: int
    reserved: int
    workspaces: int


def reserve(
    trace: Trace,
    capability: tuple[int, int],
    capacity: int | None = None,
    warm_up: int = 0,
    threads: frozenset[str] = frozenset({"forward", "backward"}),
) -> Reserve:
    """Replay a trace through the caching allocator.

    Args:
        capability: the GPU's compute capability, which decides the size of cuBLAS workspaces: one for the thread that
            runs forward passes and one for autograd's, taken at their first use and kept.
        capacity: device memory, at which cached segments are released.
        warm_up: bytes that are allocated at once and freed before loading, which transformers does with the size of the
            weights when it loads onto a device (``caching_allocator_warmup``).

    Raises:
        DeviceFull: beyond ``capacity``.
    """
    allocator = CachingAllocator(capacity)
    if warm_up:
        allocator.free(allocator.malloc(warm_up))
    workspace = cublas_workspace(capability)
    taken: set[str] = set()
    blocks = {}
    before = "load"  # in which nothing is computed
    for event, phase, _ in walk(trace):
        if phase != before:
            before = phase
            idle = phase in ("load", "idle", "zero_grad")
            thread = "backward" if phase == "backward" else "" if idle else "forward"
            if thread and thread in threads and thread not in taken:
                taken.add(thread)
                allocator.malloc(workspace)
        if event >= 0:
            made = trace.storages[event]
            if made.nbytes:
                blocks[event] = allocator.malloc(made.nbytes, made.stream)
        elif event == EMPTY_CACHE:
            allocator.empty_cache()
        else:
            block = blocks.pop(~event, None)
            if block is not None:
                allocator.free(block)
    return Reserve(allocator.peak_allocated, allocator.peak_reserved, workspace * len(taken))
