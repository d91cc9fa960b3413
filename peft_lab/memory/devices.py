"""Devices to ask about: real GPUs with the memory their makers state, and this machine."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from peft_lab.errors import UnknownName

GIB = 2**30


@dataclass(frozen=True)
class Device:
    """One device.

    Attributes:
        memory: bytes, as sold: a part of it, some hundred MB, is the driver's and CUDA's own.
        kind: ``cuda`` or ``cpu``: whose kernels and allocator are simulated.
        capability: compute capability of a GPU, on which the size of workspaces depends.
        source: where the memory is stated.
    """

    name: str
    title: str
    memory: int
    kind: str
    capability: tuple[int, int]
    source: str


# name, title, memory as its maker states it (counted in GiB, as memory chips are), compute capability. Source: NVIDIA's
# data sheet or product page of that name; capabilities: NVIDIA, "CUDA GPU Compute Capability".
_GPUS = (
    ("t4", "T4, 16 GB", 16, (7, 5)),
    ("rtx-3060", "GeForce RTX 3060, 12 GB", 12, (8, 6)),
    ("rtx-4090", "GeForce RTX 4090, 24 GB", 24, (8, 9)),
    ("rtx-5090", "GeForce RTX 5090, 32 GB", 32, (12, 0)),
    ("a10", "A10, 24 GB", 24, (8, 6)),
    ("l4", "L4, 24 GB", 24, (8, 9)),
    ("rtx-6000-ada", "RTX 6000 Ada, 48 GB", 48, (8, 9)),
    ("l40s", "L40S, 48 GB", 48, (8, 9)),
    ("a100-40", "A100, 40 GB", 40, (8, 0)),
    ("a100-80", "A100, 80 GB", 80, (8, 0)),
    ("h100", "H100, 80 GB", 80, (9, 0)),
    ("h200", "H200, 141 GB", 141, (9, 0)),
)
THIS = "this-machine"


@cache
def devices() -> dict[str, Device]:
    """All by name, this machine first, GPUs by memory. The machine's own figure is its installed main memory."""
    import psutil

    machine = Device(
        THIS, "This machine's processor", psutil.virtual_memory().total, "cpu", (0, 0), "measured"
    )
    gpus = [
        Device(name, title, size * GIB, "cuda", capability, f"NVIDIA, {title.split(',')[0]} data sheet")
        for name, title, size, capability in sorted(_GPUS, key=lambda row: (row[2], row[0]))
    ]
    return {device.name: device for device in (machine, *gpus)}


def get_device(name: str) -> Device:
    """Raises :class:`UnknownName` with the nearest name."""
    try:
        return devices()[name]
    except KeyError:
        raise UnknownName("device", name, devices(), "device") from None
