"""How long operations take on a device: a roofline for every kind of kernel, and a queue between host and device.

    kernel   t = start + max(operations / rate of its arithmetic, bytes / rate of its memory)
    memory   what the cache holds moves at the cache's rate, what is beyond it at the memory's
    queue    the host asks for one operation after the other, the device does them in that order: what takes longer
             hides the other

Roofline: Williams, Waterman and Patterson 2009 (doi 10.1145/1498765.1498785). No torch here: an estimate is arithmetic
on the numbers that a trace left (:mod:`peft_lab.engine.work`).
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from peft_lab.core.errors import UnknownName
from peft_lab.engine.work import KINDS, Work

# ----------------------------------------
# What connects devices, and how much of it a collective operation reaches.


#: Bytes a second that a device sends in one direction. NVLink: A100 600 GB/s and H100 900 GB/s both ways (their data
#: sheets); PCIe 4.0 with 16 lanes 32 GB/s, PCIe 5.0 64 GB/s, each one way (PCI-SIG).
LINKS = {"pcie": 32e9, "pcie5": 64e9, "nvlink": 300e9, "nvlink4": 450e9}
#: Share of it that all-gather and reduce-scatter reach: assumed, as is the next; the band of an estimate says how far
#: published figures lie from what follows.
REACHED = 0.7
#: Share of the step's computing behind which communication hides: prefetching gathers a layer while another computes.
OVERLAPPED = 0.8


def check_link(link: str) -> None:
    """Raises UnknownName for a link of which no speed is known."""
    if link not in LINKS:
        raise UnknownName("link", link, LINKS, "link")


def link_seconds(sent: float, link: str) -> float:
    """Of sending so many bytes. Raises UnknownName for other links."""
    check_link(link)
    return sent / (LINKS[link] * REACHED)


def exposed_seconds(taken: float, computing: float, waits: bool = False) -> float:
    """What of so many seconds of communication stays visible beside ``computing`` seconds: all of them where the next
    operation ``waits`` for what is sent, as under tensor parallelism."""
    if waits:
        return taken
    return max(taken - OVERLAPPED * computing, (1 - OVERLAPPED) * taken)


Numbers = NDArray[np.float64]
#: Bytes a second between a device and pinned main memory: PCIe 4.0, as much of it as other links reach. Assumed.
PINNED = LINKS["pcie"] * REACHED
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


# ----------------------------------------
# What data sheets say of GPUs: the most that they do and move in a second.


TERA, GIGA, MIB = 1e12, 1e9, 2**20


@dataclass(frozen=True)
class Sheet:
    """A GPU's data sheet.

    Attributes:
        matmul16: dense 16-bit products summed in 32 bits, operations a second. matmul32: 32 bits, no tensor cores.
        memory: bytes a second. cache: bytes of the last cache. units: multiprocessors. clock: of the cores at most, in
            hertz. power: watts, its limit.
        source: where it is printed. Of these the L40S's sheet was read, and A100's and H100's rates in Bekman's table;
            the others still have to be held against the document.
        best16: what the best product of 16-bit matrices reached where somebody measured it (:data:`MEASURED`), else 0.
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


def _sheet(
    half: float, single: float, memory: float, cache: float, units: int, clock: float, power: float, source: str,
    best: float = 0.0,
) -> Sheet:  # fmt: skip
    """From teraflops, gigabytes a second, MiB, multiprocessors, megahertz and watts, as sheets print them."""
    return Sheet(
        half * TERA, single * TERA, memory * GIGA, cache * MIB, units, clock * 1e6, power, source, best * TERA
    )


#: Who measured the best products: A100 and H100 in Bekman's Machine Learning Engineering, table of maximum achievable
#: matmul FLOPS (github.com/stas00/ml-engineering, compute/accelerator); RTX 4090 in github.com/xytpai/gpuk.
MEASURED = "stas00/ml-engineering, compute/accelerator; xytpai/gpuk"
_TURING = "NVIDIA T4 data sheet; Turing architecture whitepaper"
_AMPERE = "NVIDIA A100 data sheet; A100 architecture whitepaper, table 3"
_GA106 = "worked out from the RTX 3090's 71 in NVIDIA's GA102 whitepaper: as many operations a unit and clock"
_ADA = "NVIDIA Ada architecture whitepaper, appendix A"
_HOPPER = "NVIDIA H100 and H200 data sheets (dense: half of what is printed with sparsity); H100 whitepaper, table 3"
_BLACKWELL = "NVIDIA RTX Blackwell whitepaper, appendix"
SHEETS: dict[str, Sheet] = {
    "t4": _sheet(65, 8.1, 320, 4, 40, 1590, 70, _TURING),
    "rtx-3060": _sheet(25.5, 12.7, 360, 3, 28, 1777, 170, _GA106),
    "rtx-4090": _sheet(165.2, 82.6, 1008, 72, 128, 2520, 450, _ADA, 163.5),
    "rtx-5090": _sheet(209.5, 104.8, 1792, 96, 170, 2407, 575, _BLACKWELL),
    "a10": _sheet(125, 31.2, 600, 6, 72, 1695, 150, "NVIDIA A10 data sheet; GA102 whitepaper"),
    "l4": _sheet(
        121, 30.3, 300, 48, 58, 2040, 72, "NVIDIA L4 data sheet (dense: half of it); Ada whitepaper"
    ),
    "rtx-6000-ada": _sheet(364.2, 91.1, 960, 96, 142, 2505, 300, _ADA),
    "l40s": _sheet(362.05, 91.6, 864, 96, 142, 2520, 350, "NVIDIA L40S data sheet; Ada whitepaper"),
    "a100-40": _sheet(312, 19.5, 1555, 40, 108, 1410, 400, _AMPERE, 271.2),
    "a100-80": _sheet(312, 19.5, 2039, 40, 108, 1410, 400, _AMPERE, 271.2),
    "h100": _sheet(989.4, 66.9, 3352, 50, 132, 1980, 700, _HOPPER, 794.5),
    "h200": _sheet(989.4, 66.9, 4800, 50, 132, 1980, 700, _HOPPER, 794.5),
}


def sheet(name: str) -> Sheet:
    """Raises :class:`UnknownName` for a GPU whose sheet is not here."""
    try:
        return SHEETS[name]
    except KeyError:
        raise UnknownName("GPU with a known speed", name, SHEETS, "gpu") from None
