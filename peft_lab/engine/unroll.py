"""Depth without running it: the trace of a few layers, unrolled to any number of them.

A stack of identical layers does the same thing once per layer, so a run with five of them (a first, three middle ones,
a last) shows all there is to see. The events of the middle layer are repeated, each copy referring to its own
storages where the original referred to its own and to its neighbours' where the original did; between the
copies nothing changes. The result is a trace like any other, so peaks, parts, and even what an allocator would
reserve come out as if all layers had been run.

Nothing is assumed: the middle layers are compared with each other event by event, and where they differ (layers of two
kinds, adapters in some layers only) there is no unrolling and the model is simulated at its own depth.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from peft_lab.engine.account import walk
from peft_lab.engine.tracker import EMPTY_CACHE, Mark, Storage, Trace

#: Layers to run: a first and a last, which have different neighbours, and three between, so that the middle one's
#: neighbours on both sides are middle ones too.
DEPTH = 5
#: The one that stands for all the middle ones.
TEMPLATE = 2
#: Bytes of one 64-bit number.
_NUMBER = 8

#: A storage by name: its layer (None outside) and its place in the order of births there.
_Name = tuple[int | None, int]


@dataclass
class _Run:
    """Consecutive events of one layer (None: outside the layers) with the phase of each."""

    layer: int | None
    events: list[tuple[int, str]]


def unroll(trace: Trace, depth: int, trained_per_layer: int) -> Trace | None:
    """Return the trace that ``depth`` layers would leave, from one of DEPTH layers.

    Args:
        trained_per_layer: trained parameters of one layer, by which lists over all of them grow.

    Returns:
        None when the layers are not alike, so that nothing can be said without running them. Prefix tuning is such a
        case: its one matrix for all layers comes apart outside them, in as many operations as there are layers.
    """
    if depth < DEPTH:
        return None
    names, members = _names(trace)
    if not _alike(trace, members):
        return None
    runs = _runs(trace)
    extra = depth - DEPTH
    out = _Unrolled(trace, names, extra, trained_per_layer)
    for index, run in enumerate(runs):
        if run.layer != TEMPLATE:
            places = [_position(run.layer, extra)]
        elif 0 < index < len(runs) - 1:
            places = _copies(runs[index - 1], run, runs[index + 1], names, extra)
        else:
            places = []
        if not places or not all(out.emit(run, place) for place in places):
            return None
    out.trace.work = [
        replace(stretch, times=1 + extra) if stretch.layer == TEMPLATE else stretch for stretch in trace.work
    ]
    out.trace.aside.update(
        {key: nbytes * (1 + extra if key[1] == TEMPLATE else 1) for key, nbytes in trace.aside.items()}
    )
    return out.trace


def _copies(before: _Run, run: _Run, after: _Run, names: list[_Name], extra: int) -> list[int | None]:
    """Return the layers that a stretch of the template represents, in the order of the run; none if only itself."""
    rising = [*range(TEMPLATE, TEMPLATE + extra + 1)]
    places = {(1, 3): rising, (3, 1): rising[::-1]}.get((before.layer or 0, after.layer or 0), [])
    # What runs between the layers and belongs to none, as ShadowPEFT's own small model, tells no order.
    if not places:
        return []
    # What all layers share ends with the last one that needs it, which may be the twin on one side.
    return [*places] if _same(run, after, names) or _same(run, before, names) else []


def _position(layer: int | None, extra: int) -> int | None:
    return layer if layer is None or layer <= TEMPLATE else layer + extra


def _names(trace: Trace) -> tuple[list[_Name], dict[int | None, list[int]]]:
    members: dict[int | None, list[int]] = {}
    names: list[_Name] = []
    for index, storage in enumerate(trace.storages):
        own = members.setdefault(storage.layer, [])
        names.append((storage.layer, len(own)))
        own.append(index)
    return names, members


def _alike(trace: Trace, members: dict[int | None, list[int]]) -> bool:
    """Return whether the three middle layers make the same storages in the same order."""

    def facts(layer: int) -> list[tuple[int, str, bool]]:
        storages = [trace.storages[index] for index in members.get(layer, [])]
        return [(storage.nbytes, storage.part, storage.logits) for storage in storages]

    middle = facts(TEMPLATE)
    return bool(middle) and facts(TEMPLATE - 1) == middle == facts(TEMPLATE + 1)


def _runs(trace: Trace) -> list[_Run]:
    runs: list[_Run] = []
    freed: list[tuple[int, int, str]] = []

    def add(layer: int | None, event: int, phase: str) -> None:
        if not runs or runs[-1].layer != layer:
            runs.append(_Run(layer, []))
        runs[-1].events.append((event, phase))

    def flush(to: int | None = None) -> None:
        # What an optimizer made for one parameter may end when it makes the same for the next one, which may be the
        # first of the next layer: it ends there.
        ends = {layer for layer, _, phase in freed if phase == "optimizer"}
        if to is not None and runs and runs[-1].layer == to and ends and ends <= {to - 1, to}:
            freed[:] = [(to, event, phase) for _, event, phase in freed]
        # Nothing happens between them, so their order has no meaning; a graph that falls apart mixes its layers.
        for layer, event, phase in sorted(freed, key=lambda item: -item[0]):
            add(layer, event, phase)
        freed.clear()

    left: int | None = None
    before: int | None = None
    for event, phase, computing in walk(trace):
        if before is not None and computing is None:
            left = before
        before = computing
        layer = computing
        if layer is None and event != EMPTY_CACHE:
            layer = trace.storages[event if event >= 0 else ~event].layer
            # A layer's input ends when its output has taken its place, just after the layer returned.
            if event < 0 and left is not None and layer is not None and abs(layer - left) <= 1:
                layer = left
            elif event < 0 and layer is not None:
                left = None
                freed.append((layer, event, phase))
                continue
            else:
                left = None
        flush(layer if event >= 0 else None)
        add(layer, event, phase)
    flush()
    return runs


def _same(run: _Run, twin: _Run, names: list[_Name]) -> bool:
    """Return whether two middle layers' runs do the same, each seen from its own place.

    A reference to the first or the last layer is compared by its distance only: those layers may number theirs
    otherwise.
    """

    def seen_from(own: _Run) -> list[tuple[bool, str, int | None, int]]:
        assert own.layer is not None
        view = []
        for event, phase in own.events:
            layer, place = names[event if event >= 0 else ~event]
            distance = None if layer is None else layer - own.layer
            view.append((event >= 0, phase, distance, -1 if layer in (0, DEPTH - 1) else place))
        return view

    left, right = seen_from(run), seen_from(twin)
    if len(left) != len(right):
        return False
    return all(
        a[:3] == b[:3] and (a[3] == b[3] or -1 in (a[3], b[3])) for a, b in zip(left, right, strict=True)
    )


class _Unrolled:
    """The trace being made. A storage's place counts the layers of the deep model."""

    def __init__(self, trace: Trace, names: list[_Name], extra: int, per_layer: int) -> None:
        self.trace = Trace(sent=trace.sent)
        self._source = trace
        self._names = names
        self._extra = extra
        self._per_layer = per_layer
        self._born: dict[_Name, int] = {}
        self._at: tuple[str, int | None] = ("", None)

    def emit(self, run: _Run, place: int | None) -> bool:
        """Append a run as the layer at ``place``; False when it reaches further than its neighbours."""
        events, storages, born, names = self.trace.events, self.trace.storages, self._born, self._names
        own = run.layer
        moved = 0 if place is None or own is None else place - own
        for event, phase in run.events:
            if (phase, place) != self._at:
                self._at = (phase, place)
                self.trace.marks.append(Mark(len(events), phase, place))
            if event == EMPTY_CACHE:
                events.append(event)
                continue
            index = event if event >= 0 else ~event
            layer, number = names[index]
            if layer is not None:
                if own is None or place is None or not -1 <= layer - own <= 1:
                    return False
                layer += moved
            name = (layer, number)
            if event >= 0:
                born[name] = len(storages)
                events.append(len(storages))
                storages.append(self._copy(index, layer))
            else:
                at = born.pop(name, None)
                if at is None:
                    return False
                events.append(~at)
        return True

    def _copy(self, index: int, layer: int | None) -> Storage:
        made = self._source.storages[index]
        nbytes = made.nbytes
        if made.joined:
            nbytes += nbytes // made.joined * self._per_layer * self._extra
        return Storage(nbytes, made.part, layer, made.logits, made.joined, made.stream, made.module)


def without_scalars(trace: Trace) -> Trace:
    """Return the trace without single numbers kept outside the layers, one per layer (a sliding cache's fill level).

    An allocator gives each 512 bytes, and they alone keep some models from being unrolled.
    """
    gone = {
        i for i, s in enumerate(trace.storages) if s.layer is None and 0 < s.nbytes <= _NUMBER and not s.part
    }
    at = 0
    moved: list[Mark] = []
    events: list[int] = []
    for position, event in enumerate(trace.events):
        while at < len(trace.marks) and trace.marks[at].at <= position:
            moved.append(replace(trace.marks[at], at=len(events)))
            at += 1
        if (event if event >= 0 else ~event) not in gone:
            events.append(event)
    moved += [replace(mark, at=len(events)) for mark in trace.marks[at:]]
    return Trace(trace.storages, events, moved, trace.sent, trace.work, trace.aside)
