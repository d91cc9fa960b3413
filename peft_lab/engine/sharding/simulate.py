"""Simulate a step on several devices as the fullest of them sees it, with published figures. Imports torch inside; call
it in the inspector process (:mod:`peft_lab.core.inspector`)."""

from __future__ import annotations

import gc
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib import import_module
from typing import Any

from peft_lab.core.errors import Unsupported
from peft_lab.core.later import torch
from peft_lab.engine import account, over_a_run
from peft_lab.engine.account import DEPTH, PARTS, TEMPLATE, MemoryPoint, block_sizes, parts_of
from peft_lab.engine.build import Blueprint
from peft_lab.engine.kernels import REPLACED
from peft_lab.engine.request import (
    MIXED,
    OverRun,
    Reserved,
    StepRequest,
    StepSetting,
    largest,
    peak_dict,
    timeline_dicts,
)
from peft_lab.engine.running import Devices, Schedule, Stage, run
from peft_lab.engine.sharding import tensor, watch, wrap
from peft_lab.engine.sharding.watch import Aside, aside, deepen
from peft_lab.engine.sharding.wrap import Sharding, sharding_notes
from peft_lab.engine.simulate import blueprint_of, check, refusing
from peft_lab.engine.tracker import EMPTY_CACHE, MemoryRecorder, Trace
from peft_lab.engine.work import Work, steps_of

#: The parts of a step on one device, and also weights gathered from all devices, gradients not yet reduced and sharded,
#: and communication buffers.
SHARDED_PARTS = (*PARTS, "gathered", "unreduced", "buffers")


