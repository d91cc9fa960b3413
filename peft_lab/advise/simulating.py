"""The simulation of a step as Choose and Plan ask it: once per process, and what ships is not run at all."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from importlib import resources
from math import ceil, inf
from typing import Any

from peft_lab.advise.situation import Situation
from peft_lab.engine import fits
from peft_lab.engine.kernels import stands_for
from peft_lab.engine.request import Setting, StepRequest
from peft_lab.engine.sharding.how import Sharding
from peft_lab.engine.sharding.result import ShardedResult
from peft_lab.engine.sharding.simulate import simulate_sharded
from peft_lab.engine.simulate import bytes_needed, simulate

# ----------------------------------------
# What a step needs at least and at most, told by simulations of the same step with other rows and other lengths.
#
# With ``b`` rows of ``s`` tokens a step needs c₀ + c₁·b·s + c₂·b·s², no coefficient negative: weights and states,
# what is kept of every token, and the scores of attention where they are stored. So
#
# - a step with more rows, or with longer ones, needs no less;
# - between two numbers of rows of one length it is a line, and on that line, counted in tokens, longer rows need no
# less;
# - all beside the weights grows no faster than the faster of b·s and b·s².
#
# The allocator rounds, and its segments do not always find the same gaps: a bound decides only where it is
# :data:`MARGIN` away from the limit, and what is near is simulated (``tests/advise/test_bounds.py`` sets bounds
# against simulations).


MARGIN = 1.05
#: How much of a line's slope counts past its second point: what the allocator rounded there grows with the distance.
TRUSTED = 0.9

#: rows, tokens of a row -> bytes, as simulated
Known = Mapping[tuple[int, int], int]
#: rows -> bytes at least and at most
Between = Callable[[int], tuple[float, float]]


def bounds(known: Known, weights: int, rows: int, seq: int) -> tuple[float, float]:
    """Bytes that ``rows`` of ``seq`` tokens need at least and at most; twice the same where that was simulated.

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
    # The allocator rounds, so that they may cross; the same twice would say that it was simulated.
    return min(low, high), max(low, high, min(low, high) + 1)


def anything(rows: int) -> tuple[float, float]:
    """Nothing is known."""
    return 0.0, inf


def decided(between: tuple[float, float], limit: float) -> bool | None:
    """Whether a step is within a limit for certain; ``None``: it has to be simulated."""
    low, high = between
    if low == high:
        return low <= limit
    if low > limit * MARGIN:
        return False
    return True if high <= limit / MARGIN else None


def largest_rows(
    needs: Callable[[int], int], most: int, limit: int, tight: bool = False, between: Between = anything
) -> tuple[int, int] | None:
    """The most rows that fit, up to ``most``, and what they need: in one pass, or in equal ones, as few as will do.

    ``tight``: one row is asked for first, as it may well be too much already. ``between``: what spares asking.
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
# A training step as it is asked for, and as it was found to fit.


DTYPE = "bfloat16"
SPLIT, OFFLOAD = "fsdp2", "+offload"
#: Every matrix split, and all devices read the same rows.
TENSOR = "tp"


@dataclass(frozen=True)
class Run:
    """How a step is run on each device.

    Attributes:
        dtype: of the weights as they are remembered. loss: whole or chunked.
        sharding: ``none``, where a device has all of the model; ``fsdp2``, ``fsdp2+offload`` or ``tp``, where it has a
            share.
        in_main_memory: whether bytes there are asked for, not those on the device.
        packed: whether rows of the data share each row of the step.
        offload: whether what the backward pass needs waits in main memory.
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

    @property
    def split(self) -> bool:
        """Whether a device has a share of the model alone."""
        return self.sharding.startswith((SPLIT, TENSOR))

    @property
    def offloads(self) -> bool:
        """Whether its share waits in main memory."""
        return self.sharding.endswith(OFFLOAD)


#: method, values, how it is run -> bytes that the device must have
Needed = Callable[[str, Mapping[str, Any], Run], int]
#: What is needed on the situation's device, as a function of the rest.
Ask = Callable[[Situation], Needed]
#: What is known of a step on the situation's device with other rows and lengths.
Recall = Callable[[Situation, str, Mapping[str, Any], Run], Known]


@dataclass(frozen=True)
class Step:
    """A training step that fits.

    Attributes:
        batch: rows on each device. needed: bytes on each. accumulate: so many make the batch that was asked for.
        sharding: ``none``, ``ddp``, ``tp``, ``fsdp2``, or ``fsdp2+offload`` with ``host`` bytes in main memory for
            each device.
        bound: whether ``needed`` is what it needs at most, by the simulation of a larger step.
        packed: whether rows of the data share each of its rows.
        offload: whether what the backward pass needs waits in main memory, where ``host`` bytes are its.
    """

    batch: int
    checkpointing: bool
    needed: int
    accumulate: int = 1
    optimizer: str = "adamw"
    dtype: str = DTYPE
    sharding: str = "none"
    host: int = 0
    loss: str = "whole"
    bound: bool = False
    packed: bool = False
    offload: bool = False

    def run(self, batch: int) -> Run:
        """Return how it is run, with other rows."""
        return Run(
            batch, self.checkpointing, self.optimizer, self.dtype, self.loss, self.sharding, packed=self.packed,
            offload=self.offload,
        )  # fmt: skip

    @property
    def split(self) -> bool:
        """Whether each device has a share of the model alone."""
        return self.sharding.startswith((SPLIT, TENSOR))


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
    """A simulation's settings as a line of text. ``in_main_memory``: for what lies there, not on the device."""
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
    if how is not None:
        more += f" {how.kind} over {how.devices}" + (" offload" if how.offload else "")
    more += " main memory" if in_main_memory else ""
    return f"{request.model} {request.method}[{knobs}] {setting.batch}x{setting.seq} {where}{more}"


