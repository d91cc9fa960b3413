"""What fits on the devices: answers come from simulating the training step, none from a rule of thumb.

What does not fit is made smaller in the order of what that costs: fewer rows at once with accumulation, checkpointing,
an 8-bit optimizer, weights remembered in 16 bits. A base in 4 bits is another method and stands in the tree. Split over
several devices a step is not simulated but estimated from the simulation of one: :mod:`peft_lab.choose.split`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from math import ceil
from typing import Any

from peft_lab.choose import kept, split
from peft_lab.choose.situation import Situation
from peft_lab.memory import fits
from peft_lab.memory.request import StepRequest
from peft_lab.memory.setting import Setting
from peft_lab.memory.simulate import simulate

DTYPE = "bfloat16"
BFLOAT16 = (8, 0)  # compute capability from which a GPU multiplies it
#: Kept free: more than the simulation was off at any published peak, and twice as much where it is an estimate.
HEADROOM, HEADROOM_ESTIMATED = 0.05, 0.10


@dataclass(frozen=True)
class Run:
    """How a step is run on one device. ``dtype``: of the weights as they are remembered."""

    batch: int
    checkpointing: bool
    optimizer: str = "adamw"
    dtype: str = DTYPE


#: method, values, how it is run -> bytes that the device must have
Needed = Callable[[str, Mapping[str, Any], Run], int]
#: What is needed on the situation's device, as a function of the rest.
Ask = Callable[[Situation], Needed]


@dataclass(frozen=True)
class Step:
    """A training step that fits.

    Attributes:
        batch: rows on each device. needed: bytes on each. accumulate: so many make the batch that was asked for.
        sharding: ``none``, ``ddp``, ``fsdp2``, or ``fsdp2+offload`` with ``host`` bytes in main memory.
        split_run: whether a split step was itself simulated.
    """

    batch: int
    checkpointing: bool
    needed: int
    accumulate: int = 1
    optimizer: str = "adamw"
    dtype: str = DTYPE
    sharding: str = "none"
    host: int = 0
    split_run: bool = False

    @property
    def estimated(self) -> bool:
        """Whether the figure is worked out from another step's simulation."""
        return self.sharding.startswith("fsdp2") and not self.split_run