@dataclass(frozen=True)
class Held:
    """The tensors (``count``) of one part and ``module`` that are alive at the peak: its path with ``*`` for the
    layer's number; empty if unknown (tensors that the backward pass creates)."""

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
        run: what runs over the setting's lengths reserve, if it has any.
    """

    model: str
    method: str
    sharding: Sharding
    peak_bytes: int
    reserved_bytes: int | None
    parts: dict[str, int]
    peak: tuple[Held, ...]
    points: tuple[MemoryPoint, ...]
    exchanges: tuple[Exchange, ...]
    host_bytes: int = 0
    notes: tuple[str, ...] = ()
    unrolled: bool = False
    seconds: float = 0.0
    source: str = "simulated"
    work: Work = ()
    aside: tuple[Aside, ...] = ()
    run: OverRun | None = None

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
        return {
            **peak_dict(self),
            "detail": self.parts,
            "sharding": asdict(self.sharding),
            "at_peak": [asdict(held) for held in self.peak],
            "exchanges": [asdict(exchange) for exchange in self.exchanges],
            "timeline": timeline_dicts(self.points),
            "host_bytes": self.host_bytes,
            "notes": list(self.notes),
            "source": self.source,
            "seconds": self.seconds,
        }


# ----------------------------------------
# From a trace on several devices: the tensors at the peak by module, and the exchanges.


def held_at_peak(trace: Trace) -> tuple[Held, ...]:
    """Return the tensors alive at the peak, by module and part, largest first."""
    sizes = block_sizes(trace)
    total = best = at = 0
    for position, event in enumerate(trace.events):
        if event != EMPTY_CACHE:
            total += sizes[event] if event >= 0 else -sizes[~event]
            best, at = (total, position) if total > best else (best, at)
    alive = dict.fromkeys(event for event in trace.events[: at + 1] if event >= 0)
    for event in trace.events[: at + 1]:
        if EMPTY_CACHE < event < 0:
            del alive[~event]
    parts, held = parts_of(trace), Counter[tuple[str, str]]()
    count = Counter((trace.storages[index].module, parts[index]) for index in alive)
    for index in alive:
        held[trace.storages[index].module, parts[index]] += sizes[index]
    return tuple(Held(*key, size, count[key]) for key, size in held.most_common() if size)


def exchanged(trace: Trace, depth: int | None, passes: int = 1) -> tuple[Exchange, ...]:
    """Return the exchanges of the last step. Of its ``passes`` the trace's second-to-last represents all but the last.
    ``depth``: the number of layers that five represent; None if all ran."""
    last = max((sent.turn for sent in trace.sent), default=0)
    count: Counter[str] = Counter()
    nbytes: Counter[str] = Counter()
    for sent in trace.sent:
        times = {last: 1, last - 1: passes - 1}.get(sent.turn, 0)
        times *= 1 if depth is None or sent.layer != TEMPLATE else depth - DEPTH + 1
        count[sent.kind] += times
        nbytes[sent.kind] += sent.nbytes * times
    return tuple(Exchange(kind, count[kind], nbytes[kind]) for kind in sorted(count) if count[kind])


# ----------------------------------------
# Stand-ins for the other devices: a process group without other members, and streams for the meta device.
#
# torch's distributed code asks a module named after the device (``torch.cuda``) for streams and events. Tensors
# without values are on the device ``meta``, which has no such module: :class:`Streams` replaces it meanwhile. It also
# sets the recorder's stream, because an allocator serves each stream from a pool of its own.


META_PARAMETERS = REPLACED["meta parameters"]


class _Stream:
    """A stream, or an event that never waits: tensors without values are ready at once."""

    def __init__(self, number: int = 0) -> None:
        self.number = number

    def record_event(self, *_: Any) -> _Stream:
        return _Stream()

    def wait_stream(self, *_: Any) -> None:
        pass

    wait_event = record = wait = synchronize = wait_stream


class Streams:
    """Stand-in for ``torch.cuda`` on the meta device."""

    Event = _Stream

    def __init__(self, recorder: MemoryRecorder) -> None:
        self._recorder = recorder
        self._streams = [_Stream(0)]

    def Stream(self, **_: Any) -> _Stream:
        """Create a stream."""
        self._streams.append(_Stream(len(self._streams)))
        return self._streams[-1]

    @contextmanager
    def stream(self, stream: _Stream) -> Iterator[None]:
        """Make this stream the current one inside the context, for what is allocated there."""
        before, self._recorder.stream = self._recorder.stream, stream.number
        try:
            yield
        finally:
            self._recorder.stream = before

    def current_stream(self, *_: Any) -> _Stream:
        """Return the current stream."""
        return self._streams[self._recorder.stream]

    def current_device(self) -> int:
        """Return 0, this device."""
        return 0

    def device_count(self) -> int:
        """Return 8, the devices in one machine, from which torch estimates the cost of an exchange."""
        return 8


@contextmanager
def process_group(devices: int, rank: int = 0) -> Iterator[Any]:
    """Join a group as the process of this rank, without the others; yield its mesh. Raises ValueError: it is in one
    already."""
    import torch.distributed as dist
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor.debug import _clear_sharding_prop_cache
    from torch.testing._internal.distributed.fake_pg import FakeStore

    # torch's cache of shard shapes assumes that a process never changes its rank
    forget = _clear_sharding_prop_cache if rank else lambda: None
    dist.init_process_group("fake", store=FakeStore(), rank=rank, world_size=devices)
    forget()
    try:
        yield init_device_mesh("meta", (devices,))
    finally:
        dist.destroy_process_group()
        forget()


@contextmanager
def meta_streams(recorder: MemoryRecorder) -> Iterator[None]:
    """Give the meta device streams, and let FSDP2 accept its parameters."""
    import torch  # itself: it gets an attribute

    torch.meta = Streams(recorder)  # type: ignore[attr-defined]
    try:
        with META_PARAMETERS.by(lambda group: None):
            yield
    finally:
        del torch.meta  # type: ignore[attr-defined]


class _Several(Devices):
    """The devices of ``how``, of which only the one of this rank exists."""

    def __init__(self, how: Sharding, rank: int = 0) -> None:
        super().__init__()
        self.how, self.rank = how, rank
        # ZeRO-1 assigns states parameter by parameter, so a device has those of some layers and not of others.
        self.alike = how.kind != "zero1"
        self._recorder: MemoryRecorder | None = None
        self._mesh: Any = None
        self._named: ExitStack | None = None

    @contextmanager
    def around(self, recorder: MemoryRecorder) -> Iterator[None]:
        self._recorder = recorder
        if self.how.kind == "zero1":
            # It compiles functions when it is imported, which fails once the stand-ins have replaced torch's functions.
            import_module("torch.distributed.optim")
        with ExitStack() as stack:
            self._mesh = stack.enter_context(process_group(self.how.devices, self.rank))
            stack.enter_context(meta_streams(recorder))
            stack.enter_context(watch.following(recorder))
            self.watched = watch.watched(recorder)
            self._named = stack
            yield

    def optimizer(self, name: str, model: torch.nn.Module, foreach: bool) -> Any:
        if self.how.offload:
            return wrap.Hosted(name, list(model.parameters()))
        if self.how.kind == "zero1":
            return wrap.divided_moments(name, list(model.parameters()), foreach)
        if reason := wrap.why_not(name, self.how.runs):
            raise Unsupported(reason, "optimizer")
        return super().optimizer(name, model, foreach)

    def split(self, model: torch.nn.Module, layers: Sequence[torch.nn.Module]) -> torch.nn.Module:
        recorder = self._recorder
        assert recorder is not None and self._named is not None
        if self.how.runs == "ddp":
            model = wrap.replicate(model, self.how, recorder)
        elif self.how.runs == "tp":
            model = tensor.split_matrices(model, self._mesh, "meta")
        else:
            model = wrap.shard(model, layers, self._mesh, self.how, recorder)
        self._named.enter_context(watch.naming(model, recorder))
        return model


def schedule(how: Sharding) -> Schedule:
    """Return a schedule of two optimizer steps. Of several passes per step two run: the first represents the rest."""

    def steps(stage: Stage) -> None:
        model = stage.subject.model
        watch.own(model, stage.recorder)
        model.train()
        for _ in range(2):
            stage.update(how.accumulate, lambda: wrap.apart(model, how))

    return steps


def simulate_blueprint(
    blueprint: Blueprint, setting: StepSetting, how: Sharding, model: str, method: str
) -> ShardedResult:
    """Simulate a blueprint under a setting, on several devices. Raises BadInput: settings out of range.
    SimulationError: the step cannot be simulated."""
    start = time.perf_counter()
    setting.check()
    how.check()
    gc.freeze()
    try:
        found = [
            run(blueprint, setting, schedule(how), _Several(how, rank) if how.runs != "none" else None)
            for rank in _unlike(blueprint, how)
        ]
    finally:
        gc.unfreeze()
    seen = [account.timeline(trace, SHARDED_PARTS) for trace, _, _ in found]
    fullest = max(range(len(found)), key=lambda index: largest(seen[index]).nbytes)
    trace, host, unrolled = found[fullest]
    points = seen[fullest]
    trained = "weights" if blueprint.method is None else "adapter"
    depth = blueprint.depth // blueprint.period if unrolled else None
    waits = aside(trace, how, trained, wrap.MOMENTS.get(setting.optimizer, 0), depth)
    if unrolled and how.runs == "ddp":
        trace = deepen(trace, [p for p in blueprint.build().parameters() if p.requires_grad], how)
        points = account.timeline(trace, SHARDED_PARTS)
    top = largest(points)
    gpu = setting.device == "cuda"
    reserved = account.reserve(trace, setting.capability, setting.capacity) if gpu else None
    last = next((i for i in range(len(points) - 1, -1, -1) if points[i].phase == "zero_grad"), 0)
    return ShardedResult(
        model=model,
        method=method,
        sharding=how,
        peak_bytes=top.nbytes,
        reserved_bytes=reserved,
        parts=top.parts,
        peak=held_at_peak(trace),
        points=tuple(points[last:]),
        exchanges=exchanged(trace, depth, how.accumulate),
        host_bytes=host,
        notes=sharding_notes(how),
        unrolled=unrolled,
        seconds=time.perf_counter() - start,
        work=steps_of(trace.work)[-1] if how.runs == "tp" else (),
        aside=waits,
        run=_over_run(blueprint, setting, how) if setting.lengths else None,
    )


def _over_run(blueprint: Blueprint, setting: StepSetting, how: Sharding, orders: int = 0) -> OverRun:
    """Return what the first device reserves over runs; arguments and errors as of
    :func:`peft_lab.engine.over_a_run.simulate`. DDP lays its buckets out anew after the first step."""
    packs = not orders and over_a_run.packs(blueprint)
    return over_a_run.simulate(
        partial(traced, blueprint, how), setting, packs=packs, orders=orders, first=1 + (how.runs == "ddp")
    )


def traced(blueprint: Blueprint, how: Sharding, schedule: Schedule, setting: StepSetting) -> Trace:
    """Return the trace of a schedule of steps on the first device."""

    def owned(stage: Stage) -> None:
        watch.own(stage.subject.model, stage.recorder)
        schedule(stage)

    trace, _, unrolled = run(blueprint, setting, owned, _Several(how))
    if unrolled and how.runs == "ddp":
        return deepen(trace, [p for p in blueprint.build().parameters() if p.requires_grad], how)
    return trace


def _unlike(blueprint: Blueprint, how: Sharding) -> tuple[int, ...]:
    """Return the ranks that may be the fullest: the first, which has the larger parts, and if a vocabulary is split
    unevenly the last, whose smaller part needs a larger copy of its logits before all are gathered."""
    vocabulary = getattr(blueprint.config.get_text_config(), "vocab_size", 0) if how.runs == "tp" else 0
    return (0, how.devices - 1) if vocabulary % how.devices else (0,)


def simulate_sharded(request: StepRequest, how: Sharding) -> ShardedResult:
    """Simulate a step of one of the lab's methods on several devices; the request's batch is that of one device. Raises
    BadInput: unknown names or values out of range. Unsupported, SimulationError: the settings do not work together or
    the step cannot be simulated, with the reason."""
    entry, spec = check(request)
    blueprint, setting, how = _prepared(request, how)
    with refusing(entry, spec):
        return simulate_blueprint(blueprint, setting, how, entry.name, spec.slug)


def reserved_over_run(request: StepRequest, how: Sharding, orders: int) -> Reserved:
    """Return what runs over the setting's lengths reserve on each device. Raises the errors of
    :func:`simulate_sharded`."""
    entry, spec = check(request)
    blueprint, setting, how = _prepared(request, how)
    with refusing(entry, spec):
        return _over_run(blueprint, setting, how, orders).reserved


def _prepared(request: StepRequest, how: Sharding) -> tuple[Blueprint, StepSetting, Sharding]:
    """Return the blueprint of a checked request, its setting, and how the step is split."""
    how.check()
    setting = request.setting
    if how.runs == "tp":
        entry, spec = check(request)
        values = spec.require(entry.shape, request.values)
        if reason := tensor.why_not(entry.shape, spec, values, how.devices):
            raise Unsupported(reason, "sharding")
        if setting.compile:
            raise Unsupported("torch.compile is not simulated with split matrices.", "compile")
        if setting.loss not in ("whole", "trainer"):
            raise Unsupported(
                "A chunked loss reads the whole output head, but each device has only a part of the head. Choose the "
                "usual loss.",
                "loss",
            )
    if how.runs != "none" and setting.updates:
        raise Unsupported("Updates during the backward pass are simulated only on one device.", "updates")
    how = replace(how, accumulate=max(how.accumulate, setting.accumulate))
    if setting.lengths and how.accumulate > 1:
        raise Unsupported(
            "A run over rows of different lengths is not simulated on several devices with several passes per step.",
            "accumulate",
        )
    if setting.precision == MIXED and how.runs == "fsdp2":  # its own policy casts, in place of autocast
        how = replace(how, compute="bfloat16", reduce="float32")
        setting = replace(setting, precision="fp32")
    return blueprint_of(request), setting, how
