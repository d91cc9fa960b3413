"""Simulate the memory that PyTorch's allocator reserves over a run whose rows differ in length.

A freed block serves only requests that it is large enough for, so batches of many lengths leave gaps that one step does
not show. A few steps of different lengths are traced. Each of a step's allocations is a polynomial in the length, of
degree two because of attention's scores: three lengths determine it, and a fourth checks it; where it fails, the bytes
of the next traced length count. So a step of any length can be replayed, and sampled orders of the rows go through the
model of the allocator (:mod:`peft_lab.engine.account`) step after step. Nothing is fitted to a measured figure.
"""

from __future__ import annotations

import random
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise
from statistics import NormalDist, median
from typing import Any

import numpy as np

from peft_lab.core.errors import SimulationError
from peft_lab.engine import account
from peft_lab.engine.account import Block, CachingAllocator, DeviceFull, ExpandableAllocator
from peft_lab.engine.build import Blueprint
from peft_lab.engine.request import OverRun, Reserved, StepSetting
from peft_lab.engine.running import Schedule, Stage
from peft_lab.engine.tracker import EMPTY_CACHE, Trace
from peft_lab.training.batches import TYPES

#: Steps of a sampled order, orders, and the seed of the sampling.
STEPS, ORDERS, SEED = 60, 5, 0
#: Padded lengths are rounded up to a multiple of this in the way to run that does so.
MULTIPLE = 64
#: Share by which a storage's polynomial may miss its bytes at the fourth length; else they grow by leaps, as the matrix
#: that is rebuilt from 4 bits for many rows only.
MISSED = 0.05
#: Lengths that stand for those of all rows.
_MOST = 1000
_FEWEST = 16  # tokens below which there are no four such lengths


def thinned(lengths: Sequence[int]) -> tuple[int, ...]:
    """Return at most a thousand lengths, sorted, that are spread as all are; the longest is among them."""
    every = (len(lengths) - 1) // _MOST + 1
    return tuple(sorted(lengths, reverse=True)[::every][::-1])


def assumed(mean: float, longest: int, rows: int) -> tuple[int, ...]:
    """Return lengths for rows of which only the mean and the longest are known: log-normal, with the spread at which
    the longest of so many rows is expected to be that long."""
    normal, number = NormalDist(), min(rows, _MOST)
    most = normal.inv_cdf(1 - 0.5 / max(rows, 2))
    spread = most - max(0.0, most**2 - 2 * np.log(longest / mean)) ** 0.5
    middles = (normal.inv_cdf((place + 0.5) / number) for place in range(number - 1))
    each = (round(mean * float(np.exp(spread * z - spread**2 / 2))) for z in middles)
    return (*(min(max(1, length), longest) for length in each), longest)


def packs(blueprint: Blueprint) -> bool:
    """Return whether rows of this training can be packed."""
    return blueprint.kind == "causal-lm" and blueprint.config.get_text_config().model_type in TYPES


