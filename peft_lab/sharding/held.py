"""From a trace on several devices: what is there at the peak by module, and what was sent."""

from __future__ import annotations

from collections import Counter

from peft_lab.memory.account import parts_of
from peft_lab.memory.allocator import round_size
from peft_lab.memory.trace import EMPTY_CACHE, Trace
from peft_lab.memory.unroll import DEPTH, TEMPLATE
from peft_lab.sharding.result import Exchange, Held


def held_at_peak(trace: Trace) -> tuple[Held, ...]:
    """What is alive at the fullest moment, by module and part, largest first."""
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
    """What is sent in the last step, of so many passes: of the two last ones the first stands for all but the last.

    ``depth``: how many layers five stand for, if they do.
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
