"""Report to a recorder what a step on several devices does, with values or without: what is sent, which storages are
emptied and filled in place, and which module a tensor belongs to."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from peft_lab.core.later import torch
from peft_lab.engine import account
from peft_lab.engine.account import DEPTH, TEMPLATE, walk
from peft_lab.engine.kernels import REPLACED
from peft_lab.engine.sharding.wrap import Sharding
from peft_lab.engine.tracker import EMPTY_CACHE, Mark, MemoryRecorder, Sent, Storage, Trace, Watched
from peft_lab.engine.work import Stretch

FREES = REPLACED["gathered freed"]
FILLS = REPLACED["gathered filled"]
PLANS = REPLACED["sharding plans"]
_NUMBER = re.compile(r"\.\d+(?=\.)")
#: The prefixes of PEFT's and DDP's wrappers.
_AROUND = re.compile(r"^(module\.)?(base_model\.model\.)?")


def short(path: str) -> str:
    """Return a module's path without the wrappers around the model, and with ``*`` for layer numbers."""
    return _NUMBER.sub(".*", _AROUND.sub("", path))


@contextmanager
def following(recorder: MemoryRecorder) -> Iterator[None]:
    """Report storages that FSDP2 empties and fills in place to the recorder; hide operations that torch only tries."""
    from torch.utils._python_dispatch import _disable_current_modes

    free, fill, plan = FREES.original(), FILLS.original(), PLANS.original()

    def name(parameter: Any) -> str:
        return short(str(parameter._param_fqn or "").rpartition(".")[0])

    def freed(parameter: Any) -> None:
        gathered = [tensor for tensor in parameter.all_gather_outputs if tensor.untyped_storage().nbytes()]
        for tensor in gathered:
            if (made := recorder.storage(tensor)) is not None:
                made.part, made.module = "gathered", name(parameter)
        free(parameter)
        for tensor in gathered:
            recorder.emptied(tensor)

    def filled(parameter: Any) -> None:
        empty = [tensor for tensor in parameter.all_gather_outputs if not tensor.untyped_storage().nbytes()]
        fill(parameter)
        for tensor in empty:
            recorder.refilled(tensor, "gathered", name(parameter))

    def planned(*args: Any, **kwargs: Any) -> Any:
        with _disable_current_modes():
            return plan(*args, **kwargs)

    with FREES.by(freed), FILLS.by(filled), PLANS.by(planned):
        yield


def watched(recorder: MemoryRecorder) -> Watched:
    """Return, by operation, the functions that report exchanges and unreduced gradients to the recorder."""
    import torch.distributed._tools.fake_collectives
    from torch.distributed.fsdp import fully_shard  # defines the operations of its own

    assert fully_shard is not None
    direct, functional = torch.ops.c10d, torch.ops._c10d_functional

    def sent(kind: str, which: int) -> Callable[..., None]:
        """Return a function that reports an exchange. ``which``: the argument with the whole tensor; -1: the result."""

        def note(result: Any, *args: Any, **_: Any) -> None:
            recorder.sends(kind, _bytes(result if which < 0 else args[which]))

        return note

    def cut(result: Any, gradients: Sequence[torch.Tensor], *_: Any, **__: Any) -> None:
        for gradient in gradients:
            made = recorder.storage(gradient)
            if made is not None and not made.part:
                made.part = "unreduced"

    return {
        direct._allgather_base_.default: sent("all-gather", 0),
        direct._reduce_scatter_base_.default: sent("reduce-scatter", 1),
        direct.allreduce_.default: sent("all-reduce", 0),
        direct.broadcast_.default: sent("broadcast", 0),
        functional.all_reduce.default: sent("all-reduce", 0),
        functional.all_gather_into_tensor.default: sent("all-gather", -1),
        functional.reduce_scatter_tensor.default: sent("reduce-scatter", 0),
        torch.ops.fsdp.chunk_cat.default: cut,
    }


def _bytes(value: Any) -> int:
    tensors = value if isinstance(value, list | tuple) else [value]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


