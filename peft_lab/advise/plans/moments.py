"""What each rank stores in each phase of a split step, for the drawing of its ranks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from peft_lab.advise.plans.ranking import Planned, advice_for, room_for
from peft_lab.advise.plans.wanted import Wanted
from peft_lab.advise.simulating import TENSOR
from peft_lab.engine.request import Setting, StepRequest
from peft_lab.engine.sharding.how import Sharding
from peft_lab.engine.sharding.result import ShardedResult
from peft_lab.engine.sharding.simulate import simulate_sharded
from peft_lab.methods import get_method

#: The drawn ways to share a step.
MOMENT_KINDS = {
    "ddp": "DDP", "ddp+away": "DDP, activations in main memory", "zero1": "ZeRO-1", "zero2": "ZeRO-2",
    "zero3": "ZeRO-3", "fsdp2": "FSDP2", "fsdp2+offload": "FSDP2, offloaded", "tp": "tensor parallelism",
}  # fmt: skip
#: The drawn parts from the bottom up, with their names.
PARTS = {
    "weights": "weights", "adapter": "adapter", "optimizer": "moments", "gradients": "gradients",
    "activations": "activations", "gathered": "gathered layers", "rest": "all else",
}  # fmt: skip
#: Phases of a step, with their names.
PHASES = {
    "zero_grad": "Between steps", "forward": "Forward", "backward": "Backward", "optimizer": "Update",
}  # fmt: skip
_INTO = {"quantisation": "weights", "unreduced": "gradients", "logits": "activations"}


#: Kinds with something in main memory: parameters, or what the backward pass needs.
OFFLOADED, AWAY = "fsdp2+offload", "ddp+away"


@dataclass(frozen=True)
class Moment:
    """A phase's fullest moment on each rank; between steps, the emptiest.

    Attributes:
        parts: bytes of each of :data:`PARTS`. host: maximum bytes of each part in main memory.
        brought: bytes copied to the rank in this phase. taken: bytes copied to main memory. layers: bytes of the
            copied activations that belong to layers.
    """

    phase: str
    parts: Mapping[str, int]
    host: Mapping[str, int] = field(default_factory=dict)
    brought: int = 0
    taken: int = 0
    layers: int = 0

    @property
    def total(self) -> int:
        """Return the bytes of all parts on the rank together."""
        return sum(self.parts.values())

    @property
    def waiting(self) -> int:
        """Return the bytes in main memory."""
        return sum(self.host.values())


#: The dtype of weights in every kind, so that kinds can be compared.
KEPT = "bfloat16"


@dataclass(frozen=True)
class Drawn:
    """A step as its ranks share it. ``depth``: the number of its layers."""

    kind: str
    method: str
    devices: int
    moments: tuple[Moment, ...]
    checkpointing: bool = False
    depth: int = 0

    @property
    def waits(self) -> bool:
        """Return whether anything of it waits in main memory."""
        return any(moment.waiting for moment in self.moments)


def kind_of(planned: Planned | None) -> str:
    """Return the kind to draw first: that of a plan that offloads or splits matrices, else FSDP2."""
    if planned is None or planned.plan is None:
        return "fsdp2"
    if planned.plan.offload:
        return AWAY
    return planned.candidate.sharding if planned.candidate.sharding in (OFFLOADED, TENSOR) else "fsdp2"


def moments(fields: Mapping[str, Any], method: str, kind: str, checkpointing: bool = False) -> Drawn:
    """Return the drawn step of a method at its recipe's knobs, one row per rank. Imports torch.

    If the backward pass's data wait in main memory, the step is checkpointed, as in plans.

    Raises:
        BadInput, SimulationError: the request is invalid, or the step cannot be simulated.
    """
    wanted = Wanted(**fields)
    wanted = replace(wanted, devices=max(2, wanted.devices)).check()
    situation = wanted.situation()
    advice = advice_for(situation, room_for(wanted), method)
    spec = get_method(method)
    values = spec.require(situation.shape, advice.knobs(situation.shape))
    away = kind == AWAY
    setting = Setting(
        1, wanted.seq, optimizer=wanted.optimizer or "adamw", packed=bool(wanted.packed), offload=away
    )
    again = checkpointing or away
    asked = StepRequest(wanted.model, method, values, setting, KEPT, again)
    how = Sharding(kind.partition("+")[0], wanted.devices, offload=kind == OFFLOADED)
    result = simulate_sharded(asked.on(situation.hardware), how)
    drawn = tuple(_moment(result, phase) for phase in PHASES)
    return Drawn(kind, method, wanted.devices, drawn, again, situation.shape.num_layers)


def _moment(result: ShardedResult, phase: str) -> Moment:
    aside = next((one for one in result.aside if one.phase == phase), None)
    points = [point for point in result.points if point.phase == phase]
    if points:
        parts = _parts((min if phase == "zero_grad" else max)(points, key=lambda point: point.nbytes).parts)
    else:
        parts = _parts({} if aside is None else aside.here)
    if aside is None:
        return Moment(phase, parts)
    return Moment(phase, parts, _parts(aside.held), aside.brought, aside.taken, aside.layers)


def _parts(sizes: Mapping[str, int]) -> dict[str, int]:
    """Return the sizes of the parts that are drawn."""
    parts = dict.fromkeys(PARTS, 0)
    for name, size in sizes.items():
        at = _INTO.get(name, name)
        parts[at if at in parts else "rest"] += size
    return parts
