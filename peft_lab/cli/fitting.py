"""``memory --fits``: what is the largest that a device holds, found by simulating one size after the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from peft_lab import units
from peft_lab.cli import output
from peft_lab.memory.devices import Device
from peft_lab.memory.fits import LARGEST, ModelFit, largest, needed
from peft_lab.memory.result import Simulation
from peft_lab.memory.setting import Setting, with_size
from peft_lab.sharding.result import ShardedResult

Found = Simulation | ShardedResult
Job = Callable[[Setting], Found]


@dataclass(frozen=True)
class Room:
    """Whether a step fits on a device, and the largest one of its kind that does.

    Attributes:
        needed_bytes: what the step takes of the device's memory.
        batch: rows that fit, at the given length. seq: tokens, at the given batch. 0: not even one.
        simulated: sizes that were tried.
        models: the same step on the models of the catalogue; empty when that was not asked.
    """

    device: Device
    needed_bytes: int
    batch: int
    seq: int
    simulated: dict[str, list[int]]
    models: tuple[ModelFit, ...] = ()

    @property
    def fits(self) -> bool:
        return self.needed_bytes <= self.device.memory

    def as_dict(self) -> dict[str, Any]:
        return {
            "device": self.device.name,
            "memory_bytes": self.device.memory,
            "needed_bytes": self.needed_bytes,
            "fits": self.fits,
            "largest_batch": self.batch,
            "longest_seq": self.seq,
            "simulated": self.simulated,
            "models": [asdict(one) for one in self.models],
        }


def search(job: Job, setting: Setting, device: Device, positions: int | None) -> tuple[Found, Room]:
    """Simulate a step on ``device``, and search what fits there. Rows get no longer than ``positions``.

    Raises:
        BadInput, SimulationError: as the job.
    """
    here = replace(setting, device=device.kind, capability=device.capability)
    asked = job(here)
    known = {here: needed(asked)}
    tried: dict[str, list[int]] = {"batch": [], "seq": []}

    def fits(what: Literal["batch", "seq"], size: int) -> bool:
        sized = with_size(here, batch=size) if what == "batch" else with_size(here, seq=size)
        if sized not in known:
            known[sized] = needed(job(sized))
        tried[what].append(size)
        return known[sized] <= device.memory

    longest = min(LARGEST["seq"], positions or LARGEST["seq"]) - (
        setting.generate[1] if setting.generate else 0
    )
    batch = largest(lambda rows: fits("batch", rows), LARGEST["batch"])
    seq = largest(lambda tokens: fits("seq", tokens), longest)
    return asked, Room(
        device, needed(asked), batch, seq, {what: sorted(sizes) for what, sizes in tried.items()}
    )


def table(rows: Sequence[tuple[Any, Room]]) -> Any:
    """The answers as a table, all for one device."""
    columns = {
        "method": "left",
        "fits": "left",
        "needs": "right",
        "largest batch": "right",
        "longest row": "right",
    }
    lines = [
        (
            name,
            "yes" if room.fits else "no",
            units.size(room.needed_bytes),
            f"{room.batch:,}",
            f"{room.seq:,}",
        )
        for name, room in rows
    ]
    device = rows[0][1].device
    title = f"{device.holding}: {units.size(device.memory)} usable (simulated)"
    caption = "largest batch at the length given, longest row at the batch given; searched to within 1 in 32"
    return output.table(title, columns, lines, caption)


def models_table(name: Any, room: Room) -> Any:
    """The models that were tried with one method, the largest first."""
    columns = {"model": "left", "parameters": "right", "needs": "right", "fits": "left"}
    lines = [
        (
            one.title,
            units.short_count(one.parameters),
            "" if one.needed_bytes is None else units.size(one.needed_bytes),
            one.reason or ("yes" if one.fits else "no"),
        )
        for one in reversed(room.models)
    ]
    return output.table(f"{name} on {room.device.holding}: models (simulated)", columns, lines)
