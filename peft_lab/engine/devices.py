"""List the devices to plan for: real GPUs with the memory that their driver reports, and this machine's own.

Cards are sold by GiB, written as GB: a card of 24 GB holds 25.8 billion bytes. Everywhere else a GB is a billion
bytes, so lists give a card's name as it is sold (:attr:`Device.title`); beside other figures it is given with the
memory that it holds in those units (:attr:`Device.holding`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from peft_lab.core import limits, machine, units
from peft_lab.core.content import read_entries
from peft_lab.core.errors import BadInput, UnknownName, echoed, named

GIB, MIB = 2**30, 2**20
#: The part of nvidia-smi's total that PyTorch cannot use: 0.35 to 0.6 GiB reserved by the driver ("total capacity" in
#: PyTorch's messages from T4, L40, RTX 4090 and RTX 5090; GitHub issues CatVTON 133, Qwen3-VL 2097, VGen 104, Wan2.1
#: 465), and a few hundred MB of CUDA's context. Taken as 1 GiB, on the safe side.
TAKEN = GIB
#: The share of :data:`TAKEN` that PyTorch's own figure for a GPU still includes: the CUDA context.
CONTEXT = GIB // 2
#: Share of memory kept free: more than the simulation's largest error at a published peak; twice that for a split
#: step, as NCCL's buffers are in none of the figures.
HEADROOM, HEADROOM_SPLIT = 0.05, 0.10
#: What prints a card's memory, by platform. PyTorch's device type is ``cuda`` on both.
_TOTALS = {"cuda": "nvidia-smi", "rocm": "rocm-smi"}
#: The note shown once wherever a card's memory appears.
SOLD = f"Cards are sold by GiB, but labelled in GB: a 24 GB card has {units.size(24 * GIB)}."


@dataclass(frozen=True)
class Device:
    """One device.

    Attributes:
        title: the name it is sold under. memory: bytes available to training. total: bytes of memory it has.
        kind: ``cuda`` or ``cpu``, which selects the kernels and allocator to simulate.
        capability: compute capability of a GPU, which decides the size of workspaces.
        source: where the memory figure comes from, as part of a sentence.
    """

    name: str
    title: str
    memory: int
    kind: str
    capability: tuple[int, int]
    source: str
    total: int

    @property
    def holding(self) -> str:
        """Return the name with the memory it holds, in the unit of other figures: 'GeForce RTX 4090 with 25.8 GB'."""
        name, _, sold = self.title.partition(", ")
        return f"{name} with {units.size(self.total)}" if sold.endswith("GB") else self.title

    def limit(self, split: bool = False) -> int:
        """Return the bytes that a step may take: Choose, Memory and Plan keep the rest free."""
        return int(self.memory * (1 - (HEADROOM_SPLIT if split else HEADROOM)))

    @property
    def allowed(self) -> int:
        """Return :meth:`limit` of a step that is not split."""
        return self.limit()

    def holds(self, needed: float, split: bool = False) -> bool:
        """Return whether a step that needs that many bytes fits, with the share to spare."""
        return needed <= self.limit(split)

    @property
    def called(self) -> str:
        """Return the name without its memory: 'GeForce RTX 4090'."""
        return re.split(r", | \(", self.title)[0]


@dataclass(frozen=True)
class Card:
    """A GPU as it is printed, in ``gpus.yaml``, which says where each figure is from."""

    name: str
    title: str
    mib: int
    capability: tuple[int, ...]
    teraflops_16: float
    teraflops_32: float
    gigabytes_per_second: float
    cache_mib: float
    multiprocessors: int
    megahertz: float
    watts: float
    source: str
    best: float = 0.0
    skypilot: str = ""
    platform: str = "cuda"


@cache
def cards() -> dict[str, Card]:
    """Return the GPUs of ``gpus.yaml`` by name."""
    return {card.name: card for card in read_entries(Path(__file__).with_name("gpus.yaml"), Card)}


THIS, THIS_GPU = "this-machine", "this-gpu"


@cache
def devices() -> dict[str, Device]:
    """Return all devices by name: this machine's processor, its GPU if it has one, then the others by memory."""
    own = this_gpu()
    found = [_processor(), *([own] if own else [])]
    for card in sorted(cards().values(), key=lambda card: (card.mib, card.name)):
        source = f"{_TOTALS[card.platform]}'s total minus {units.size(TAKEN)} for driver and context"
        total, capability = card.mib * MIB, (card.capability[0], card.capability[1])
        found.append(Device(card.name, card.title, total - TAKEN, "cuda", capability, source, total))
    return {device.name: device for device in found}


