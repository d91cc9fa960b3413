"""Compute figures from a trace: the peak and its parts, the timeline, what the CUDA allocator would reserve. Unroll
the trace of a few layers to any number of them.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import repeat

from peft_lab.engine.kernels import cublas_workspace
from peft_lab.engine.tracker import EMPTY_CACHE, Mark, Trace

# ----------------------------------------
# A model of what PyTorch's CUDA caching allocator reserves for a stream of allocations and frees.
#
# The rules are those of ``c10/cuda/CUDACachingAllocator.cpp`` (class ``DeviceCachingAllocator``) with its default
# settings; the constants are named in ``c10/core/AllocatorConfig.h``, which the torch wheel ships. Nothing here was
# fitted to measured figures.
#
# Modelled: size rounding, the two pools, segment sizes, best fit, splitting, merging of free neighbours, separate
# pools for each stream (``BlockComparatorSize`` sorts by stream first), ``empty_cache``, the release of cached
# segments when the device is full, and expandable segments (off by default). Not modelled: blocks that wait for other
# streams' events before they are free (``record_stream``, which FSDP2 does not use), and garbage collection, which is
# off unless ``garbage_collection_threshold`` and a memory fraction are set.


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
    """Return the bytes of the block that serves a request of ``nbytes`` (round_size)."""
    return max(MIN_BLOCK, -(-nbytes // MIN_BLOCK) * MIN_BLOCK)


def block_sizes(trace: Trace) -> list[int]:
    """Return the bytes of each storage's block; 0 for an empty one."""
    return [round_size(storage.nbytes) if storage.nbytes else 0 for storage in trace.storages]


def segment_size(rounded: int) -> int:
    """Return the bytes requested from cudaMalloc when no cached block fits a request (get_allocation_size)."""
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
    """Replay ``malloc`` and ``free``; keep the bytes allocated and reserved, with their peaks. ``capacity``: the
    device's memory in bytes, None without end. A freed block stays reserved, which is why nvidia-smi shows more:

    >>> allocator = CachingAllocator()
    >>> allocator.free(allocator.malloc(1000))
    >>> allocator.allocated, allocator.reserved
    (0, 2097152)"""

    #: The least rest for which a large block is split, and a small one (should_split).
    splits_for = (SMALL_SIZE + 1, MIN_BLOCK)

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
        """Serve a stream's request: the smallest of its cached blocks that fits, otherwise a new segment. Raises
        DeviceFull beyond ``capacity`` after releasing every cached segment."""
        size = round_size(nbytes)
        small = size <= SMALL_SIZE
        block = self._best_fit(size, small, stream) or self._new_segment(size, small, stream)
        remaining = block.size - size
        if remaining >= self.splits_for[small]:
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


