"""Simulate steps for Choose and Plan: each once per process, and none whose result ships with the lab."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields, replace
from functools import cache, lru_cache
from math import ceil, inf
from pathlib import Path
from typing import Any

from peft_lab.advise.situation import Situation
from peft_lab.core import disk
from peft_lab.core.errors import SimulationError
from peft_lab.engine import over_a_run, simulate
from peft_lab.engine.kernels import stands_for
from peft_lab.engine.request import MIXED, Reserved, StepRequest, StepSetting
from peft_lab.engine.sharding.simulate import ShardedResult, reserved_over_run, simulate_sharded
from peft_lab.engine.sharding.wrap import Sharding
from peft_lab.engine.simulate import bytes_needed
from peft_lab.engine.simulate import simulate as simulate_step

# ----------------------------------------
# Bounds on what a step needs, from simulations of the same step with other rows and other lengths.
#
# With ``b`` rows of ``s`` tokens a step needs c₀ + c₁·b·s + c₂·b·s², no coefficient negative: weights and states,
# what is kept of every token, and the scores of attention where they are stored. So
#
# - a step with more rows, or with longer ones, needs no less;
# - for one length it is linear in the rows, and on that line, counted in tokens, longer rows need no
# less;
# - everything but the weights grows no faster than the faster of b·s and b·s².
#
# The allocator rounds, and its segments do not always find the same gaps: a bound decides only where it is
# :data:`MARGIN` away from the limit, and closer cases are simulated (``tests/advise/test_simulating.py`` sets bounds
# against simulations).


MARGIN = 1.05
#: Share of a line's slope that counts past its second point: the allocator's rounding there grows with distance.
TRUSTED = 0.9

#: (rows, tokens of a row) -> simulated bytes
Known = Mapping[tuple[int, int], int]
#: rows -> lower and upper bound in bytes
Between = Callable[[int], tuple[float, float]]


def bounds(known: Known, weights: int, rows: int, seq: int) -> tuple[float, float]:
    """Return a lower and an upper bound on the bytes of ``rows`` rows of ``seq`` tokens; equal if simulated.

    ``weights``: bytes that every step needs.

    >>> bounds({(1, 512): 18, (4, 512): 24}, 16, 4, 1024)
    (31.2, 48.0)
    """
    if (rows, seq) in known:
        return known[rows, seq], known[rows, seq]
    low, high = float(weights), inf
    lengths: dict[int, dict[int, int]] = {}
    for (other, length), needed in known.items():
        ratio = max(1.0, rows * seq / (other * length), rows * seq**2 / (other * length**2))
        high = min(high, weights + max(0, needed - weights) * ratio)
        if other <= rows and length <= seq:
            low = max(low, needed)
        lengths.setdefault(length, {})[other] = needed
    for length, by_rows in lengths.items():
        few, many = min(by_rows), max(by_rows)
        tokens = rows * seq / length
        if length <= seq and few < many and tokens >= few:
            slope = max(0, by_rows[many] - by_rows[few]) / (many - few)
            beyond = max(0.0, tokens - many)
            low = max(low, by_rows[few] + slope * (tokens - beyond - few + TRUSTED * beyond))
    # The allocator's rounding may make them cross; equal bounds would mean that the step was simulated.
    return min(low, high), max(low, high, min(low, high) + 1)


def anything(rows: int) -> tuple[float, float]:
    """Return the bounds when nothing is known."""
    return 0.0, inf


def decided(between: tuple[float, float], limit: float) -> bool | None:
    """Return whether a step is certain to be within a limit, or certain not to; ``None``: simulate it."""
    low, high = between
    if low == high:
        return low <= limit
    if low > limit * MARGIN:
        return False
    return True if high <= limit / MARGIN else None


def largest_rows(
    needs: Callable[[int], int], most: int, limit: int, tight: bool = False, between: Between = anything
) -> tuple[int, int] | None:
    """Return the most rows that fit, and what they need: all ``most``, or as many as make few equal passes.

    ``tight``: try one row first, as it may be too much already. ``between``: bounds that save simulations.
    """

    def fits(rows: int) -> bool:
        known = decided(between(rows), limit)
        return needs(rows) <= limit if known is None else known

    def holds(rows: int) -> bool:
        return decided(between(rows), limit) is not False and needs(rows) <= limit

    if most > 1 and tight and not fits(1):
        return None
    if holds(most):
        return most, needs(most)
    if most == 1 or not fits(1):
        return None
    passes = 2
    if most > 2:
        least, whole = needs(1), needs(most)
        line = 1 + max(0, limit - least) * (most - 1) // (whole - least) if whole > least else 1
        passes = max(passes, ceil(most / min(line, most)))
    while (rows := ceil(most / passes)) > 1:
        if holds(rows):
            return rows, needs(rows)
        passes += max(1, passes // 8)
        while ceil(most / passes) == rows:
            passes += 1
    return (1, needs(1)) if needs(1) <= limit else None


# ----------------------------------------
# A training step as requested, and as found to fit.


DTYPE = "bfloat16"
SPLIT, OFFLOAD = "fsdp2", "+offload"
#: Every matrix is split, and all devices read the same rows.
TENSOR = "tp"


def splits(sharding: str) -> bool:
    """Return whether a device holds only a share of the model."""
    return sharding.startswith((SPLIT, TENSOR))


@dataclass(frozen=True)
class StepRun:
    """How a step is run on each device.

    Attributes:
        dtype: data type of the weights between steps. loss: ``whole`` or ``chunked``.
        sharding: ``none`` if a device holds the whole model; ``fsdp2``, ``fsdp2+offload`` or ``tp`` if it
            holds a share.
        in_main_memory: whether the bytes wanted are those in main memory, not those on the device.
        packed: whether several data rows share each row of the step.
        offload: whether tensors saved for the backward pass wait in main memory.
        precision, adapter_dtype: as of a :class:`~peft_lab.engine.request.StepSetting`, if they were asked for.
        accumulates: whether the gradients of an earlier pass stay on the device.
    """

    batch: int
    checkpointing: bool
    optimizer: str = "adamw"
    dtype: str = DTYPE
    loss: str = "whole"
    sharding: str = "none"
    in_main_memory: bool = False
    packed: bool = False
    offload: bool = False
    precision: str = ""
    adapter_dtype: str = ""
    accumulates: bool = False

    @property
    def split(self) -> bool:
        """Return whether a device holds only a share of the model."""
        return splits(self.sharding)

    @property
    def offloads(self) -> bool:
        """Return whether a device's share waits in main memory."""
        return self.sharding.endswith(OFFLOAD)

    def step(self, needed: int, **more: Any) -> Step:
        """Return a step that is run this way and needs that many bytes; ``more`` are further fields."""
        return Step(**vars(self) | more, needed=needed)