@cache
def shipped_simulations() -> Mapping[str, int]:
    """Bytes that a device must have, by settings."""
    file = resources.files(__package__) / SHIPPED_SIMULATIONS
    if not file.is_file():
        return {}
    kept: dict[str, int] = json.loads(file.read_text("utf-8"))["bytes"]
    return kept


def family(request: StepRequest, how: Sharding | None = None) -> Mapping[tuple[int, int], int]:
    """Bytes of the same step by its rows and the tokens of each: of those that ship and of those run here."""
    same = _same(simulation_key(request, how))
    return {**_families().get(same, {}), **_run.get(same, {})}


def _same(settings: str) -> str:
    """The settings without rows and tokens."""
    return _SIZE.sub(" ", settings, count=1)


def _families() -> Mapping[str, dict[tuple[int, int], int]]:
    """Those of what ships, worked out once; tests put other simulations in their place."""
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
    """Tell those who watch that a simulation was asked for, and remember it for its :func:`family`."""
    _add(_run, settings, needed)
    for watched in _notes:
        watched[settings] = needed


@contextmanager
def watching() -> Iterator[dict[str, int]]:
    """Every simulation that is asked for meanwhile."""
    asked: dict[str, int] = {}
    _notes.append(asked)
    try:
        yield asked
    finally:
        _notes.remove(asked)


def simulating(situation: Situation) -> Needed:
    """The simulation as a function of what changes."""

    def needed(method: str, values: Mapping[str, Any], run: Run) -> int:
        asked, how = request(situation, method, values, run), sharding(situation, run)
        if how is None:
            return _waiting(asked) if run.in_main_memory else _simulated(asked)
        return _split(asked, how)[run.in_main_memory]

    return needed


def recalling(situation: Situation, method: str, values: Mapping[str, Any], run: Run) -> Known:
    """What ships, and what this process simulated, of a step with other rows and lengths."""
    return family(request(situation, method, values, run), sharding(situation, run))


def request(situation: Situation, method: str, values: Mapping[str, Any], run: Run) -> StepRequest:
    """One device's step, the same for all devices on which it takes the same. ``run.batch``: sequences that go through
    at once."""
    setting = Setting(
        run.batch,
        situation.seq,
        optimizer=run.optimizer,
        loss=run.loss,
        packed=run.packed,
        offload=run.offload,
    )
    asked = StepRequest(situation.model, method, values, setting, run.dtype, run.checkpointing)
    card = situation.hardware
    return asked.on(replace(card, capability=stands_for(card.capability)) if card.kind == "cuda" else card)


def sharding(situation: Situation, run: Run) -> Sharding | None:
    """How a step is split over devices; ``None`` where each has all of it. Weights in float32 compute in 16 bits."""
    if not run.split:
        return None
    if run.sharding == TENSOR:
        return Sharding(TENSOR, situation.devices)
    mixed = run.dtype == "float32"
    return Sharding(
        "fsdp2", situation.devices, offload=run.offloads, compute="bfloat16" if mixed else None,
        reduce="float32" if mixed else None,
    )  # fmt: skip


@lru_cache(maxsize=512)
def _simulated(request: StepRequest) -> int:
    key = simulation_key(request)
    known = shipped_simulations().get(key)
    if known is None:
        known = bytes_needed(request)
    note_simulation(key, known)
    return known


@lru_cache(maxsize=512)
def _waiting(request: StepRequest) -> int:
    """Bytes in main memory."""
    key = simulation_key(request, in_main_memory=True)
    known = shipped_simulations().get(key)
    if known is None:
        known = simulate(request).host_bytes
    note_simulation(key, known)
    return known


@lru_cache(maxsize=512)
def _split(request: StepRequest, how: Sharding) -> tuple[int, int]:
    """Bytes on each device, and in main memory for each."""
    keys = [simulation_key(request, how)]
    if how.offload:
        keys.append(simulation_key(request, how, in_main_memory=True))
    found = [shipped_simulations().get(key, -1) for key in keys]
    if min(found) < 0:
        real = split(request, how)
        found = [fits.needed(real), real.host_bytes][: len(keys)]
    for key, known in zip(keys, found, strict=True):
        note_simulation(key, known)
    return found[0], found[1] if how.offload else 0


@lru_cache(maxsize=256)
def split(request: StepRequest, how: Sharding) -> ShardedResult:
    """All that the simulation of a split step says. Raises as
    :func:`peft_lab.engine.sharding.simulate.simulate_sharded`."""
    return simulate_sharded(request, how)
