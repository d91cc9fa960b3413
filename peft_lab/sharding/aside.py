"""What of a step on several devices is not on them: what waits in main memory, and what is copied there and back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from peft_lab.memory import account
from peft_lab.memory.account import walk
from peft_lab.memory.allocator import round_size
from peft_lab.memory.trace import EMPTY_CACHE, Trace
from peft_lab.memory.unroll import DEPTH, TEMPLATE
from peft_lab.memory.work import Stretch
from peft_lab.sharding.how import Sharding


@dataclass(frozen=True)
class Aside:
    """One phase of the last step, as one device has it.

    Attributes:
        phase: ``zero_grad``, ``forward``, ``backward`` or ``optimizer``.
        held: bytes in main memory at most, by part: ``weights``, ``adapter``, ``gradients``, ``optimizer``,
            ``activations``.
        brought: bytes that are copied to the device. taken: that are copied to main memory.
        layers: of activations that are copied, those of the repeated layers; the rest is of what stands around them.
        here: bytes on the device by part, of a phase in which nothing is made or let go there; else empty.
    """

    phase: str
    held: Mapping[str, int]
    brought: int = 0
    taken: int = 0
    layers: int = 0
    here: Mapping[str, int] = field(default_factory=dict)


def aside(trace: Trace, how: Sharding, trained: str, moments: int, depth: int | None) -> tuple[Aside, ...]:
    """Phase by phase; empty where nothing is kept in main memory and something is done in every phase.

    Parameters that FSDP2 offloads are noted where the model is put on its device, their gradients and moments are as
    large. What is copied is read off the operations that did it, but for gradients: each device takes its own part of
    what was summed up (:attr:`peft_lab.sharding.result.ShardedResult.copied_bytes`).

    Args:
        trained: the part that learns, ``weights`` or ``adapter``. moments: how many numbers the optimizer keeps for
            each. depth: how many layers five stand for, if they do.
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
    """Where what the backward pass needs waits there, if it does."""
    away = _copied(step, "forward", "offload")
    held = {"activations": away} if away else {}
    # As they come back: each layer's own asks for them. With transformers 5.20 they leave before their layer begins.
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
    """Where each device's share waits there."""
    model = dict[str, int]()
    for (part, _), nbytes in trace.aside.items():
        model[part] = model.get(part, 0) + nbytes
    learns = model.get(trained, 0)
    still = {**model, "optimizer": moments * learns}
    learnt = {**still, "gradients": learns}
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
        Aside("backward", learnt, there["backward"], summed // how.devices),
        Aside("optimizer", learnt),
    )


def _quiet(trace: Trace) -> dict[str, dict[str, int]]:
    """What is on the device in phases of the last step in which nothing is made or let go there, by part."""
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
    """Bytes by part, after so many events."""
    parts, found = account.parts_of(trace), dict[str, int]()
    for event in trace.events[:until]:
        if event == EMPTY_CACHE:
            continue
        index = event if event >= 0 else ~event
        nbytes = trace.storages[index].nbytes
        size = round_size(nbytes) if nbytes else 0
        found[parts[index]] = found.get(parts[index], 0) + (size if event >= 0 else -size)
    return found


def _last(work: Iterable[Stretch]) -> list[Stretch]:
    """The stretches of the last step."""
    step: list[Stretch] = []
    before = ""
    for stretch in work:
        if stretch.phase == "forward" and before != "forward":
            step = []
        before = stretch.phase
        step.append(stretch)
    return step


def _copied(step: Iterable[Stretch], phase: str, kind: str, inside: bool = False) -> int:
    """Bytes of one phase's copies. ``inside``: of the layers alone."""
    return sum(
        op.nbytes * count * stretch.times
        for stretch in step
        if stretch.phase == phase and not (inside and stretch.layer is None)
        for op, count in stretch.ops.items()
        if op.kind == kind
    )
