"""A training step as it is asked for, and as it was found to fit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from peft_lab.choose.bounds import Known
from peft_lab.choose.situation import Situation

DTYPE = "bfloat16"
SPLIT, OFFLOAD = "fsdp2", "+offload"
#: Every matrix split, and all devices read the same rows.
TENSOR = "tp"


@dataclass(frozen=True)
class Run:
    """How a step is run on each device.

    Attributes:
        dtype: of the weights as they are remembered. loss: whole or chunked.
        sharding: ``none``, where a device has all of the model; ``fsdp2``, ``fsdp2+offload`` or ``tp``, where it has a
            share.
        in_main_memory: whether bytes there are asked for, not those on the device.
        packed: whether rows of the data share each row of the step.
        offload: whether what the backward pass needs waits in main memory.
    """

    batch: int
    checkpointing: bool
    optimizer: str = "adamw"
    dtype: str = DTYPE
    loss: str = "whole"
    sharding: str = "none"
    in_main_memory: bool = False
    packed: bool = False
    offload: bool = False

    @property
    def split(self) -> bool:
        """Whether a device has a share of the model alone."""
        return self.sharding.startswith((SPLIT, TENSOR))

    @property
    def offloads(self) -> bool:
        """Whether its share waits in main memory."""
        return self.sharding.endswith(OFFLOAD)


#: method, values, how it is run -> bytes that the device must have
Needed = Callable[[str, Mapping[str, Any], Run], int]
#: What is needed on the situation's device, as a function of the rest.
Ask = Callable[[Situation], Needed]
#: What is known of a step on the situation's device with other rows and lengths.
Recall = Callable[[Situation, str, Mapping[str, Any], Run], Known]


@dataclass(frozen=True)
class Step:
    """A training step that fits.

    Attributes:
        batch: rows on each device. needed: bytes on each. accumulate: so many make the batch that was asked for.
        sharding: ``none``, ``ddp``, ``tp``, ``fsdp2``, or ``fsdp2+offload`` with ``host`` bytes in main memory for
            each device.
        bound: whether ``needed`` is what it needs at most, by the simulation of a larger step.
        packed: whether rows of the data share each of its rows.
        offload: whether what the backward pass needs waits in main memory, where ``host`` bytes are its.
    """

    batch: int
    checkpointing: bool
    needed: int
    accumulate: int = 1
    optimizer: str = "adamw"
    dtype: str = DTYPE
    sharding: str = "none"
    host: int = 0
    loss: str = "whole"
    bound: bool = False
    packed: bool = False
    offload: bool = False

    def run(self, batch: int) -> Run:
        """Return how it is run, with other rows."""
        return Run(
            batch, self.checkpointing, self.optimizer, self.dtype, self.loss, self.sharding, packed=self.packed,
            offload=self.offload,
        )  # fmt: skip

    @property
    def split(self) -> bool:
        """Whether each device has a share of the model alone."""
        return self.sharding.startswith((SPLIT, TENSOR))
