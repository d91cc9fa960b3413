"""DDP's buckets at a model's own depth, in a trace that was unrolled from a few layers.

A bucket holds gradients of several layers, so it is no layer's and is not unrolled with them. How DDP fills its buckets
is asked of DDP itself, for all trained parameters of the deep model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from peft_lab.memory.account import walk
from peft_lab.memory.trace import Mark, Sent, Storage, Trace
from peft_lab.sharding.how import Sharding

if TYPE_CHECKING:
    import torch

_MIB, _USUAL = 2**20, 25


def bucket_sizes(trained: Sequence[torch.nn.Parameter], how: Sharding) -> list[int]:
    """Bytes of each bucket from the second step on, for parameters in the order of the model."""
    import torch.distributed as dist

    torch_dist: Any = dist  # DDP's own functions, which it exports to nobody
    came = list(trained)[::-1]
    usual = [torch_dist._DEFAULT_FIRST_BUCKET_BYTES, _USUAL * _MIB]
    limits = usual if how.bucket_mb is None else [int(how.bucket_mb * _MIB)] * 2
    found, _ = torch_dist._compute_bucket_assignment_by_size(came, limits)
    return [sum(came[i].numel() * came[i].element_size() for i in bucket) for bucket in found]


def deepen(trace: Trace, trained: Sequence[torch.nn.Parameter], how: Sharding) -> Trace:
    """The trace with the buckets of a model with these trained parameters in place of those of fewer layers."""
    first = _in_one(trained)
    later = bucket_sizes(trained, how)
    made = [i for i, storage in enumerate(trace.storages) if storage.part == "buffers"]
    born = {event: phase for event, phase, _ in walk(trace) if event >= 0}
    early = [i for i in made if born[i] == "load"]
    total = sum(trace.storages[i].nbytes for i in early)
    rebuilt = _adding_up(trace, [i for i in made if born[i] != "load"], total)
    storages = list(trace.storages)
    new: dict[int, list[int]] = {}
    for group, sizes in ((early, first), (rebuilt, later)):
        for index in group:
            new[index] = []
        for size in sizes if group else []:
            new[group[0]].append(len(storages))
            storages.append(Storage(size, "buffers"))
    at = 0
    events: list[int] = []
    marks: list[Mark] = []
    for position, event in enumerate(trace.events):
        while at < len(trace.marks) and trace.marks[at].at <= position:
            marks.append(replace(trace.marks[at], at=len(events)))
            at += 1
        index = event if event >= 0 else ~event
        instead = new.get(index, [index])
        events += instead if event >= 0 else [~i for i in instead]
    marks += [replace(mark, at=len(events)) for mark in trace.marks[at:]]
    kept = [sent for sent in trace.sent if sent.kind != "all-reduce"]
    turns = sorted({sent.turn for sent in trace.sent if sent.kind == "all-reduce"})
    sums = [Sent("all-reduce", size, "backward", None, turn) for turn in turns for size in later]
    return Trace(storages, events, marks, kept + sums)


def _in_one(trained: Sequence[torch.nn.Parameter]) -> list[int]:
    """Before the first step there is one bucket of each precision: in which order gradients come is not known yet."""
    sizes: dict[str, int] = {}
    for parameter in trained:
        name = str(parameter.dtype)
        sizes[name] = sizes.get(name, 0) + parameter.numel() * parameter.element_size()
    return list(sizes.values())


def _adding_up(trace: Trace, made: list[int], total: int) -> list[int]:
    """Of what DDP made before a forward pass, the buckets: together they hold what the first ones held."""
    for first in range(len(made)):
        held = 0
        for last in range(first, len(made)):
            held += trace.storages[made[last]].nbytes
            if held == total:
                return made[first : last + 1]
    return []
