"""Who holds what when: a split step's fullest moment in each phase, for the drawing of its ranks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from peft_lab.memory.request import StepRequest
from peft_lab.memory.setting import Setting
from peft_lab.methods import get_method
from peft_lab.plan.ranking import advice_for, room_for
from peft_lab.plan.wanted import Wanted
from peft_lab.sharding.how import Sharding
from peft_lab.sharding.result import ShardedResult
from peft_lab.sharding.simulate import simulate_sharded

#: Ways to share a step that are drawn.
KINDS = {
    "ddp": "DDP", "zero1": "ZeRO-1", "zero2": "ZeRO-2", "zero3": "ZeRO-3", "fsdp2": "FSDP2", "tp": "tensor parallelism",
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


@dataclass(frozen=True)
class Moment:
    """One phase's fullest moment on each rank. ``parts``: bytes, all of :data:`PARTS`."""

    phase: str
    parts: Mapping[str, int]

    @property
    def total(self) -> int:
        return sum(self.parts.values())


#: In which weights are kept, whichever way they are shared, so that ways can be compared.
KEPT = "bfloat16"


@dataclass(frozen=True)
class Drawn:
    """A step as its ranks share it."""

    kind: str
    method: str
    devices: int
    moments: tuple[Moment, ...]
    checkpointing: bool = False


def moments(fields: Mapping[str, Any], method: str, kind: str, checkpointing: bool = False) -> Drawn:
    """The step of a method at its recipe's knobs, one row of a rank at once. Imports torch.

    Raises:
        BadInput, SimulationError: what cannot be, or cannot be simulated.
    """
    wanted = Wanted(**fields)
    wanted = replace(wanted, devices=max(2, wanted.devices)).check()
    situation = wanted.situation()
    advice = advice_for(situation, room_for(wanted), method)
    spec = get_method(method)
    values = spec.require(situation.shape, advice.knobs(situation.shape))
    setting = Setting(1, wanted.seq, optimizer=wanted.optimizer or "adamw", packed=bool(wanted.packed))
    asked = StepRequest(wanted.model, method, values, setting, KEPT, checkpointing)
    result = simulate_sharded(asked.on(situation.hardware), Sharding(kind, wanted.devices))
    drawn = tuple(_moment(result, phase) for phase in PHASES)
    return Drawn(kind, method, wanted.devices, drawn, checkpointing)


def _moment(result: ShardedResult, phase: str) -> Moment:
    points = [point for point in result.points if point.phase == phase] or list(result.points)
    top = (min if phase == "zero_grad" else max)(points, key=lambda point: point.nbytes)
    parts = dict.fromkeys(PARTS, 0)
    for name, size in top.parts.items():
        at = _INTO.get(name, name)
        parts[at if at in parts else "rest"] += size
    return Moment(phase, parts)
