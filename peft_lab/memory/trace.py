"""What a run did to memory, as plain data: see tracker.py, which records it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from peft_lab.memory.work import Stretch

#: An event that is neither birth nor end: torch.cuda.empty_cache(). Far below any ``~i``.
EMPTY_CACHE = -(2**62)


@dataclass(slots=True)
class Storage:
    """One untyped storage.

    Attributes:
        nbytes: size as requested; an allocator rounds it up.
        part: ``weights``, ``quantisation``, ``adapter`` or ``gradients`` where that is known from what it is;
            empty where it follows from when it lives (see parts.py).
        layer: index of the repeated layer in whose forward or backward it was made, or whose parameter it
            belongs to; None outside the layers.
        logits: made between the output head's input and the end of its backward.
        joined: how many tensors, one for each trained parameter, were stacked into it; 0 for all else. Its size
            grows with depth.
        stream: 0 for the stream that computes; the others are those that devices talk to each other on, and each has
            memory of its own in an allocator.
        module: whose tensor it is or in whose forward pass it was made, where that is known.
    """

    nbytes: int
    part: str = ""
    layer: int | None = None
    logits: bool = False
    joined: int = 0
    stream: int = 0
    module: str = ""


@dataclass(frozen=True, slots=True)
class Mark:
    """From event number ``at`` on: the phase, and the layer being computed (None outside the layers)."""

    at: int
    phase: str
    layer: int | None


@dataclass(frozen=True, slots=True)
class Sent:
    """What devices exchange in one operation: all of the tensor that is put together, summed up or handed out.

    Attributes:
        kind: ``all-gather``, ``reduce-scatter``, ``all-reduce``, ``broadcast`` ...
        nbytes: of the whole tensor, not of a device's share.
        layer: that computed in the run; of those that were unrolled it is in one alone.
        turn: how many forward passes had begun.
    """

    kind: str
    nbytes: int
    phase: str
    layer: int | None
    turn: int


@dataclass
class Trace:
    """Events in order: ``i`` is the birth of ``storages[i]``, ``~i`` its end, EMPTY_CACHE the cache's release.

    ``sent``: what devices exchange meanwhile. ``work``: what each does, stretch by stretch. ``aside``: bytes of the
    model that lie in main memory, by part and layer.
    """

    storages: list[Storage] = field(default_factory=list)
    events: list[int] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)
    sent: list[Sent] = field(default_factory=list)
    work: list[Stretch] = field(default_factory=list)
    aside: Counter[tuple[str, int | None]] = field(default_factory=Counter)
    walked: list[tuple[int, str, int | None]] = field(default_factory=list, repr=False, compare=False)