class ExpandableAllocator(CachingAllocator):
    """The caching allocator with ``expandable_segments:True``: each pool has one segment, which grows at its end. Pages
    of the large pool are as large as its buffers (find_expandable_block, map_block). A request that fits only the
    end of the segment and a larger hole gets the hole (get_free_block)."""

    splits_for = (MIN_BLOCK, MIN_BLOCK)

    def __init__(self) -> None:
        super().__init__()
        self._ends: dict[tuple[int, bool], Block] = {}

    def _best_fit(self, size: int, small: bool, stream: int) -> Block | None:
        pool = self._free[stream, small]
        index = bisect_left(pool, (size, -1))
        if index + 1 < len(pool) and self._blocks[pool[index][1]].after is self._ends[stream, small]:
            index += 1
        return self._blocks.pop(pool.pop(index)[1]) if index < len(pool) else None

    def _new_segment(self, size: int, small: bool, stream: int) -> Block:
        page = SMALL_SEGMENT if small else LARGE_SEGMENT
        if (stream, small) not in self._ends:  # an address of its own, far from those of other pools
            self._ends[stream, small] = Block(len(self._ends) * page * 2**30, 0, small, stream, False)
        end = self._ends[stream, small]
        last = end.before
        block = last if last is not None and last.free else Block(end.address, 0, small, stream)
        if block is last:
            self._take(block)
        else:
            block.before, block.after, end.before = last, end, block
            if last is not None:
                last.after = block
        pages = -(-(size - block.size) // page) * page
        block.size += pages
        end.address += pages
        self.reserved += pages
        self.peak_reserved = max(self.peak_reserved, self.reserved)
        return block

    def empty_cache(self) -> None:
        """Refuse: unmapped pages between live blocks are not modelled."""
        raise ValueError("the cache of expandable segments is not emptied here")


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
class MemoryPoint:
    """The fullest moment of one stretch of the run: its ``phase`` (``load``, ``forward`` ...), the ``layer`` being
    computed (None outside), the tensors alive, each rounded up to 512 bytes, and these by part."""

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
    kept = {"forward": "activations", "optimizer": "optimizer", "generation": "activations"}
    parts = [storage.part or ("logits" if storage.logits else "") for storage in trace.storages]
    births: dict[int, str] = {}
    for event, phase, _ in walk(trace):
        if event >= 0:
            births[event] = phase
        elif event != EMPTY_CACHE and births.get(~event, "") == phase:
            parts[~event] = parts[~event] or "temporary"
    return [part or kept.get(births.get(index, ""), "temporary") for index, part in enumerate(parts)]


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


def timeline(trace: Trace, names: Sequence[str] = PARTS) -> list[MemoryPoint]:
    """Return one point for each stretch (a phase, or a layer within one), in order, without host memory. ``names``: of
    parts."""
    parts = parts_of(trace)
    sizes = block_sizes(trace)
    live = dict.fromkeys(names, 0)
    total = best = 0
    at_best = dict(live)
    points: list[MemoryPoint] = []
    here: tuple[str, int | None] | None = None
    for event, phase, layer in walk(trace):
        if (phase, layer) != here:
            if here is not None:
                points.append(MemoryPoint(*here, best, at_best))
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
        points.append(MemoryPoint(*here, best, at_best))
    return points


def reserve(
    trace: Trace,
    capability: tuple[int, int],
    capacity: int | None = None,
    warm_up: int = 0,
    threads: frozenset[str] = frozenset({"forward", "backward"}),
) -> int:
    """Return the most bytes that the caching allocator holds while a trace is replayed, with a cuBLAS workspace (by
    ``capability``) for each of the ``threads`` of forward passes and of autograd, taken at first use and kept.
    ``warm_up`` bytes are allocated at once and freed before loading, as transformers does with the size of the
    weights (``caching_allocator_warmup``). Raises DeviceFull beyond ``capacity``."""
    allocator = CachingAllocator(capacity)
    replay(trace, allocator, capability, warm_up, threads)
    return allocator.peak_reserved


def replay(
    trace: Trace,
    allocator: CachingAllocator,
    capability: tuple[int, int],
    warm_up: int = 0,
    threads: frozenset[str] = frozenset({"forward", "backward"}),
    stop: int | None = None,
) -> dict[int, Block]:
    """Replay a trace, or its first ``stop`` events, as :func:`reserve` does; return the blocks alive, by storage."""
    if warm_up:
        allocator.free(allocator.malloc(warm_up))
    taken: set[str] = set()
    blocks = {}
    before = "load"  # in which nothing is computed
    for event, phase, _ in walk(trace)[:stop]:
        if phase != before:
            before = phase
            idle = phase in ("load", "idle", "zero_grad")
            thread = "backward" if phase == "backward" else "" if idle else "forward"
            if thread and thread in threads and thread not in taken:
                taken.add(thread)
                allocator.malloc(cublas_workspace(capability))
        if event >= 0:
            made = trace.storages[event]
            if made.nbytes:
                blocks[event] = allocator.malloc(made.nbytes, made.stream)
        elif event == EMPTY_CACHE:
            allocator.empty_cache()
        elif ~event in blocks:
            allocator.free(blocks.pop(~event))
    return blocks


# A stack of identical layers does the same thing once per layer, so a run with five of them (a first, three middle
# ones, a last) shows all there is to see. The events of the middle layer are repeated, each copy referring to its own
# storages where the original referred to its own and to its neighbours' where the original did; between the copies
# nothing changes. The result is a trace like any other, so peaks, parts, and even what an allocator would reserve
# come out as if all layers had been run.
#
# Nothing is assumed: the middle layers are compared with each other event by event, and where they differ (layers of
# two kinds, adapters in some layers only) there is no unrolling and the model is simulated at its own depth.


#: Layers to run: a first and a last, which have different neighbours, and three between, so that the middle one's
#: neighbours on both sides are middle ones too.
DEPTH = 5
#: The one that stands for all the middle ones.
TEMPLATE = 2
#: Bytes of one 64-bit number.
_NUMBER = 8

#: A storage by name: its layer (None outside) and its place in the order of births there.
_Name = tuple[int | None, int]


@dataclass
class _Run:
    """Consecutive events of one layer (None: outside the layers) with the phase of each."""

    layer: int | None
    events: list[tuple[int, str]]


def unroll(trace: Trace, depth: int, trained_per_layer: int) -> Trace | None:
    """Return the trace that ``depth`` layers would leave, from one of DEPTH layers; ``trained_per_layer``: parameters,
    by which lists over all of them grow. None when the layers are not alike, as with prefix tuning, whose one matrix
    for all layers comes apart outside them, in as many operations as there are layers."""
    if depth < DEPTH:
        return None
    names, alike = _names(trace)
    if not alike:
        return None
    runs = _runs(trace)
    extra = depth - DEPTH
    out = _Unrolled(trace, names, extra, trained_per_layer)
    for index, run in enumerate(runs):
        if run.layer != TEMPLATE:
            deeper = run.layer is not None and run.layer > TEMPLATE
            places = [run.layer + extra if run.layer is not None and deeper else run.layer]
        elif 0 < index < len(runs) - 1:
            places = _copies(runs[index - 1], run, runs[index + 1], names, extra)
        else:
            places = []
        if not places or not all(out.emit(run, place) for place in places):
            return None
    out.trace.work = [
        replace(stretch, times=1 + extra) if stretch.layer == TEMPLATE else stretch for stretch in trace.work
    ]
    out.trace.aside.update(
        {key: nbytes * (1 + extra if key[1] == TEMPLATE else 1) for key, nbytes in trace.aside.items()}
    )
    return out.trace


def _copies(before: _Run, run: _Run, after: _Run, names: list[_Name], extra: int) -> list[int | None]:
    """Return the layers that a stretch of the template represents, in the order of the run; none if only itself."""
    rising = [*range(TEMPLATE, TEMPLATE + extra + 1)]
    # What runs between the layers and belongs to none, as ShadowPEFT's own small model, tells no order.
    places = {(1, 3): rising, (3, 1): rising[::-1]}.get((before.layer or 0, after.layer or 0), [])
    # What all layers share ends with the last one that needs it, which may be the twin on one side.
    return [*places] if places and (_same(run, after, names) or _same(run, before, names)) else []


def _names(trace: Trace) -> tuple[list[_Name], bool]:
    """Return each storage's name, and whether the three middle layers make the same storages in the same order."""
    facts: defaultdict[int | None, list[tuple[int, str, bool]]] = defaultdict(list)
    names: list[_Name] = []
    for storage in trace.storages:
        names.append((storage.layer, len(facts[storage.layer])))
        facts[storage.layer].append((storage.nbytes, storage.part, storage.logits))
    middle = facts[TEMPLATE]
    return names, bool(middle) and facts[TEMPLATE - 1] == middle == facts[TEMPLATE + 1]


def _runs(trace: Trace) -> list[_Run]:
    runs: list[_Run] = []
    freed: list[tuple[int, int, str]] = []

    def add(layer: int | None, event: int, phase: str) -> None:
        if not runs or runs[-1].layer != layer:
            runs.append(_Run(layer, []))
        runs[-1].events.append((event, phase))

    def flush(to: int | None = None) -> None:
        # An optimizer's tensor for one parameter may end when the next parameter gets its own. If that is the first one
        # of the next layer, the end counts to that layer.
        ends = {layer for layer, _, phase in freed if phase == "optimizer"}
        if to is not None and runs and runs[-1].layer == to and ends and ends <= {to - 1, to}:
            freed[:] = [(to, event, phase) for _, event, phase in freed]
        # Nothing happens between them, so their order has no meaning; a graph that falls apart mixes its layers.
        for layer, event, phase in sorted(freed, key=lambda item: -item[0]):
            add(layer, event, phase)
        freed.clear()

    left: int | None = None
    before: int | None = None
    for event, phase, computing in walk(trace):
        if before is not None and computing is None:
            left = before
        before = computing
        layer = computing
        if layer is None and event != EMPTY_CACHE:
            layer = trace.storages[event if event >= 0 else ~event].layer
            # A layer's input ends when its output has taken its place, just after the layer returned.
            if event < 0 and left is not None and layer is not None and abs(layer - left) <= 1:
                layer = left
            elif event < 0 and layer is not None:
                left = None
                freed.append((layer, event, phase))
                continue
            else:
                left = None
        flush(layer if event >= 0 else None)
        add(layer, event, phase)
    flush()
    return runs


def _same(run: _Run, twin: _Run, names: list[_Name]) -> bool:
    """Return whether two middle layers' runs do the same, seen from each one's own layer. A reference to the first or
    the last layer is compared by its distance only: those may number theirs otherwise."""

    def seen_from(own: _Run) -> list[tuple[bool, str, int | None, int]]:
        assert own.layer is not None
        view = []
        for event, phase in own.events:
            layer, place = names[event if event >= 0 else ~event]
            distance = None if layer is None else layer - own.layer
            view.append((event >= 0, phase, distance, -1 if layer in (0, DEPTH - 1) else place))
        return view

    left, right = seen_from(run), seen_from(twin)
    if len(left) != len(right):
        return False
    return all(
        a[:3] == b[:3] and (a[3] == b[3] or -1 in (a[3], b[3])) for a, b in zip(left, right, strict=True)
    )


class _Unrolled:
    """The trace being made. A storage's place counts the layers of the deep model."""

    def __init__(self, trace: Trace, names: list[_Name], extra: int, per_layer: int) -> None:
        self.trace = Trace(sent=trace.sent)
        self._source = trace
        self._names = names
        self._extra = extra
        self._per_layer = per_layer
        self._born: dict[_Name, int] = {}
        self._at: tuple[str, int | None] = ("", None)

    def emit(self, run: _Run, place: int | None) -> bool:
        """Append a run as the layer at ``place``; False when it reaches further than its neighbours."""
        events, storages, born, names = self.trace.events, self.trace.storages, self._born, self._names
        own = run.layer
        moved = 0 if place is None or own is None else place - own
        for event, phase in run.events:
            if (phase, place) != self._at:
                self._at = (phase, place)
                self.trace.marks.append(Mark(len(events), phase, place))
            if event == EMPTY_CACHE:
                events.append(event)
                continue
            index = event if event >= 0 else ~event
            layer, number = names[index]
            if layer is not None:
                if own is None or place is None or not -1 <= layer - own <= 1:
                    return False
                layer += moved
            name = (layer, number)
            if event >= 0:
                born[name] = len(storages)
                events.append(len(storages))
                made = self._source.storages[index]
                more = made.nbytes // made.joined * self._per_layer * self._extra if made.joined else 0
                storages.append(replace(made, nbytes=made.nbytes + more, layer=layer))
            else:
                at = born.pop(name, None)
                if at is None:
                    return False
                events.append(~at)
        return True


def without_scalars(trace: Trace) -> Trace:
    """Return the trace without single numbers kept outside the layers, one per layer (a sliding cache's fill level):
    each takes 512 bytes, and they alone keep some models from being unrolled."""
    gone = {
        i for i, s in enumerate(trace.storages) if s.layer is None and 0 < s.nbytes <= _NUMBER and not s.part
    }
    at = 0
    moved: list[Mark] = []
    events: list[int] = []
    for position, event in enumerate(trace.events):
        while at < len(trace.marks) and trace.marks[at].at <= position:
            moved.append(replace(trace.marks[at], at=len(events)))
            at += 1
        if (event if event >= 0 else ~event) not in gone:
            events.append(event)
    moved += [replace(mark, at=len(events)) for mark in trace.marks[at:]]
    return Trace(trace.storages, events, moved, trace.sent, trace.work, trace.aside)