#: (method, knobs, run) -> bytes that the device must have
Needed = Callable[[str, Mapping[str, Any], StepRun], int]
#: situation -> what a step needs on its device, as a function of the rest
Ask = Callable[[Situation], Needed]
#: Known results of a step on the situation's device with other rows and lengths.
Recall = Callable[[Situation, str, Mapping[str, Any], StepRun], Known]
#: What runs of a step over rows of unequal length reserve on a device of so many bytes.
OverRuns = Callable[[Situation, str, Mapping[str, Any], StepRun, int], Reserved | None]


@dataclass(frozen=True)
class Step(StepRun):
    """A training step that fits: how it is run, and what it takes.

    Attributes:
        sharding: as of a run, and ``ddp`` where several devices hold the whole model each.
        needed: bytes on each device. host: bytes in main memory for each. accumulate: passes that make up the
            requested batch.
        bound: whether ``needed`` is only an upper bound, from the simulation of a larger step.
        over: what runs over rows of unequal length reserve, if that was simulated.
    """

    needed: int = 0
    accumulate: int = 1
    host: int = 0
    bound: bool = False
    over: Reserved | None = None

    def run(self, batch: int) -> StepRun:
        """Return how one pass of the step is run, with another number of rows."""
        kept = {field.name: getattr(self, field.name) for field in fields(StepRun)}
        return StepRun(**kept | {"batch": batch, "accumulates": False})


