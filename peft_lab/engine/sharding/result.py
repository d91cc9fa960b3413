"""The result of simulating a step on several devices, as plain data."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

from peft_lab.engine.account import PARTS, Point, parts_of, round_size
from peft_lab.engine.request import OWN_NAMES
from peft_lab.engine.sharding.how import Sharding
from peft_lab.engine.sharding.watch import Aside
from peft_lab.engine.tracker import EMPTY_CACHE, Trace
from peft_lab.engine.unroll import DEPTH, TEMPLATE
from peft_lab.engine.work import Work

#: The parts of a step on one device, and also weights gathered from all devices, gradients not yet reduced and sharded,
#: and communication buffers.
SHARDED_PARTS = (*PARTS, "gathered", "unreduced", "buffers")


@dataclass(frozen=True)
class Held:
    """The tensors of one part and module that are alive at the peak.

    Attributes:
        module: its path in the model with ``*`` for the layer's number; empty if unknown (tensors that the backward
            pass creates).
        count: number of tensors.
    """

    module: str
    part: str
    nbytes: int
    count: int


@dataclass(frozen=True)
class Exchange:
    """The exchanges of one kind in one step: their number, and the bytes of the whole tensors, on each device."""

    kind: str
    count: int
    nbytes: int


@dataclass(frozen=True)
class ShardedResult:
    """One device's memory in a step on several. All devices have the same, except where sizes do not divide evenly.

    Attributes:
        peak_bytes: the most bytes of tensors alive at once. reserved_bytes: what PyTorch's CUDA allocator would hold
            for them (communication streams have pools of their own); ``None`` without that allocator.
        parts: ``peak_bytes`` by purpose (:data:`SHARDED_PARTS`), all keys present.
        peak: the same by module, largest first.
        points: the last step, stretch by stretch. exchanges: what is sent in it.
        host_bytes: bytes in main memory, for each device.
        notes: what the figures leave out.
        unrolled: whether five layers represented all. seconds: the simulation's duration, without imports.
        work: one device's work in the last pass and the step after it, if that differs from the work of a single device
            (with tensor parallelism); else empty.
        aside: phase by phase, what waits in main memory and is copied; empty if nothing does.
    """

    model: str
    method: str
    sharding: Sharding
    peak_bytes: int
    reserved_bytes: int | None
    parts: dict[str, int]
    peak: tuple[Held, ...]
    points: tuple[Point, ...]
    exchanges: tuple[Exchange, ...]
    host_bytes: int = 0
    notes: tuple[str, ...] = ()
    unrolled: bool = False
    seconds: float = 0.0
    source: str = "simulated"
    work: Work = ()
    aside: tuple[Aside, ...] = ()

    @property
    def sent_bytes(self) -> float:
        """Return the bytes one device sends in a step. On a ring of w devices each sends (w - 1)/w of what is gathered
        or scattered, and twice that of what is all-reduced (Thakur et al. 2005)."""
        share = (self.sharding.devices - 1) / self.sharding.devices
        return sum(one.nbytes * share * (2 if one.kind == "all-reduce" else 1) for one in self.exchanges)

    @property
    def copied_bytes(self) -> float:
        """Return the bytes one device copies in a step if shards wait in main memory: its shard of all that is
        gathered, to the device, and of all that is scattered, back."""
        if not self.sharding.offload:
            return 0.0
        own = (one.nbytes for one in self.exchanges if one.kind in ("all-gather", "reduce-scatter"))
        return sum(own) / self.sharding.devices

    def as_dict(self) -> dict[str, Any]:
        """Return the command line's JSON: that of one device, and what is sent, held at the peak and left out."""
        coarse = {name: self.parts[name] for name in OWN_NAMES}
        coarse["other"] = self.peak_bytes - sum(coarse.values())
        return {
            "model": self.model,
            "method": self.method,
            "peak_bytes": self.peak_bytes,
            "reserved_bytes": self.reserved_bytes,
            "parts": coarse,
            "detail": self.parts,
            "sharding": asdict(self.sharding),
            "at_peak": [asdict(held) for held in self.peak],
            "exchanges": [asdict(exchange) for exchange in self.exchanges],
            "timeline": [
                {"phase": point.phase, "bytes": point.nbytes, "layer": point.layer, "parts": point.parts}
                for point in self.points
            ],
            "host_bytes": self.host_bytes,
            "notes": list(self.notes),
            "source": self.source,
            "seconds": self.seconds,
        }


# ----------------------------------------
# From a trace on several devices: the tensors at the peak by module, and the exchanges.


def held_at_peak(trace: Trace) -> tuple[Held, ...]:
    """Return the tensors alive at the peak, by module and part, largest first."""
    sizes = [round_size(storage.nbytes) if storage.nbytes else 0 for storage in trace.storages]
    total = best = at = 0
    for position, event in enumerate(trace.events):
        if event >= 0:
            total += sizes[event]
            if total > best:
                best, at = total, position
        elif event != EMPTY_CACHE:
            total -= sizes[~event]
    alive: set[int] = set()
    for event in trace.events[: at + 1]:
        if event >= 0:
            alive.add(event)
        elif event != EMPTY_CACHE:
            alive.discard(~event)
    parts = parts_of(trace)
    nbytes: Counter[tuple[str, str]] = Counter()
    count: Counter[tuple[str, str]] = Counter()
    for index in alive:
        key = (trace.storages[index].module, parts[index])
        nbytes[key] += sizes[index]
        count[key] += 1
    return tuple(Held(*key, size, count[key]) for key, size in nbytes.most_common() if size)


def exchanged(trace: Trace, depth: int | None, passes: int = 1) -> tuple[Exchange, ...]:
    """Return the exchanges of the last step. Of its ``passes`` the trace's second-to-last represents all but the last.

    ``depth``: the number of layers that five represent; None if all ran.
    """
    last = max((sent.turn for sent in trace.sent), default=0)
    count: Counter[str] = Counter()
    nbytes: Counter[str] = Counter()
    for sent in trace.sent:
        times = {last: 1, last - 1: passes - 1}.get(sent.turn, 0)
        times *= 1 if depth is None or sent.layer != TEMPLATE else depth - DEPTH + 1
        count[sent.kind] += times
        nbytes[sent.kind] += sent.nbytes * times
    return tuple(Exchange(kind, count[kind], nbytes[kind]) for kind in sorted(count) if count[kind])
