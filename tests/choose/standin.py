"""What stands for the memory simulation in quick tests: bytes for each parameter, and something for activations.

Slow tests ask the simulation itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from peft_lab.choose.room import Needed, Room
from peft_lab.choose.situation import Situation

ACTIVATIONS = 1.2e-4  # bytes for each token and parameter of the base; a tenth of that with checkpointing


def ask(situation: Situation) -> Needed:
    total = situation.shape.total
    block = sum(group.in_features * group.out_features * group.count for group in situation.shape.matrices)

    def needed(method: str, values: Mapping[str, Any], batch: int, checkpointing: bool) -> int:
        weights = 8 * total if method == "full" else 2 * total
        if method == "qlora":
            weights = block // 2 + 2 * (total - block)
        each = ACTIVATIONS / 10 if checkpointing else ACTIVATIONS
        return int(weights + batch * situation.seq * each * total**0.8 * 20 + 3e8)

    return needed


def room(situation: Situation) -> Room:
    return Room(situation, ask)