# ----------------------------------------
# Simulations that ship with the lab, so that the tree answers at once for its examples; all others are run.
#
# ``simulated.json`` is written by ``python -m tools.refresh_choices``; slow tests run what it holds again.


SHIPPED_SIMULATIONS = "simulated.json"
_notes: list[dict[str, int]] = []
_shipped: list[Any] = []
_run: dict[str, dict[tuple[int, int], int]] = {}
_SIZE = re.compile(r"(?<=\]) (\d+)x(\d+) ")


def simulation_key(request: StepRequest, how: Sharding | None = None, in_main_memory: bool = False) -> str:
    """Return a simulation's settings as one line. ``in_main_memory``: for the bytes there."""
    knobs = ",".join(
        f"{name}={'+'.join(map(str, value)) if isinstance(value, tuple | list) else value}"
        for name, value in sorted(request.values.items())
    )
    setting = request.setting
    where = f"{setting.device} {'.'.join(map(str, setting.capability))}"
    more = " checkpointing" if request.checkpointing else ""
    more += "" if setting.optimizer == "adamw" else f" {setting.optimizer}"
    more += "" if setting.loss == "whole" else f" {setting.loss} loss"
    more += (" packed" if setting.packed else "") + (" saved in main memory" if setting.offload else "")
    more += "" if request.dtype == "bfloat16" else f" {request.dtype}"
    more += f" {setting.precision}" if setting.precision else ""
    more += f" adapters in {setting.adapter_dtype}" if setting.adapter_dtype else ""
    more += " accumulated" if setting.accumulate > 1 else ""
    if how is not None:
        more += f" {how.kind} over {how.devices}" + (" offload" if how.offload else "")
    more += " main memory" if in_main_memory else ""
    return f"{request.model} {request.method}[{knobs}] {setting.batch}x{setting.seq} {where}{more}"


@cache
def shipped_simulations() -> Mapping[str, int]:
    """Return the bytes that a device must have, by settings, of the simulations that ship."""
    kept: dict[str, int] = disk.read_json(Path(__file__).with_name(SHIPPED_SIMULATIONS), {}).get("bytes", {})
    return kept


def family(request: StepRequest, how: Sharding | None = None) -> Mapping[tuple[int, int], int]:
    """Return the step's bytes by (rows, tokens per row), from shipped simulations and this process's."""
    same = _same(simulation_key(request, how))
    return {**_families().get(same, {}), **_run.get(same, {})}


def _same(settings: str) -> str:
    """Return the settings without rows and tokens."""
    return _SIZE.sub(" ", settings, count=1)


def _families() -> Mapping[str, dict[tuple[int, int], int]]:
    """Return the shipped families, computed once; tests replace the simulations."""
    kept = shipped_simulations()
    if not _shipped or _shipped[0] is not kept:
        found: dict[str, dict[tuple[int, int], int]] = {}
        for settings, needed in kept.items():
            _add(found, settings, needed)
        _shipped[:] = [kept, found]
    return _shipped[1]


def _add(families: dict[str, dict[tuple[int, int], int]], settings: str, needed: int) -> None:
    size = _SIZE.search(settings)
    if size is not None:
        families.setdefault(_same(settings), {})[int(size[1]), int(size[2])] = needed


def note_simulation(settings: str, needed: int) -> None:
    """Report a simulation to all watchers, and remember it for its :func:`family`."""
    _add(_run, settings, needed)
    for watched in _notes:
        watched[settings] = needed


@contextmanager
def watching() -> Iterator[dict[str, int]]:
    """Yield a dictionary that collects every simulation asked for inside the block."""
    asked: dict[str, int] = {}
    _notes.append(asked)
    try:
        yield asked
    finally:
        _notes.remove(asked)


def simulating(situation: Situation) -> Needed:
    """Return the simulation for a situation, as a function of method, knobs and run."""

    def needed(method: str, values: Mapping[str, Any], run: StepRun) -> int:
        asked, how = request(situation, method, values, run), sharding(situation, run)
        if how is None:
            return _simulated(asked, run.in_main_memory)
        return _split(asked, how)[run.in_main_memory]

    return needed


