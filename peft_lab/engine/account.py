"""From a trace to figures: the peak, what it consists of, the timeline, and what the CUDA allocator would reserve."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import repeat

from peft_lab.engine.kernels import cublas_workspace
from peft_lab.engine.tracker import EMPTY_CACHE, Trace

# ----------------------------------------
# A model of what PyTorch's CUDA caching allocator reserves for a stream of allocations and frees.
#
# The rules are those of ``c10/cuda/CUDACachingAllocator.cpp`` (class ``DeviceCachingAllocator``) with its default
# settings; the constants are named in ``c10/core/AllocatorConfig.h``, which the torch wheel ships. Nothing here was
# fitted to measured figures.
#
# Modelled: size rounding, the two pools, segment sizes, best fit, splitting, merging of free neighbours, separate
# pools for each stream (``BlockComparatorSize`` sorts by stream first), ``empty_cache``, and the release of cached
# segments when the device is full. Not modelled: expandable segments (off by default), and blocks that wait for other
# streams' events before they are free (``record_stream``, which FSDP2 does not use).


MIN_BLOCK = 512  # kMinBlockSize: every size is rounded up to a multiple of it (round_size)
SMALL_SIZE = 2**20  # kSmallSize: up to here a request is served from the small pool (get_pool)
SMALL_SEGMENT = 2 * 2**20  # kSmallBuffer: segments of the small pool (get_allocation_size)
LARGE_SEGMENT = 20 * 2**20  # kLargeBuffer: segment for requests of 1 to 10 MiB (get_allocation_size)
MIN_LARGE_ALLOC = 10 * 2**20  # kMinLargeAlloc: from here a request gets a segment of its own
ROUND_LARGE = 2 * 2**20  # kRoundLarge: ... rounded up to a multiple of this


class DeviceFull(Exception):
    """A request does not fit in the device even after the cached segments were released."""

    def __init__(self, requested: int, reserved: int, capacity: int) -> None:
        super().__init__(f"{requested} bytes requested with {reserved} of {capacity} bytes reserved")
        self.requested = requested
        self.reserved = reserved
        self.capacity = capacity


def round_size(nbytes: int) -> int:
    """Return the bytes of the block that serves a request of ``nbytes`` (round_size).

    >>> round_size(1), round_size(513)
    (512, 1024)
    """
    return max(MIN_BLOCK, -(-nbytes // MIN_BLOCK) * MIN_BLOCK)


def segment_size(rounded: int) -> int:
    """Return the bytes requested from cudaMalloc when no cached block fits a request (get_allocation_size).

    >>> [segment_size(size) // 2**20 for size in (512, 2 * 2**20, 11 * 2**20)]
    [2, 20, 12]
    """
    if rounded <= SMALL_SIZE:
        return SMALL_SEGMENT
    if rounded < MIN_LARGE_ALLOC:
        return LARGE_SEGMENT
    return -(-rounded // ROUND_LARGE) * ROUND_LARGE


@dataclass(eq=False, slots=True)
class Block:
    """A piece of a segment; ``before`` and ``after`` are its neighbours inside the same segment."""

    address: int
    size: int
    small: bool
    stream: int = 0
    free: bool = True
    before: Block | None = None
    after: Block | None = None


class CachingAllocator:
    """Replays ``malloc`` and ``free`` and keeps the bytes allocated and reserved, with their peaks.

    ``capacity`` is the device's memory in bytes; None means that it never runs out.

    A freed block stays reserved, which is why nvidia-smi shows more than the tensors take:

    >>> allocator = CachingAllocator()
    >>> block = allocator.malloc(1000)
    >>> allocator.allocated, allocator.reserved
    (1024, 2097152)
    >>> allocator.free(block)
    >>> allocator.allocated, allocator.reserved
    (0, 2097152)
    >>> allocator.empty_cache()
    >>> allocator.reserved
    0
    """

    def __init__(self, capacity: int | None = None) -> None:
        self.capacity = capacity
        self.allocated = 0
        self.reserved = 0
        self.peak_allocated = 0
        self.peak_reserved = 0
        self._next_address = 0
        self._free: defaultdict[tuple[int, bool], list[tuple[int, int]]] = defaultdict(list)
        self._blocks: dict[int, Block] = {}

    def malloc(self, nbytes: int, stream: int = 0) -> Block:
        """Serve a stream's request: the smallest of its cached blocks that fits, otherwise a new segment.

        Raises DeviceFull when ``capacity`` would be exceeded after releasing every cached segment.
        """
        size = round_size(nbytes)
        small = size <= SMALL_SIZE
        block = self._best_fit(size, small, stream) or self._new_segment(size, small, stream)
        remaining = block.size - size
        # should_split: a small block splits for 512 bytes, a large one only for more than 1 MiB
        if remaining >= MIN_BLOCK if small else remaining > SMALL_SIZE:
            rest = Block(block.address + size, remaining, small, stream, True, block, block.after)
            if block.after is not None:
                block.after.before = rest
            block.after = rest
            block.size = size
            self._put(rest)
        block.free = False
        self.allocated += block.size
        self.peak_allocated = max(self.peak_allocated, self.allocated)
        return block

    def free(self, block: Block) -> None:
        """Give a block back to its pool, merged with free neighbours (free_block, try_merge_blocks)."""
        self.allocated -= block.size
        block.free = True
        before, after = block.before, block.after
        if before is not None and before.free:
            self._take(before)
            block.address = before.address
            block.size += before.size
            block.before = before.before
            if block.before is not None:
                block.before.after = block
        if after is not None and after.free:
            self._take(after)
            block.size += after.size
            block.after = after.after
            if block.after is not None:
                block.after.before = block
        self._put(block)

    def empty_cache(self) -> None:
        """Return every segment without a live block to the device (release_cached_blocks)."""
        for pool in self._free.values():
            for _, address in list(pool):
                block = self._blocks[address]
                if block.before is None and block.after is None:
                    self._take(block)
                    self.reserved -= block.size

    def _best_fit(self, size: int, small: bool, stream: int) -> Block | None:
        pool = self._free[stream, small]
        index = bisect_left(pool, (size, -1))
        if index == len(pool):
            return None
        _, address = pool.pop(index)
        return self._blocks.pop(address)

    def _new_segment(self, size: int, small: bool, stream: int) -> Block:
        nbytes = segment_size(size)
        if self.capacity is not None and self.reserved + nbytes > self.capacity:
            self.empty_cache()
            if self.reserved + nbytes > self.capacity:
                raise DeviceFull(nbytes, self.reserved, self.capacity)
        block = Block(self._next_address, nbytes, small, stream)
        self._next_address += nbytes
        self.reserved += nbytes
        self.peak_reserved = max(self.peak_reserved, self.reserved)
        return block

    def _put(self, block: Block) -> None:
        insort(self._free[block.stream, block.small], (block.size, block.address))
        self._blocks[block.address] = block

    def _take(self, block: Block) -> None:
        pool = self._free[block.stream, block.small]
        del pool[bisect_left(pool, (block.size, block.address))]
        del self._blocks[block.address]


#: The parts of memory by purpose, in the order in which charts stack them.
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
    """Return the part of each storage: as recorded, else ``logits`` if it is marked so, else by its life.

    What is allocated in a forward pass and alive after it is an activation (saved for the backward pass), what the
    optimizer allocates and keeps is optimizer state, all else is temporary. Keys and values of a generation are
    labelled activations by the step itself.
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
    """Return every event with its phase and layer, cached with a finished trace."""
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
    """Return one point for each stretch (a phase, or a layer within one), in order, without host memory.

    ``names``: the names of all parts.
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
