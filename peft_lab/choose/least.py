"""What the smallest step of a method needs, in words: the figure itself, or a bound of it that settles the matter.

A sentence says that a step does not fit, or that it does; where simulations of shorter and longer rows show that, it
says what the step needs at least or at most, and spares its own simulations.
"""

from __future__ import annotations

from dataclasses import replace

from peft_lab import units
from peft_lab.choose.bounds import MARGIN
from peft_lab.choose.room import Room
from peft_lab.memory.setting import LOSSES


def between(room: Room, method: str) -> tuple[float, float]:
    """Bytes that :meth:`Room.least` lies between, without asking the simulation; twice the same where it is known."""
    values, states = room.usual(method), list(room.states(method))
    found = []
    for loss in LOSSES:
        run = next((run for run in reversed(states) if run.loss == loss), None)
        if run is not None:
            found.append(room.between(method, values, replace(run, batch=1, checkpointing=True)))
    return min(low for low, _ in found), min(high for _, high in found)


def least(room: Room, method: str) -> str:
    """What one row needs, as a sentence has it.

    Raises:
        BadInput, SimulationError: as the simulation.
    """
    low, high = between(room, method)
    if low < high:
        if low / MARGIN > room.usable:
            return f"at least {units.size(int(low / MARGIN))}"
        if high * MARGIN <= room.usable:
            return f"at most {units.size(int(high * MARGIN))}"
    return units.size(room.least(method))
