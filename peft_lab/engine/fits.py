"""Find the largest batch, row length or model that fits a device by searching with the simulation."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Literal, Protocol

from peft_lab.core.errors import PeftLabError
from peft_lab.engine.devices import Device
from peft_lab.engine.request import StepRequest
from peft_lab.engine.simulate import bytes_needed

LARGEST = {"batch": 4096, "seq": 131_072}


class Needing(Protocol):
    """The memory of a simulated step, on one device or on one of several."""

    @property
    def peak_bytes(self) -> int:
        """Return the most bytes of tensors alive at once."""

    @property
    def reserved_bytes(self) -> int | None:
        """Return the bytes that the device's allocator holds for them; None without such an allocator."""


def needed(simulation: Needing) -> int:
    """Return the bytes a device must have: what its allocator holds, or the live tensors without such an allocator."""
    return simulation.reserved_bytes or simulation.peak_bytes


def largest(fits: Callable[[int], bool], most: int) -> int:
    """Return the largest size from 1 to ``most`` that fits, 0 if not even 1 does. ``fits`` must be monotone.

    Doubles until it does not fit, then bisects to within 1 in 32: about ten calls.
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
    what: Literal["batch", "seq"], device: Device, request: StepRequest, most: int | None = None
) -> int:
    """Return the largest ``batch`` or ``seq`` that fits on ``device``, with the rest of the request unchanged.

    Raises:
        BadInput, SimulationError: as :func:`peft_lab.engine.simulate.simulate`.
    """
    asked = request.on(device)
    return largest(
        lambda size: bytes_needed(asked.at(**{what: size})) <= device.memory,
        min(most or LARGEST[what], LARGEST[what]),
    )


@dataclass(frozen=True)
class ModelFit:
    """A model of the catalogue on a device: the bytes that a step needs there, or why there is no such step."""

    model: str
    title: str
    parameters: int
    needed_bytes: int | None
    fits: bool
    reason: str = ""


def models_that_fit(
    device: Device, request: StepRequest, names: Iterable[str] | None = None
) -> tuple[ModelFit, ...]:
    """Simulate the request with each text model of the catalogue, or each of ``names``, from small to large.

    Rows are shortened to a model's positions. ``request.values`` should hold only knobs that are not at their defaults.
    """
    from peft_lab.models.catalogue import readers_of_text

    chosen = [entry for name, entry in readers_of_text().items() if names is None or name in set(names)]
    found = []
    for entry in sorted(chosen, key=lambda entry: entry.parameters):
        about = (entry.name, entry.title, entry.parameters)
        asked = replace(request, model=entry.name).on(device)
        try:
            need = bytes_needed(asked.at(seq=longest_row(asked)))
        except PeftLabError as error:
            found.append(ModelFit(*about, None, False, str(error)))
        else:
            found.append(ModelFit(*about, need, need <= device.memory))
    return tuple(found)


def longest_row(request: StepRequest) -> int:
    """Return the request's row length, cut to a model's positions less the method's virtual and the generated tokens.

    Raises:
        BadInput: the method does not run on the model.
    """
    from peft_lab.methods import get_method
    from peft_lab.models.catalogue import resolve

    shape, spec, setting = resolve(request.model).shape, get_method(request.method), request.setting
    taken = spec.virtual_tokens(spec.require(shape, request.values)) + (setting.generate or (0, 0))[1]
    return (
        setting.seq if shape.max_positions is None else max(1, min(setting.seq, shape.max_positions - taken))
    )
