"""What is the largest that fits: answered by searching with the simulation, not by a rule of thumb."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from peft_lab.errors import PeftLabError
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


@dataclass(frozen=True)
class ModelFit:
    """A model of the catalogue on a device: bytes that a step needs there, or why there is no such step."""

    model: str
    title: str
    parameters: int
    needed_bytes: int | None
    fits: bool
    reason: str = ""


def models_that_fit(
    device: Device,
    method: str,
    values: Mapping[str, Any],
    setting: Mapping[str, Any],
    dtype: str,
    checkpointing: bool,
    names: Iterable[str] | None = None,
) -> tuple[ModelFit, ...]:
    """Every model of the catalogue, or those named, from small to large, each with its own simulation.

    Rows are cut to the positions that a model has. ``values``: the knobs that are not at their defaults.
    """
    from peft_lab.models.catalogue import catalogue

    chosen = [entry for name, entry in catalogue().items() if names is None or name in set(names)]
    found = []
    for entry in sorted(chosen, key=lambda entry: entry.parameters):
        about = (entry.name, entry.title, entry.parameters)
        try:
            seq = longest_row(entry.name, method, values, setting)
            tried = {**setting, "seq": seq, "device": device.kind, "capability": device.capability}
            need = needed(ask.step(entry.name, method, values, tried, dtype, checkpointing))
        except PeftLabError as error:
            found.append(ModelFit(*about, None, False, str(error)))
        else:
            found.append(ModelFit(*about, need, need <= device.memory))
    return tuple(found)


def longest_row(model: str, method: str, values: Mapping[str, Any], setting: Mapping[str, Any]) -> int:
    """The setting's row, or what a model has positions for beside the method's own and those to generate.

    Raises:
        BadInput: the method does not run on the model.
    """
    from peft_lab.methods import get_method
    from peft_lab.models.catalogue import resolve

    shape, spec = resolve(model).shape, get_method(method)
    taken = spec.virtual_tokens(spec.require(shape, values)) + (setting.get("generate") or (0, 0))[1]
    seq = int(setting["seq"])
    return seq if shape.max_positions is None else max(1, min(seq, shape.max_positions - taken))


def curve(
    over: Literal["batch", "seq"],
    sizes: Iterable[int],
    model: str,
    method: str,
    values: Mapping[str, Any],
    setting: Mapping[str, Any],
    dtype: str,
    checkpointing: bool,
) -> dict[int, Simulation]:
    """A step at each batch or length, everything else as given: each point is simulated, none interpolated.

    Raises:
        BadInput, SimulationError: as :func:`peft_lab.memory.simulate.simulate`.
    """
    return {
        size: ask.step(model, method, values, {**setting, over: size}, dtype, checkpointing) for size in sizes
    }