@contextmanager
def naming(model: torch.nn.Module, recorder: MemoryRecorder) -> Iterator[None]:
    """Label tensors created in a module's forward pass with its name."""
    handles: list[Any] = []

    def hooks(name: str) -> tuple[Callable[..., None], Callable[..., None]]:
        outer: list[str] = []

        def enters(*_: Any) -> None:
            outer.append(recorder.module)
            recorder.module = name

        def leaves(*_: Any) -> None:
            recorder.module = outer.pop()

        return enters, leaves

    for path, module in model.named_modules():
        enters, leaves = hooks(short(path))
        handles.append(module.register_forward_pre_hook(enters, prepend=True))
        handles.append(module.register_forward_hook(leaves))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def own(model: torch.nn.Module, recorder: MemoryRecorder) -> None:
    """Label parameters and buffers with the names of their modules."""
    for path, module in model.named_modules():
        for tensor in (*module.parameters(recurse=False), *module.buffers(recurse=False)):
            if (made := recorder.storage(tensor)) is not None:
                made.module = short(path)


# ----------------------------------------
# DDP's buckets at a model's own depth, in a trace that was unrolled from a few layers.
#
# A bucket holds gradients of several layers, so it belongs to none and is not unrolled with them. DDP's own function
# assigns all trained parameters of the deep model to buckets.


_MIB, _USUAL = 2**20, 25


def bucket_sizes(trained: Sequence[torch.nn.Parameter], how: Sharding) -> list[int]:
    """Return the bytes of each bucket from the second step on, for parameters in the order of the model."""
    import torch.distributed as dist

    torch_dist: Any = dist  # DDP's own functions, which are not public
    came = list(trained)[::-1]
    usual = [torch_dist._DEFAULT_FIRST_BUCKET_BYTES, _USUAL * _MIB]
    limits = usual if how.bucket_mb is None else [int(how.bucket_mb * _MIB)] * 2
    found, _ = torch_dist._compute_bucket_assignment_by_size(came, limits)
    return [sum(came[i].numel() * came[i].element_size() for i in bucket) for bucket in found]


def deepen(trace: Trace, trained: Sequence[torch.nn.Parameter], how: Sharding) -> Trace:
    """Return the trace, without its work, with the buckets that DDP makes for these parameters instead of its own."""
    one = Counter[Any]()  # before the first step a bucket per precision: gradients have no order yet
    for parameter in trained:
        one[parameter.dtype] += parameter.nbytes
    first, later = list(one.values()), bucket_sizes(trained, how)
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


def _adding_up(trace: Trace, made: list[int], total: int) -> list[int]:
    """Return the gradient buckets DDP built before a forward pass: those of ``made`` that sum to ``total`` bytes."""
    for first in range(len(made)):
        held = 0
        for last in range(first, len(made)):
            held += trace.storages[made[last]].nbytes
            if held == total:
                return made[first : last + 1]
    return []


# ----------------------------------------
# The part of a step that is not on its devices: what waits in main memory, and what is copied there and back.


@dataclass(frozen=True)
class Aside:
    """The main memory of one phase of the last step, for one device.

    Attributes:
        phase: ``zero_grad``, ``forward``, ``backward`` or ``optimizer``.
        held: the most bytes in main memory, by part: ``weights``, ``adapter``, ``gradients``, ``optimizer``,
            ``activations``.
        brought: bytes copied to the device. taken: bytes copied to main memory.
        layers: the copied activations' bytes that belong to the repeated layers.
        here: bytes on the device by part, for a phase in which nothing is allocated or freed there; else empty.
    """

    phase: str
    held: Mapping[str, int]
    brought: int = 0
    taken: int = 0
    layers: int = 0
    here: Mapping[str, int] = field(default_factory=dict)


