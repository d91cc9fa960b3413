"""How long operations take on a device: a roofline for every kind of kernel, and a queue between host and device.

    kernel   t = start + max(flops / rate of its arithmetic, bytes / rate of its memory)
    queue    the host asks for one operation after the other, the device does them in that order: a stretch of them ends
             when both are through, and what takes longer hides the other (launch bound or not)

Roofline: Williams, Waterman and Patterson 2009 (doi 10.1145/1498765.1498785). No torch here: an estimate is arithmetic
on the numbers that a trace left (:mod:`peft_lab.memory.work`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil

from peft_lab.memory.work import Op, Piece, Work

#: What a kind's bytes move through when they are more than the cache holds, and else.
_MOVES = frozenset(["stream", "gather", "dequantise", "transform"])


@dataclass(frozen=True)
class Speed:
    """What a device and its host reach, in units a second.

    Attributes:
        matmul16, matmul32: floating-point operations of large products, in 16 and in 32 bits.
        memory: bytes from and to the device's memory. cache: from and to its last cache, while ``cache_bytes`` hold
            what an operation reads and writes.
        gather: bytes picked by index. transform: of Fourier transforms. host: bytes over the bus to main memory.
        start: seconds that any kernel takes at least. factor: seconds for each column of a decomposition.
        ask: seconds in which the host asks for a kernel; ``view``: makes another look at a tensor; ``each``: adds a
            tensor to a list of them.
        step: seconds of the loop around a step (its batch, its log), in which the device waits.
        units: multiprocessors, of which a product's tiles keep a whole number busy. 0: not asked.
    """

    matmul16: float
    matmul32: float
    memory: float
    cache: float
    cache_bytes: float
    gather: float
    transform: float
    host: float
    start: float
    factor: float
    ask: float
    view: float
    each: float
    step: float
    units: int = 0


#: Rows and columns of the part of a product that one multiprocessor works on.
TILE = (128, 128)


def on_device(op: Op, speed: Speed) -> float:
    """Seconds of one operation on the device."""
    if op.kind == "view":
        return 0.0
    rate = speed.cache if op.nbytes <= speed.cache_bytes else speed.memory
    if op.kind == "each":
        return op.nbytes / speed.memory
    if op.kind in ("matmul16", "attention"):
        return speed.start + max(_rounded(op, speed.units) / speed.matmul16, op.nbytes / rate)
    if op.kind == "matmul32":
        return speed.start + max(_rounded(op, speed.units) / speed.matmul32, op.nbytes / rate)
    if op.kind == "factor":
        return speed.start + op.size[1] * speed.factor + op.flops / speed.matmul32
    if op.kind == "host":
        return speed.start + op.nbytes / speed.host
    if op.kind == "gather":
        return speed.start + op.nbytes / speed.gather
    if op.kind == "transform":
        return speed.start + op.nbytes / speed.transform
    return speed.start + op.nbytes / rate


def _rounded(op: Op, units: int) -> float:
    """The arithmetic of whole tiles in whole waves."""
    if not op.size or not units:
        return op.flops
    batch, rows, columns, inner = op.size
    tiles = batch * ceil(rows / TILE[0]) * ceil(columns / TILE[1])
    waves = tiles / units
    # More than a few waves even out; one that is not full leaves the rest idle.
    return 2.0 * TILE[0] * TILE[1] * inner * units * max(waves, 1.0)


def on_host(op: Op, speed: Speed) -> float:
    """Seconds in which the host asks for it."""
    return {"view": speed.view, "each": speed.each}.get(op.kind, speed.ask)


def classes(work: Work, speed: Speed) -> dict[str, float]:
    """Seconds on the device by kind, added up; ``ask``: those in which the host asks."""
    found: dict[str, float] = {"ask": 0.0}
    for piece in work:
        for op, count in piece.ops:
            seconds = on_device(op, speed) * count * piece.times
            if seconds:
                found[op.kind] = found.get(op.kind, 0.0) + seconds
            found["ask"] += on_host(op, speed) * count * piece.times
    return found


def step(work: Work, speed: Speed, slower: Mapping[str, float] | None = None) -> float:
    """Seconds of one step: host and device in a queue, and the loop around it."""
    asked = done = 0.0
    for piece in work:
        host, device = _piece(piece, speed)
        for _ in range(piece.times):
            asked += host
            done = max(done, asked - host) + device
            done = max(done, asked)
    return done + speed.step


def _piece(piece: Piece, speed: Speed) -> tuple[float, float]:
    host = sum(on_host(op, speed) * count for op, count in piece.ops)
    return host, sum(on_device(op, speed) * count for op, count in piece.ops)
