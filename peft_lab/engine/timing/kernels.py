"""Compute how long operations take on a device: a roofline for each kind of kernel, a queue between host and device.

    kernel   t = start + max(operations / rate of its arithmetic, bytes / rate of its memory)
    memory   bytes that fit the cache move at the cache's rate, the rest at the memory's
    queue    the host launches one operation after another, the device runs them in that order: whichever is slower
             hides the other

Roofline: Williams, Waterman and Patterson 2009 (doi 10.1145/1498765.1498785). No torch here: an estimate is
arithmetic on the numbers of a trace (:mod:`peft_lab.engine.work`).
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from peft_lab.core.errors import named
from peft_lab.engine.devices import cards
from peft_lab.engine.work import KINDS, Work

# ----------------------------------------
# Links between devices, and how much of their bandwidth a collective operation reaches.


#: Bytes a second that a device sends in one direction. NVLink: A100 600 GB/s and H100 900 GB/s both ways (their data
#: sheets); PCIe 4.0 with 16 lanes 32 GB/s, PCIe 5.0 64 GB/s, each one way (PCI-SIG).
LINKS = {"pcie": 32e9, "pcie5": 64e9, "nvlink": 300e9, "nvlink4": 450e9}
#: Share of a link's rate that all-gather and reduce-scatter reach. Assumed, like the next constant; the band of an
#: estimate shows how far published figures are from the result.
REACHED = 0.7
#: Share of a step's computation that can hide communication: prefetching gathers a layer while another computes.
OVERLAPPED = 0.8


def link_seconds(sent: float, link: str) -> float:
    """Return the seconds to send that many bytes. Raises UnknownName for other links."""
    return sent / (named("link", link, LINKS, "link") * REACHED)


def exposed_seconds(taken: float, computing: float, waits: bool = False) -> float:
    """Return how many of the seconds of communication (``taken``) ``computing`` seconds do not hide: all of them if the
    next operation ``waits`` for what is sent, as with tensor parallelism."""
    if waits:
        return taken
    return max(taken - OVERLAPPED * computing, (1 - OVERLAPPED) * taken)


Numbers = NDArray[np.float64]
#: Bytes a second between a device and pinned main memory: PCIe 4.0 at the share that other links reach. Assumed.
PINNED = LINKS["pcie"] * REACHED
_NUMBER = {kind: number for number, kind in enumerate(KINDS)}


@dataclass(frozen=True)
class Speed:
    """The speeds that a device and its host reach.

    Attributes:
        matmul16, matmul32: floating-point operations per second of matrix products, in 16 and in 32 bits.
        memory: bytes per second from and to the device's memory. cache: bytes per second to and from its last-level
            cache, for the first ``held`` bytes of an operation.
        bus: bytes per second between the device and main memory.
        start: minimum seconds of any kernel. column: seconds per column of a decomposition, whose columns are processed
            one after another.
        ask: seconds in which the host launches a kernel. view: seconds in which it creates a view of a tensor.
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


class OperationTable:
    """The operations of a step as columns: the piece, kind, count, arithmetic, bytes and columns of each."""

    def __init__(self, work: Work) -> None:
        rows = [
            (number, _NUMBER[op.kind], count, op.flops, op.nbytes, op.size[1] if op.kind == "factor" else 0)
            for number, piece in enumerate(work)
            for op, count in piece.ops
        ]
        columns = np.array(rows, dtype=np.float64).reshape(-1, 6).T
        self.piece, self.kind = columns[0].astype(int), columns[1].astype(int)
        self.count, self.flops, self.nbytes, self.columns = columns[2:]
        self.times = [piece.times for piece in work]
        masks = {kind: self.kind == number for kind, number in _NUMBER.items()}
        self._masks: dict[str, Any] = masks

    def of(self, *kinds: str) -> Any:
        """Return a boolean mask of the operations of these kinds."""
        return np.logical_or.reduce([self._masks[kind] for kind in kinds])

    def on_device(self, speed: Speed) -> Numbers:
        """Return the seconds of each operation on the device, run once."""
        of, each = self.of, self.of("each")
        moving = np.minimum(self.nbytes, speed.held) / speed.cache
        moving += np.maximum(self.nbytes - speed.held, 0) / speed.memory
        # A kernel over a list reads all of its tensors, more than a cache holds.
        moving = np.where(each, self.nbytes / speed.memory, moving)
        moving = np.where(of("host"), self.nbytes / speed.bus, moving)
        moving = np.where(of("offload"), self.nbytes / PINNED, moving)
        rate = np.where(of("matmul16", "attention"), speed.matmul16, speed.matmul32)
        busy = np.maximum(moving, self.flops / rate) + self.columns * speed.column
        return np.asarray(busy + speed.start * ~(of("view") | each))

    def on_host(self, speed: Speed) -> Numbers:
        """Return the seconds to launch each operation once. A list's tensors are launched together, as one view."""
        return np.where(self.of("view"), speed.view, np.where(self.of("each"), 0.0, speed.ask))

    def pieces(self, each: Numbers) -> Numbers:
        """Return each piece's seconds: the seconds of its operations times their counts, added up."""
        return np.bincount(self.piece, each * self.count, len(self.times)).astype(np.float64)

    def total(self, each: Numbers, *kinds: str) -> float:
        """Return the seconds of all operations of the step, or of those of these kinds, added up."""
        times = np.asarray(self.times, dtype=np.float64)[self.piece]
        return float((each * self.count * times)[self.of(*kinds) if kinds else slice(None)].sum())


def step(table: OperationTable, speed: Speed) -> float:
    """Return the seconds of one step, from an empty queue until everything is done."""
    asked = done = 0.0
    device, host = table.pieces(table.on_device(speed)), table.pieces(table.on_host(speed))
    for number, times in enumerate(table.times):
        for _ in range(times):
            # A piece starts once its first operation is launched and ends after its last one is.
            done = max(max(done, asked) + device[number], asked + host[number])
            asked += host[number]
    return float(done)


# ----------------------------------------
# Data sheets of GPUs: their peak arithmetic and memory rates.


TERA, GIGA, MIB = 1e12, 1e9, 2**20


@dataclass(frozen=True)
class Sheet:
    """A GPU's data sheet.

    Attributes:
        matmul16: dense 16-bit products summed in 32 bits, operations per second. matmul32: 32 bits, no tensor cores.
        memory: bytes per second. cache: bytes of the last-level cache. units: multiprocessors. clock: highest of the
            cores, in hertz. power: its limit in watts.
        source: where it is printed.
        best16: the rate of the best product of 16-bit matrices if somebody measured it (:data:`MEASURED`), else 0.
    """

    matmul16: float
    matmul32: float
    memory: float
    cache: float
    units: int
    clock: float
    power: float
    source: str
    best16: float = 0.0


#: The sources of the best products.
MEASURED = "stas00/ml-engineering, compute/accelerator; xytpai/gpuk"
SHEETS: dict[str, Sheet] = {
    card.name: Sheet(
        card.teraflops_16 * TERA, card.teraflops_32 * TERA, card.gigabytes_per_second * GIGA, card.cache_mib * MIB,
        card.multiprocessors, card.megahertz * 1e6, card.watts, card.source, card.best * TERA,
    )
    for card in cards().values()
    if card.platform == "cuda"
}  # fmt: skip


def sheet(name: str) -> Sheet:
    """Return a GPU's data sheet. Raises :class:`UnknownName` if it is not here."""
    return named("GPU with a known speed", name, SHEETS, "gpu")
