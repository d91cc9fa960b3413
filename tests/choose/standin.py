"""What stands for the memory simulation in quick tests: bytes for each parameter, and something for activations.

Slow tests ask the simulation itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from peft_lab.choose import split
from peft_lab.choose.room import Ask, Needed, Room, Run
from peft_lab.choose.situation import Situation

ACTIVATIONS = 1.2e-4  # bytes for each token and parameter of the base; a tenth of that with checkpointing


def ask(situation: Situation) -> Needed:
    shape = situation.shape

    def needed(method: str, values: Mapping[str, Any], run: Run) -> int:
        weights = split.weights(shape, method, run)
        each = ACTIVATIONS / 10 if run.checkpointing else ACTIVATIONS
        return int(weights + run.batch * situation.seq * each * shape.total**0.8 * 20 + 3e8)

    return needed


def room(situation: Situation) -> Room:
    return Room(situation, ask)


def always(needed: int) -> Ask:
    """A simulation to which every step is the same."""
    return lambda _: lambda method, values, run: needed
