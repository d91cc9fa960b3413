"""A step's seconds on a GPU: a value, the band that earlier errors give it, and what they are spent on."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from peft_lab import units
from peft_lab.memory.devices import THIS
from peft_lab.memory.request import StepRequest
from peft_lab.memory.work import Work
from peft_lab.timing import ask, fitted, here, links
from peft_lab.timing.kernels import PINNED, Speed, Table, step

#: Parts of a step's seconds, and the kinds of operations in each.
PARTS = {
    "compute": ("matmul16", "matmul32", "attention", "factor"),
    "memory": ("stream", "gather", "dequantise", "transform", "each"),
    "host": ("host", "offload"),
}


@dataclass(frozen=True)
class Seconds:
    """Of one step.

    Attributes:
        low, high: the band. value: the estimate.
        bottleneck: ``compute``, ``memory``, ``launch`` (the device waits for the host), ``host`` (copies from main
            memory) or ``link``.
        parts: seconds by part: those of :data:`PARTS`, ``launch`` (what the device waits) and ``link`` (what of the
            communication is not hidden). They add up to the value.
    """

    low: float
    value: float
    high: float
    bottleneck: str
    parts: dict[str, float]

    @property
    def span(self) -> str:
        """Both ends, as a table has them.

        >>> Seconds(0.094, 0.1, 0.114, "compute", {}).span
        '94 to 114 ms'
        """
        return units.span(self.low, self.high)

    def times(self, steps: float) -> Seconds:
        """So many steps one after the other."""
        parts = {name: seconds * steps for name, seconds in self.parts.items()}
        return Seconds(self.low * steps, self.value * steps, self.high * steps, self.bottleneck, parts)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def seconds(
    work: Work,
    gpu: str,
    devices: int = 1,
    link: str = "pcie",
    sent: float = 0.0,
    waits: bool = False,
    copied: float = 0.0,
) -> Seconds:
    """One step of this work on each of ``devices`` of this kind.

    Args:
        sent: bytes that each device sends in the step, all collectives together. waits: whether nothing is computed
            meanwhile. copied: bytes of what is sent that each device first brings from main memory, or takes back.

    Raises:
        UnknownName: a GPU or link of which no speed is known.
    """
    speed, band = speed_named(gpu, devices)
    return with_speed(work, speed, band, link if devices > 1 else "", sent, waits, copied)


def speed_named(gpu: str, devices: int = 1) -> tuple[Speed, tuple[float, float]]:
    """What a device reaches, and the factors around an estimate for it.

    Raises:
        UnknownName: no such GPU. BadInput: this machine, as long as it was not calibrated.
    """
    if gpu == THIS:
        return here.speed(), here.BAND
    return fitted.speed_of(gpu), fitted.band(gpu, devices)


def with_speed(
    work: Work,
    speed: Speed,
    band: tuple[float, float],
    link: str = "",
    sent: float = 0.0,
    waits: bool = False,
    copied: float = 0.0,
) -> Seconds:
    """The same at a known speed. ``band``: factors below and above the value."""
    table = Table(work)
    computing, each = step(table, speed), table.on_device(speed)
    parts = {part: table.total(each, *kinds) for part, kinds in PARTS.items()}
    parts["launch"] = max(computing - sum(parts.values()), 0.0)
    sending = links.seconds(sent, link) if link else 0.0
    # A layer is gathered after its parts have come, over the same lanes where cards have no link of their own. Both are
    # asked for ahead, so they hide behind the same computing.
    copying = copied / PINNED
    visible = links.exposed(sending + copying, computing, waits)
    ours = copying / (sending + copying) if copying else 0.0
    parts["link"] = visible * (1 - ours)
    parts["host"] += visible * ours
    value = computing + visible
    most = max(parts, key=parts.__getitem__)
    return Seconds(value * band[0], value, value * band[1], most, parts)


def step_seconds(
    request: StepRequest, gpu: str, devices: int = 1, link: str = "pcie", sent: float = 0.0
) -> Seconds:
    """:func:`seconds` of a step that is traced for it.

    Raises:
        UnknownName: as :func:`seconds`. BadInput, SimulationError: as :func:`peft_lab.memory.simulate.simulate`.
    """
    return seconds(ask.work(request), gpu, devices, link, sent)
