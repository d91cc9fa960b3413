"""What stands for the memory simulation in quick tests: bytes for each parameter, and something for activations.

Slow tests ask the simulation itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from peft_lab.advise import room as ways
from peft_lab.advise.room import Room
from peft_lab.advise.simulating import Ask, Needed, StepRun
from peft_lab.advise.situation import Situation

ACTIVATIONS = 1.2e-4  # bytes for each token and parameter of the base; a tenth of that with checkpointing
LIKE_A_LLAMA = 5e-3  # about as much as a step of Llama 3.1 8B keeps, so that 16 bits often compute twice


def ask(situation: Situation) -> Needed:
    shape = situation.shape

    def needed(method: str, values: Mapping[str, Any], run: StepRun) -> int:
        weights = ways.weight_bytes(shape, method, run)
        each = ACTIVATIONS / 10 if run.checkpointing else ACTIVATIONS
        if run.split:
            weights = 0 if run.offloads else weights // situation.devices
        return int(weights + run.batch * situation.seq * each * shape.total**0.8 * 20 + 3e8)

    return needed


def room(situation: Situation) -> Room:
    return Room(situation, ask)


def always(needed: int) -> Ask:
    """A simulation to which every step is the same."""
    return lambda _: lambda method, values, run: needed