def gpus() -> dict[str, Device]:
    """Return the GPUs among :func:`devices`."""
    return {name: device for name, device in devices().items() if device.kind == "cuda"}


def _processor() -> Device:
    """Return this machine's processor with its main memory, or with the limit of the container this runs in."""
    memory = machine.installed_memory()
    limit = machine.memory_limit() or memory
    source = "installed here" if memory <= limit else "the limit of this container"
    memory = min(memory, limit)
    return Device(THIS, "This machine's processor", memory, "cpu", (0, 0), source, memory)


def this_gpu() -> Device | None:
    """Return this machine's first GPU, as torch describes it in another process; ``None`` without a driver or a GPU."""
    if not machine.may_have_gpu():
        return None
    from peft_lab.core import inspector

    known = inspector.ask(gpu_facts)
    if known is None:
        return None
    name, memory, capability = known
    source = f"PyTorch's figure minus {units.size(CONTEXT)} for CUDA's context"
    return Device(THIS_GPU, f"This machine's {name}", memory - CONTEXT, "cuda", capability, source, memory)


def gpu_facts() -> tuple[str, int, tuple[int, int]] | None:
    """Return name, memory in bytes and compute capability of the first GPU; ``None`` without one. Imports torch."""
    gpu = machine.CUDA
    if not gpu.available():
        return None
    found = gpu.describe()
    return found["name"], found["bytes"], gpu.capability()


def sold_as(text: str, gigabytes: float) -> Device:
    """Return an unnamed card of the size it is sold as, not all of which is left for tensors. ``text``: its name in
    URLs."""
    total = int(gigabytes * GIB)
    title = f"a card sold as {gigabytes:g} GB"
    taken = f"as you entered it, minus {units.size(TAKEN)} for driver and context"
    return Device(text, f"{title} ({units.size(total)})", total - TAKEN, "cuda", (8, 9), taken, total)


def card_size(needed: int) -> str:
    """Return the size, as cards are sold, of a GPU that leaves ``needed`` bytes to training: '21 GB (22.5 GB)'."""
    hundredths = -(-(needed + TAKEN) * 100 // GIB)
    return f"{hundredths / 100:g} GB ({units.size(needed + TAKEN)})"


def get_device(name: str) -> Device:
    """Return the device of this name, in any spelling. Raises :class:`UnknownName` with the nearest name."""
    return named("device", spelt(name) or name, devices(), "device")


def spelt(text: str) -> str | None:
    """Return the name of the device that a text spells, such as ``A100-80GB`` or ``cpu``; None if there is none."""
    if text in devices():
        return text
    bare = _bare(text)
    if bare == "cpu":
        return THIS
    for name, device in devices().items():
        if bare in (_bare(name), _bare(name) + "gb", _bare(device.title)):
            return name
    return None


def _bare(text: str) -> str:
    return "".join(letter for letter in text.lower() if letter.isalnum())


#: A memory size as text: ``24GB``.
SIZE = re.compile(r"([0-9][0-9_,]{0,40}(?:\.[0-9]{1,40})?)\s*(b|kb|mb|gb|gib)?", re.IGNORECASE)


def device_of(text: str) -> Device:
    """Return a device by its name, or an unnamed device by its memory size. Raises UnknownName: neither a device nor a
    size. BadInput: an unknown unit, or a size too large or too small."""
    match = SIZE.fullmatch(text.strip())
    if (known := spelt(text)) is not None:
        return devices()[known]
    if match is None or not match[2]:
        raise UnknownName("device", text, devices(), "device", other="a size such as 24GB")
    if match[2].lower() not in ("gb", "gib"):
        raise BadInput(f"'{echoed(text)}' is not a memory size; write it as 24GB.", "device")
    size = float(match[1].replace(",", "").replace("_", ""))
    if size > limits.DEVICE_GB:
        raise BadInput(f"No device has {echoed(text)}: the most is {limits.DEVICE_GB:,} GB.", "device")
    card = sold_as(text, size)
    if card.memory <= 0:
        raise BadInput(
            f"A device with {text} has no memory left for training: the driver and its context take "
            f"{units.size(TAKEN)}.",
            "device",
        )
    return card


def read_device(text: str) -> str:
    """Return a device's name. Raises as :func:`device_of`."""
    return device_of(text).name


def device_titles() -> dict[str, str]:
    """Return the devices' titles by name."""
    return {name: device.title for name, device in devices().items()}
