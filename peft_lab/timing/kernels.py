"""How long operations take on a device: a roofline for every kind of kernel, and a queue between host and device.

    kernel   t = start + max(operations / rate of its arithmetic, bytes / rate of its memory)
    memory   what the cache holds moves at the cache's rate, what is beyond it at the memory's
    queue    the host asks for one operation after the other, the device does them in that order: what takes longer
             hides the other

Roofline: Williams, Waterman and Patterson 2009 (doi 10.1145/1498765.1498785). No torch here: an estimate is arithmetic
on the numbers that a trace left (:mod:`peft_lab.memory.work`).
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from peft_lab.memory.work import KINDS, Work
from peft_lab.timing import links

Numbers = NDArray[np.float64]
#: Bytes a second between a device and pinned main memory: PCIe 4.0, as much of it as other links reach. Assumed.
PINNED = links.LINKS["pcie"] * links.REACHED
_NUMBER = {kind: number for number, kind in enumerate(KINDS)}


@dataclass(frozen=True)
class Speed:
    """What a device and its host reach.

    Attributes:
        matmul16, matmul32: floating-point operations a second of products, in 16 and in 32 bits.
        memory: bytes a second from and to the device's memory. cache: to and from its last cache, for as many bytes of
            an operation as ``held``.
        bus: bytes a second between the device and main memory.
        start: seconds that any kernel takes at least. column: seconds for each column of a decomposition, which come
            one after the other.
        ask: seconds in which the host asks for a kernel. view: in which it makes another look at a tensor.
    """

    matmul16: float
    matmul32: float
    memory: float
    cache: float
    held: float
    bus: float
    start: float
    column: float
    ask: float
    view: float


CONSTANTS = tuple(field.name for field in fields(Speed))


class Table:
    """The operations of a step as columns: of each its piece, kind, count, arithmetic, bytes and columns."""

    def __init__(self, work: Work) -> None:
        rows = [
            (
                number, _NUMBER[op.kind], count, op.flops, op.nbytes,
                op.size[1] if op.kind == "factor" else 0,
            )
            for number, piece in enumerate(work)
            for op, count in piece.ops
        ]  # fmt: skip
        columns = np.array(rows, dtype=np.float64).reshape(-1, 6).T
        self.piece, self.kind = columns[0].astype(int), columns[1].astype(int)
        self.count, self.flops, self.nbytes, self.columns = columns[2:]
        self.times = [piece.times for piece in work]

    def of(self, *kinds: str) -> Any:
        """Which operations are of these kinds."""
        return np.isin(self.kind, [_NUMBER[kind] for kind in kinds])

    @cached_property
    def _masks(self) -> dict[str, Any]:
        return {
            "half": self.of("matmul16", "attention"), "single": self.of("matmul32", "factor"),
            "bus": self.of("host"), "pinned": self.of("offload"), "view": self.of("view"), "each": self.of("each"),
        }  # fmt: skip

    def on_device(self, speed: Speed) -> Numbers:
        """Seconds of each operation on the device, once."""
        masks = self._masks
        moving = np.minimum(self.nbytes, speed.held) / speed.cache
        moving += np.maximum(self.nbytes - speed.held, 0) / speed.memory
        # A list of tensors is gone through as a whole, which no cache holds.
        moving = np.where(masks["each"], self.nbytes / speed.memory, moving)
        moving = np.where(masks["bus"], self.nbytes / speed.bus, moving)
        moving = np.where(masks["pinned"], self.nbytes / PINNED, moving)
        rate = np.where(masks["half"], speed.matmul16, speed.matmul32)
        busy = np.maximum(moving, self.flops / rate) + self.columns * speed.column
        launched = speed.start * ~(masks["view"] | masks["each"])
        return np.asarray(busy + launched)

    def on_host(self, speed: Speed) -> Numbers:
        """Seconds in which the host asks for each operation, once. Tensors of a list are asked for with it."""
        masks = self._masks
        return np.where(masks["view"], speed.view, np.where(masks["each"], 0.0, speed.ask))

    def pieces(self, each: Numbers) -> Numbers:
        """Seconds of each operation, added up over the operations of each piece."""
        return np.bincount(self.piece, each * self.count, len(self.times)).astype(np.float64)

    def total(self, each: Numbers, *kinds: str) -> float:
        """Seconds of each operation, added up over the whole step; of these kinds, or all."""
        times = np.asarray(self.times, dtype=np.float64)[self.piece]
        return float((each * self.count * times)[self.of(*kinds) if kinds else slice(None)].sum())


def step(table: Table, speed: Speed) -> float:
    """Seconds of one step, from nothing asked to everything done."""
    asked = done = 0.0
    device, host = table.pieces(table.on_device(speed)), table.pieces(table.on_host(speed))
    for number, times in enumerate(table.times):
        for _ in range(times):
            # The first operation of a piece can start once it is asked for, the last one ends after it was.
            done = max(max(done, asked) + device[number], asked + host[number])
            asked += host[number]
    return float(done)