def recalling(situation: Situation, method: str, values: Mapping[str, Any], run: StepRun) -> Known:
    """Return the known bytes of a step with other rows and lengths, as shipped or simulated here."""
    return family(request(situation, method, values, run), sharding(situation, run))


def request(situation: Situation, method: str, values: Mapping[str, Any], run: StepRun) -> StepRequest:
    """Return one device's step, the same for all devices on which it needs the same. ``run.batch``: sequences that
    go through at once."""
    alike = {field.name for field in fields(StepSetting)} & vars(run).keys()
    # two passes stand for any number: gradients stay from the first one on
    passes = {"accumulate": 1 + run.accumulates}
    setting = StepSetting(seq=situation.seq, **{name: getattr(run, name) for name in alike} | passes)
    asked = StepRequest(situation.model, method, values, setting, run.dtype, run.checkpointing)
    card = situation.hardware
    return asked.on(replace(card, capability=stands_for(card.capability)) if card.kind == "cuda" else card)


def sharding(situation: Situation, run: StepRun) -> Sharding | None:
    """Return how a step is split; ``None`` if it is not. Weights in float32 compute in 16 bits."""
    if not run.split:
        return None
    if run.sharding == TENSOR:
        return Sharding(TENSOR, situation.devices)
    mixed = run.dtype == "float32" and run.precision in ("", MIXED)
    return Sharding(
        "fsdp2", situation.devices, offload=run.offloads, compute="bfloat16" if mixed else None,
        reduce="float32" if mixed else None,
    )  # fmt: skip


@lru_cache(maxsize=1024)
def _simulated(request: StepRequest, in_main_memory: bool) -> int:
    """Return the bytes on the device, or those in main memory."""
    key = simulation_key(request, in_main_memory=in_main_memory)
    known = shipped_simulations().get(key)
    if known is None:
        known = simulate_step(request).host_bytes if in_main_memory else bytes_needed(request)
    note_simulation(key, known)
    return known


@lru_cache(maxsize=512)
def _split(request: StepRequest, how: Sharding) -> tuple[int, int]:
    """Return the bytes on each device, and those in main memory for each."""
    keys = [simulation_key(request, how)]
    if how.offload:
        keys.append(simulation_key(request, how, in_main_memory=True))
    found = [shipped_simulations().get(key, -1) for key in keys]
    if min(found) < 0:
        real = split(request, how)
        found = [simulate.needed_bytes(real), real.host_bytes][: len(keys)]
    for key, known in zip(keys, found, strict=True):
        note_simulation(key, known)
    return found[0], found[1] if how.offload else 0


def unequal(situation: Situation) -> bool:
    """Return whether rows differ in length, as far as is known."""
    return (situation.row_tokens or situation.seq) < situation.seq


#: Sampled orders of a step's rows.
_ORDERS = 2


def over_run(
    situation: Situation, method: str, values: Mapping[str, Any], run: StepRun, capacity: int
) -> Reserved | None:
    """Return what runs of a step over rows of unequal length reserve on a device with that many bytes, more than it has
    if they do not fit; ``None`` if rows are equal, and if a run of the step cannot be simulated. Of the rows their
    number, mean and longest are known."""
    if run.packed or not unequal(situation) or situation.hardware.kind != "cuda":
        return None
    lengths = over_a_run.assumed(situation.row_tokens or situation.seq, situation.seq, situation.rows)
    asked = request(situation, method, values, run).at(lengths=lengths, capacity=capacity)
    return _over_run(asked, sharding(situation, run))


@lru_cache(maxsize=512)
def _over_run(request: StepRequest, how: Sharding | None) -> Reserved | None:
    with suppress(SimulationError):
        if how is None:
            return simulate.reserved_over_run(request, _ORDERS)
        return reserved_over_run(request, how, _ORDERS)
    return None


@lru_cache(maxsize=256)
def split(request: StepRequest, how: Sharding) -> ShardedResult:
    """Return the whole simulation of a split step. Raises as
    :func:`peft_lab.engine.sharding.simulate.simulate_sharded`."""
    return simulate_sharded(request, how)