def sampled(setting: StepSetting, order: int, multiple: int = 1) -> list[int]:
    """Return the padded length of each step of an order of rows, drawn at random; the longest row is among them."""
    chance, wanted = random.Random(f"{SEED} {order}"), STEPS * setting.batch
    drawn = chance.choices(setting.lengths, k=wanted)
    drawn[chance.randrange(wanted)] = setting.lengths[-1]
    batches = (max(drawn[at : at + setting.batch]) for at in range(0, wanted, setting.batch))
    return [-(-min(longest, setting.seq) // multiple) * multiple for longest in batches]


def steps_at(lengths: Sequence[int]) -> Schedule:
    """Return a schedule of one step at each length."""

    def schedule(stage: Stage) -> None:
        stage.subject.model.train()
        for length in lengths:
            stage.train(length)

    return schedule


class Steps:
    """What steps do to memory at any length, read off a trace of first steps and of one at each of four lengths.

    ``start``: events before the first of the four. ``first``: storages that the step before it leaves to it. Raises
    SimulationError: steps of other lengths differ in more than sizes."""

    def __init__(self, trace: Trace, lengths: Sequence[int]) -> None:
        starts, before = list[int](), True
        for at, (event, phase, _) in enumerate(account.walk(trace)):
            # the next batch is made when a step is over
            if before and (phase in ("zero_grad", "forward") or (phase == "idle" and event >= 0)):
                starts.append(at)
                before = False
            before = before or phase in ("backward", "optimizer")
        if len(starts) <= len(lengths):
            raise SimulationError("Nothing is trained in this step, so a run cannot be simulated.")
        over = len(trace.events)
        ends = {~event: at for at, event in enumerate(trace.events) if EMPTY_CACHE < event < 0}
        left, programs, bytes_ = list[int](), list[Any](), list[list[int]]()
        for start, stop in pairwise([*starts, over]):
            events = trace.events[start:stop]
            born = [event for event in events if event >= 0]
            place = {index: at for at, index in enumerate([*born, *left])}
            left = [index for index in born if ends.get(index, over if stop == over else -1) >= stop]
            if start < starts[-len(lengths)]:
                self.start, self.first = stop, left
                continue
            if any(event < 0 and ~event not in place for event in events):
                raise SimulationError("A step frees an earlier step's tensors, so a run cannot be simulated.")
            numbered = [place[event] if event >= 0 else ~place[~event] for event in events]
            streams = [trace.storages[index].stream for index in born]
            programs.append((numbered, [place[index] for index in left], streams))
            bytes_.append([trace.storages[index].nbytes for index in born])
        self._events, self._left, self._streams = programs[0]
        if any(program != programs[0] for program in programs):
            raise SimulationError(
                "Steps on rows of different lengths run different operations, so a run over such rows cannot be "
                "simulated."
            )
        traced, self._lengths = np.array(bytes_, dtype=float), sorted(lengths)
        self._traced = traced[np.argsort(lengths)]
        self._factors = np.linalg.solve(np.vander(np.array(lengths[:3], dtype=float), 3), traced[:3])
        missed = np.abs(np.vander([lengths[3]], 3) @ self._factors - traced[3])[0]
        self._leaps = missed > MISSED * traced[3] + account.MIN_BLOCK
        self._known: dict[int, list[int]] = {}

    def sizes(self, length: int) -> list[int]:
        """Return the bytes of a step's storages; where they grow by leaps, those of the next traced length."""
        if length not in self._known:
            exact = (np.vander([length], 3) @ self._factors)[0]
            above = self._traced[min(bisect_left(self._lengths, length), len(self._lengths) - 1)]
            self._known[length] = np.rint(np.where(self._leaps, above, exact)).astype(int).tolist()
        return self._known[length]

    def play(
        self, length: int, allocator: CachingAllocator, left: Sequence[Block | None]
    ) -> list[Block | None]:
        """Replay a step after one that left these blocks; return those that it leaves itself."""
        sizes, streams = self.sizes(length), self._streams
        blocks: list[Block | None] = [*([None] * len(sizes)), *left]
        for event in self._events:
            if event >= 0:
                blocks[event] = allocator.malloc(sizes[event], streams[event]) if sizes[event] > 0 else None
            elif (block := blocks[~event]) is not None:
                allocator.free(block)
        return [blocks[index] for index in self._left]


def simulate(
    traced: Callable[[Schedule, StepSetting], Trace],
    setting: StepSetting,
    weights: Callable[[Trace], int] = lambda trace: 0,
    packs: bool = False,
    orders: int = 0,
    first: int = 1,
) -> OverRun:
    """Return what the allocator reserves over runs of sampled ``orders`` (0: :data:`ORDERS` of them, and the other ways
    to run). ``traced`` returns the trace of a schedule, ``weights`` the bytes that are allocated and freed before
    loading; ``packs``: the model reads packed rows; ``first``: steps until all are alike. A run that does not fit
    counts as what it had reserved with the request that failed. Raises SimulationError as :class:`Steps`, for rows
    that are too short, and without PyTorch's CUDA allocator."""
    longest = min(setting.lengths[-1], setting.seq)
    if longest < _FEWEST or setting.device != "cuda":
        why = "the device is not a GPU" if setting.device != "cuda" else f"{longest} tokens are too few"
        raise SimulationError(f"What a run reserves cannot be simulated: {why}.")
    # from half of the longest up: short rows have kernels of their own. At one remainder by 128, because attention
    # rounds up to blocks, and no multiple of 8, because masks of other lengths are copied first
    apart = 128 * max(1, longest // 1024) if longest >= 640 else longest // 8
    lengths = [longest - apart * times for times in (4, 2, 0, 1)]
    lengths = [length - (length % 8 == 0) for length in lengths]
    trace = traced(steps_at([lengths[1]] * first + lengths), replace(setting, padded=setting.batch > 1))
    steps, warm_up = Steps(trace, lengths), weights(trace)

    def reserved(order: int, allocator: CachingAllocator, multiple: int = 1, empties: bool = False) -> int:
        try:
            blocks = account.replay(trace, allocator, setting.capability, warm_up, stop=steps.start)
            left = [blocks.get(index) for index in steps.first]
            for length in sampled(setting, order, multiple):
                if empties:
                    allocator.empty_cache()
                left = steps.play(length, allocator, left)
        except DeviceFull as full:
            return full.reserved + full.requested
        return allocator.peak_reserved

    def over(make: Callable[[], CachingAllocator], orders: int, **how: Any) -> Reserved:
        each = sorted(reserved(order, make(), **how) for order in range(orders))
        return Reserved(each[0], int(median(each)), each[-1])

    usual, found = partial(CachingAllocator, setting.capacity), dict[str, Reserved]()
    if not orders:
        found["expandable_segments"] = over(ExpandableAllocator, 1)
        found["empty_cache"] = over(usual, 1, empties=True)
        found[f"pad_to_multiple_of_{MULTIPLE}"] = over(usual, 1, multiple=MULTIPLE)
        if packs:  # all steps are alike
            full = traced(steps_at([setting.seq] * 2), replace(setting, packed=True))
            whole = account.reserve(full, setting.capability, None, warm_up)
            found["packing"] = Reserved(whole, whole, whole)
    reserve = over(usual, orders or ORDERS)
    return OverRun(reserve, found, STEPS, orders or ORDERS, SEED, len(setting.lengths), longest)
