"""What is the largest that fits: answered by searching with the simulation, not by a rule of thumb."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from peft_lab.memory import ask
from peft_lab.memory.devices import Device
from peft_lab.memory.result import Simulation

LARGEST = {"batch": 4096, "seq": 131_072}


def needed(simulation: Simulation) -> int:
    """Bytes a device must have: what the allocator holds, or the tensors alive where there is no such allocator."""
    return simulation.reserved_bytes or simulation.peak_bytes


def largest(fits: Callable[[int], bool], most: int) -> int:
    """The largest size from 1 to ``most`` that fits, 0 when not even 1 does. ``fits`` must be monotone.

    Doubles until it does not fit, then bisects to within 1 in 32: about ten questions.
    """
    if not fits(1):
        return 0
    low, high = 1, 2
    while high <= most and fits(high):
        low, high = high, high * 2
    high = min(high, most + 1)
    while high - low > max(1, low // 32):
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def largest_that_fits(
    what: str,
    device: Device,
    model: str,
    method: str,
    values: Mapping[str, Any],
    setting: Mapping[str, Any],
    dtype: str,
    checkpointing: bool,
    most: int | None = None,
) -> int:
    """The largest ``batch`` or ``seq`` of a training step on ``device``, everything else as given.

    Raises:
        BadInput, SimulationError: as :func:`peft_lab.memory.simulate.simulate`.
    """

    def fits(size: int) -> bool:
        tried = {**setting, what: size, "device": device.kind, "capability": device.capability}
        return needed(ask.step(model, method, values, tried, dtype, checkpointing)) <= device.memory

    return largest(fits, min(most or LARGEST[what], LARGEST[what]))


def question(what: str, device: str, *rest: Any) -> int:
    """:func:`largest_that_fits` with the device by name, for another process."""
    from peft_lab.memory.devices import get_device

    return largest_that_fits(what, get_device(device), *rest)