class Room:
    """Asks whether steps fit. ``ask`` is the simulation, or in tests something that stands for it."""

    def __init__(self, situation: Situation, ask: Ask, memory: int | None = None) -> None:
        self._situation, self._ask = situation, ask
        self._needed = ask(situation)
        self.batch, self.devices = situation.batch, situation.devices
        self.memory = situation.hardware.memory if memory is None else memory

    @property
    def usable(self) -> int:
        """Bytes of a device's memory that a plan may take."""
        return int(self.memory * (1 - HEADROOM))

    @staticmethod
    def memory_for(needed: int) -> int:
        """The least memory of a device on which so many bytes may be taken."""
        return ceil(needed / (1 - HEADROOM))

    def with_memory(self, memory: int) -> Room:
        """The same questions for a device that differs in its memory alone."""
        return Room(self._situation, self._ask, memory)

    def for_model(self, situation: Situation) -> Room:
        """The same device for a situation with another model."""
        return Room(situation, self._ask, self.memory)

    def needs(self, method: str, values: Mapping[str, Any], run: Run) -> int:
        """Bytes on one device. A preference is two sequences a row."""
        asked = replace(run, batch=run.batch * self._situation.pairs)
        copies = split.copies(self._situation.shape, method, run.dtype)
        return self._needed(method, values, asked) + copies

    def least(self, method: str, values: Mapping[str, Any] | None = None) -> int:
        """Bytes of the smallest step on one device: one row, checkpointed, with the method's cheapest states."""
        run = list(self.states(method))[-1]
        return self.needs(
            method, self._values(method, values or {}), replace(run, batch=1, checkpointing=True)
        )

    def step(self, method: str, values: Mapping[str, Any]) -> Step | None:
        """The step that costs least of those that fit, up to the batch asked for; else ``None``."""
        each = ceil(self.batch / self.devices)
        for run in self.states(method):
            found = self._alone(method, values, run, each)
            if found is None and self.devices > 1:
                found = self._split(method, values, run, each)
            if found is not None:
                return found
        return None

    def alone(self, method: str, values: Mapping[str, Any]) -> Step | None:
        """As :meth:`step`, where each device has all of the model."""
        each = ceil(self.batch / self.devices)
        found = (self._alone(method, values, run, each) for run in self.states(method))
        return next((step for step in found if step is not None), None)

    def smallest(self, method: str, values: Mapping[str, Any]) -> Step | None:
        """Whether anything fits: one row, checkpointed, with the cheapest states; on several devices :meth:`step`."""
        if self.devices > 1:
            return self.step(method, values)
        run = replace(list(self.states(method))[-1], checkpointing=True)
        if split.weights(self._situation.shape, method, run) > self.usable:
            return None
        needed = self.needs(method, values, run)
        return Step(1, True, needed, self.batch, run.optimizer, run.dtype) if needed <= self.usable else None

    def base(self) -> str:
        """The tree's question ``base``.

        Where 4 bits fit on one device, that is less trouble than to split 16 bits over a slow link.
        """
        from peft_lab.choose.leaves import ADVICE

        values = ADVICE["lora"].knobs(self._situation.shape)
        if self.devices == 1:
            if self.smallest("lora", values) is not None:
                return "sixteen"
            return "four" if self.smallest("qlora", {}) is not None else "none"
        if self.alone("lora", values) is not None:
            return "sixteen"
        if self._situation.link != "nvlink" and self.alone("qlora", {}) is not None:
            return "four"
        split_over = self.step("lora", values)
        if split_over is not None and not split_over.host:
            return "sixteen"
        if self.step("qlora", {}) is not None:
            return "four"
        return "none" if split_over is None else "sixteen"

    def full(self) -> str:
        """The tree's question ``full``."""
        return "yes" if self.smallest("full", {}) is not None else "no"

    # -- the ladder ----------------------------------------------------------------------------------------------

    def states(self, method: str) -> Iterator[Run]:
        """How weights and moments are kept, what costs least first."""
        if method != "full":
            yield Run(1, False)
            if method == "qlora":  # as in its paper
                yield Run(1, False, "paged_adamw8bit")
            return
        yield Run(1, False, "adamw", "float32")
        yield Run(1, False, "adamw8bit", "float32")
        hardware = self._situation.hardware
        if hardware.kind != "cuda" or hardware.capability >= BFLOAT16:
            yield Run(1, False)

    def _values(self, method: str, values: Mapping[str, Any]) -> Mapping[str, Any]:
        if method != "lora" or values:
            return values
        from peft_lab.choose.leaves import ADVICE

        return ADVICE["lora"].knobs(self._situation.shape)

    def _alone(self, method: str, values: Mapping[str, Any], run: Run, each: int) -> Step | None:
        """With all of the model on each device: whole, fewer rows, checkpointed, both."""
        buckets = split.buckets(self._situation.shape, method, values, run.dtype) if self.devices > 1 else 0
        limit = self.usable - buckets
        weights = split.weights(self._situation.shape, method, run)
        if weights > limit:
            return None
        for checkpointing in (False, True):

            def needs(rows: int, checkpointing: bool = checkpointing) -> int:
                return self.needs(method, values, replace(run, batch=rows, checkpointing=checkpointing))

            found = self.largest_rows(needs, each, limit, weights > limit / 2)
            if found is not None:
                rows, needed = found
                return Step(
                    rows, checkpointing, needed + buckets, ceil(each / rows), run.optimizer, run.dtype,
                    "ddp" if self.devices > 1 else "none",
                )  # fmt: skip
        return None

    def _split(self, method: str, values: Mapping[str, Any], run: Run, each: int) -> Step | None:
        """With weights, gradients and moments split over the devices; at last with what is frozen in main memory."""
        shape, limit = self._situation.shape, int(self.memory * (1 - HEADROOM_ESTIMATED))
        states = split.states(shape, method, values, run)
        passing = split.gathered(shape, method)
        lora = self._values("lora", {}) if method == "full" else values

        def beside(rows: int) -> int:
            """What is there beside the states: of full fine-tuning what LoRA's step has, whose states are small."""
            other = Run(rows, True)
            of = "lora" if method == "full" else method
            return max(0, self.needs(of, lora, other) - split.states(shape, of, lora, other))

        shares = [("fsdp2", ceil(states / self.devices), 0)]
        if method != "full":
            shares.append(("fsdp2+offload", 0, states))
        for sharding, share, host in shares:
            found = self.largest_rows(beside, each, limit - share - passing)
            if found is not None:
                rows, needed = found
                return Step(
                    rows, True, share + passing + needed, ceil(each / rows), run.optimizer, run.dtype, sharding, host
                )  # fmt: skip
        return None

    @staticmethod
    def largest_rows(
        needs: Callable[[int], int], most: int, limit: int, tight: bool = False
    ) -> tuple[int, int] | None:
        """The most rows that fit, up to ``most``: all, one, or between them where a line through both says.

        ``tight``: one row is asked for first, as it may well be too much already.
        """
        least = needs(1) if most > 1 and tight else 0
        if least > limit:
            return None
        whole = needs(most)
        if whole <= limit:
            return most, whole
        least = least or (needs(1) if most > 1 else whole)
        if least > limit:
            return None
        rows = 1 + int((limit - least) * (most - 1) / (whole - least)) if whole > least else 1
        while rows > 1:
            rows = min(rows, most // 2)
            needed = needs(rows)
            if needed <= limit:
                return rows, needed
            rows //= 2
        return 1, least


def room_of(situation: Situation) -> Room:
    """Rows as long as the situation says, on its device. Each simulation is run once per process."""
    return Room(situation, simulating)


def simulating(situation: Situation) -> Needed:
    """The simulation as a function of what changes."""

    def needed(method: str, values: Mapping[str, Any], run: Run) -> int:
        setting = Setting(run.batch, situation.seq, optimizer=run.optimizer)
        asked = StepRequest(situation.model, method, values, setting, run.dtype, run.checkpointing)
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
