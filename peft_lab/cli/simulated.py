"""What ``memory`` found about one step: its simulation, what fits, and its seconds; and many of them as tables."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from peft_lab import units
from peft_lab.cli import fitting, output
from peft_lab.cli.fitting import Found, Room
from peft_lab.memory.request import StepRequest
from peft_lab.memory.result import Simulation
from peft_lab.memory.setting import Setting
from peft_lab.memory.simulate import work_of
from peft_lab.plan.steps import split_seconds
from peft_lab.timing import estimate
from peft_lab.timing.estimate import Seconds

_PARTS = ("weights", "adapter", "gradients", "optimizer", "activations", "other")


@dataclass(frozen=True)
class Simulated:
    """A simulation, the file it was asked for by, what fits, and which of its sizes are where the search ended."""

    simulation: Found
    file: Path | None = None
    room: Room | None = None
    at_least: tuple[str, ...] = ()
    step: Seconds | None = None
    tokens: int = 0

    def as_dict(self) -> dict[str, Any]:
        more = {"adapter_config": self.file} if self.file else {}
        room = {"fits": {**self.room.as_dict(), "at_least": list(self.at_least)}} if self.room else {}
        step = {}
        if self.step:
            step = {"step_seconds": self.step.as_dict(), "tokens_per_second": self.tokens / self.step.value}
        return {**self.simulation.as_dict(), **more, **room, **step}


def timed(one: Simulated, gpu: str, link: str, asked: StepRequest | None, setting: Setting) -> Simulated:
    """With the seconds of its last step; a split step's from the work of ``asked``, the same on one device."""
    found = one.simulation
    if isinstance(found, Simulation):
        step, devices = estimate.seconds(found.work[-1], gpu), 1
    else:
        assert asked is not None, "configs from files are not split"
        devices = found.sharding.readers
        step = split_seconds(() if found.work else work_of(asked), found, gpu, link)
    return replace(one, step=step, tokens=setting.batch * setting.seq * devices)


def tables(heading: str, results: list[Simulated]) -> list[Any]:
    """The answers for people: memory, then what else was asked: seconds, what fits, and on which models."""
    columns = {"method": "left", "peak": "right", "reserved": "right", **dict.fromkeys(_PARTS, "right")}
    lines = []
    for one in results:
        row = one.simulation.as_dict()
        reserved = "" if row["reserved_bytes"] is None else units.size(row["reserved_bytes"])
        parts = (units.size(row["parts"][part]) for part in _PARTS)
        lines.append((one.file or row["method"], units.size(row["peak_bytes"]), reserved, *parts))
    hosts = [one.simulation.host_bytes for one in results if one.simulation.host_bytes]
    paged = f"; {units.size(hosts[0])} in main memory" if hosts else ""
    caption = f"peak: tensors alive at once; reserved: what PyTorch's CUDA allocator holds for them{paged}"
    shown = [output.table(f"{heading}: memory of a training step (simulated)", columns, lines, caption)]
    seconds = [
        (
            one.file or one.simulation.method,
            one.step.span,
            one.step.bottleneck,
            f"{one.tokens / one.step.value:,.0f}",
        )
        for one in results
        if one.step
    ]
    if seconds:
        wide = {"method": "left", "a step": "right", "most for": "left", "tokens a second": "right"}
        shown.append(output.table("How long a step takes (estimated from its operations)", wide, seconds))
    rooms = [(one.file or one.simulation.method, one.room) for one in results if one.room]
    if rooms:
        shown.append(fitting.table(rooms))
    shown += [fitting.models_table(name, room) for name, room in rooms if room.models]
    return shown
