"""What fits on the device: every answer comes from simulating the training step, none from a rule of thumb."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from peft_lab.choose import kept
from peft_lab.choose.situation import Situation
from peft_lab.memory import fits
from peft_lab.memory.request import StepRequest
from peft_lab.memory.setting import Setting
from peft_lab.memory.simulate import simulate
from peft_lab.recipes.recipe import Recipe

#: method, values, rows of a step, checkpointing -> bytes that the device must have
Needed = Callable[[str, Mapping[str, Any], int, bool], int]


@dataclass(frozen=True)
class Step:
    """A training step that fits. ``accumulate``: so many of them make the batch that was asked for."""

    batch: int
    checkpointing: bool
    needed: int
    accumulate: int = 1


@dataclass(frozen=True)
class StepPlan:
    """The ready configuration: knobs, how a step is run, what it takes, and every setting with its sources."""

    values: Mapping[str, Any]
    batch: int
    seq: int
    checkpointing: bool
    accumulate: int
    recipe: Recipe
    needed_bytes: int
    memory_bytes: int
    trainable: int
    stored_bytes: int


#: What is needed on the situation's device, as a function of the rest.
Ask = Callable[[Situation], Needed]


class Room:
    """Asks whether steps fit on one device. ``ask`` is the simulation, or in tests something that stands for it."""

    def __init__(self, situation: Situation, ask: Ask, memory: int | None = None) -> None:
        self._situation, self._ask = situation, ask
        self._needed = ask(situation)
        self.batch = situation.batch
        self.memory = situation.hardware.memory if memory is None else memory

    def with_memory(self, memory: int) -> Room:
        """The same questions for a device that differs in its memory alone."""
        return Room(self._situation, self._ask, memory)

    def for_model(self, situation: Situation) -> Room:
        """The same device for a situation with another model."""
        return Room(situation, self._ask, self.memory)

    def least(self, method: str, values: Mapping[str, Any] | None = None) -> int:
        """Bytes of the smallest step: one row, checkpointed."""
        return self._needed(method, values or {}, 1, True)

    def step(self, method: str, values: Mapping[str, Any]) -> Step | None:
        """The largest step up to the batch asked for that fits, without checkpointing if it can be; else ``None``."""
        whole = self._needed(method, values, self.batch, False)
        if whole <= self.memory:
            return Step(self.batch, False, whole)
        least = self.least(method, values)
        if least > self.memory:
            return None
        checkpointed = self._needed(method, values, self.batch, True)
        if checkpointed <= self.memory:
            return Step(self.batch, True, checkpointed)
        return Step(1, True, least, self.batch)

    def base(self) -> str:
        """The tree's question ``base``."""
        if self.step("lora", {}) is not None:
            return "sixteen"
        return "four" if self.step("qlora", {}) is not None else "none"

    def full(self) -> str:
        """The tree's question ``full``."""
        return "yes" if self.step("full", {}) is not None else "no"


def room_of(situation: Situation) -> Room:
    """Rows as long as the situation says, on its device. Each simulation is run once per process."""
    return Room(situation, simulating)


def simulating(situation: Situation) -> Needed:
    """The simulation as a function of what changes."""

    def needed(method: str, values: Mapping[str, Any], batch: int, checkpointing: bool) -> int:
        asked = StepRequest(
            situation.model, method, values, Setting(batch, situation.seq), checkpointing=checkpointing
        )
        return _simulated(asked.on(situation.hardware))

    return needed


@lru_cache(maxsize=512)
def _simulated(request: StepRequest) -> int:
    key = kept.key(request)
    known = kept.simulations().get(key)
    if known is None:
        known = fits.needed(simulate(request))
    kept.note(key, known)
    return known