def aside(trace: Trace, how: Sharding, trained: str, moments: int, depth: int | None) -> tuple[Aside, ...]:
    """Return the main memory of each phase; empty if nothing is kept there and every phase allocates or frees tensors.

    FSDP2's offloaded parameters are recorded when the model is placed on its device; their gradients and each moment
    are as large. Copies are read from the traced operations, except for gradients: each device takes its own shard of
    what was reduced (:attr:`peft_lab.engine.sharding.simulate.ShardedResult.copied_bytes`).

    Args:
        trained: the part that learns, ``weights`` or ``adapter``. moments: numbers that the optimizer keeps for each
            trained one. depth: the number of layers that five represent; None if all ran.
    """
    step, quiet = _last(trace.work), _quiet(trace)
    if how.offload:
        found = _split(trace, step, how, trained, moments, depth)
    else:
        found = _activations(step)
    if not quiet and not any(one.held for one in found):
        return ()
    return tuple(replace(one, here=quiet.get(one.phase, {})) for one in found)


def _activations(step: list[Stretch]) -> tuple[Aside, ...]:
    """Return the phases if what the backward pass needs waits in main memory, or nothing does."""
    away = _copied(step, "forward", "offload")
    held = {"activations": away} if away else {}
    # Counted as they come back, inside their layer. With transformers 5.20 they leave before their layer begins.
    layers = _copied(step, "backward", "offload", inside=True)
    return (
        Aside("zero_grad", {}),
        Aside("forward", held, taken=away, layers=layers),
        Aside("backward", held, brought=_copied(step, "backward", "offload"), layers=layers),
        Aside("optimizer", {}),
    )


def _split(
    trace: Trace, step: list[Stretch], how: Sharding, trained: str, moments: int, depth: int | None
) -> tuple[Aside, ...]:
    """Return the phases if each device's shards wait in main memory."""
    model = Counter[str]()
    for (part, _), nbytes in trace.aside.items():
        model[part] += nbytes
    learns = model[trained]
    still = {**model, "optimizer": moments * learns}
    learned = {**still, "gradients": learns}
    last = max((sent.turn for sent in trace.sent), default=0)
    summed = sum(
        sent.nbytes * (1 if depth is None or sent.layer != TEMPLATE else depth - DEPTH + 1)
        for sent in trace.sent
        if sent.turn == last and sent.kind == "reduce-scatter"
    )
    there = {phase: _copied(step, phase, "host") for phase in ("forward", "backward")}
    return (
        Aside("zero_grad", still),
        Aside("forward", still, brought=there["forward"]),
        Aside("backward", learned, there["backward"], summed // how.devices),
        Aside("optimizer", learned),
    )


def _quiet(trace: Trace) -> dict[str, dict[str, int]]:
    """Return the bytes on the device by part, for phases of the last step in which nothing is allocated or freed."""
    phases = [phase for _, phase, _ in walk(trace)]
    end = len(phases)
    while end and phases[end - 1] != "backward":
        end -= 1
    start = end
    while (
        start
        and phases[start - 1] in ("forward", "backward")
        and not (phases[start - 1] == "backward" and phases[start] == "forward")
    ):
        start -= 1
    found = {}
    if not start or phases[start - 1] != "zero_grad":
        found["zero_grad"] = _alive(trace, start)
    if "optimizer" not in phases[end : end + 1]:
        found["optimizer"] = _alive(trace, end)
    return found


def _alive(trace: Trace, until: int) -> dict[str, int]:
    """Return the live bytes by part after that many events."""
    parts, sizes, found = account.parts_of(trace), account.block_sizes(trace), Counter[str]()
    for event in trace.events[:until]:
        if event >= 0:
            found[parts[event]] += sizes[event]
        elif event != EMPTY_CACHE:
            found[parts[~event]] -= sizes[~event]
    return found


def _last(work: Iterable[Stretch]) -> list[Stretch]:
    """Return the stretches of work that belong to the last step."""
    step: list[Stretch] = []
    before = ""
    for stretch in work:
        if stretch.phase == "forward" and before != "forward":
            step = []
        before = stretch.phase
        step.append(stretch)
    return step


def _copied(step: Iterable[Stretch], phase: str, kind: str, inside: bool = False) -> int:
    """Return the bytes of one phase's copies. ``inside``: of the layers only."""
    return sum(
        op.nbytes * count * stretch.times
        for stretch in step
        if stretch.phase == phase and not (inside and stretch.layer is None)
        for op, count in stretch.ops.items()
        if op.kind == kind
    )
