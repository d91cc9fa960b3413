"""Who holds what when: a split step's fullest moment in each phase, for the drawing of its ranks."""

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

#: Ways to share a step that are drawn.
MOMENT_KINDS = {
    "ddp": "DDP", "ddp+away": "DDP, activations in main memory", "zero1": "ZeRO-1", "zero2": "ZeRO-2",
    "zero3": "ZeRO-3", "fsdp2": "FSDP2", "fsdp2+offload": "FSDP2, offloaded", "tp": "tensor parallelism",
}  # fmt: skip
#: Parts that are drawn, from the ground up, and what each of them is called.
PARTS = {
    "weights": "weights", "adapter": "adapter", "optimizer": "moments", "gradients": "gradients",
    "activations": "activations", "gathered": "gathered layers", "rest": "all else",
}  # fmt: skip
#: Phases of a step, with what the ranks do in each.
PHASES = {
    "zero_grad": "Between steps", "forward": "Forward", "backward": "Backward", "optimizer": "Update",
}  # fmt: skip
_INTO = {"quantisation": "weights", "unreduced": "gradients", "logits": "activations"}


#: Kinds of which something waits in main memory: parameters, or what the backward pass needs.
OFFLOADED, AWAY = "fsdp2+offload", "ddp+away"


@dataclass(frozen=True)
class Moment:
    """One phase's fullest moment on each rank.

    Attributes:
        parts: bytes, all of :data:`PARTS`. host: of what waits in main memory meanwhile, at most.
        brought: bytes that are copied to the rank in this phase. taken: that are copied to main memory. layers: of
            activations that are copied, those of the layers.
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
        """Bytes in main memory."""
        return sum(self.host.values())


#: In which weights are kept, whichever way they are shared, so that ways can be compared.
KEPT = "bfloat16"


@dataclass(frozen=True)
class Drawn:
    """A step as its ranks share it. ``depth``: how many layers it goes through."""

    kind: str
    method: str
    devices: int
    moments: tuple[Moment, ...]
    checkpointing: bool = False
    depth: int = 0

    @property
    def waits(self) -> bool:
        """Whether anything of it waits in main memory."""
        return any(moment.waiting for moment in self.moments)


def kind_of(planned: Planned | None) -> str:
    """The kind to draw first: the one of a plan that offloads or splits matrices, else FSDP2."""
    if planned is None or planned.plan is None:
        return "fsdp2"
    if planned.plan.offload:
        return AWAY
    return planned.candidate.sharding if planned.candidate.sharding in (OFFLOADED, TENSOR) else "fsdp2"


def moments(fields: Mapping[str, Any], method: str, kind: str, checkpointing: bool = False) -> Drawn:
    """The step of a method at its recipe's knobs, one row of a rank at once. Imports torch.

    What waits in main memory for the backward pass is that of a checkpointed step, as plans have it.

    Raises:
        BadInput, SimulationError: what cannot be, or cannot be simulated.
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
    """As they are drawn."""
    parts = dict.fromkeys(PARTS, 0)
    for name, size in sizes.items():
        at = _INTO.get(name, name)
        parts[at if at in parts else "rest"] += size
    return parts
