"""What of a plan's step fits a device, simulated on one or split over several.

The questions are those of :mod:`peft_lab.choose.room`, of a split step as well, so that both pages say the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from math import ceil
from typing import Any

from peft_lab.choose import states
from peft_lab.choose.bounds import MARGIN, largest_rows
from peft_lab.choose.plan import readers
from peft_lab.choose.room import BFLOAT16, LOGIT_BYTES, Room
from peft_lab.choose.situation import Situation
from peft_lab.choose.step import SPLIT, TENSOR, Run, Step
from peft_lab.errors import Unsupported
from peft_lab.sharding import optimizing


def widths(situation: Situation, method: str) -> tuple[str, ...]:
    """Precisions in which a split step may remember weights, the one that loses nothing first."""
    if method != "full":
        return ("bfloat16",)
    hardware = situation.hardware
    known = hardware.kind != "cuda" or hardware.capability >= BFLOAT16  # or else it does not multiply it
    return ("float32", "bfloat16") if known else ("float32",)


def how_run(
    method: str,
    rows: int,
    checkpointing: bool,
    loss: str = "whole",
    optimizer: str = "",
    packed: bool = False,
    dtype: str = "",
) -> Run:
    """One device's step as it is split: if nothing else is wanted with AdamW, as bitsandbytes' optimizers do not work
    on split parameters.

    ``dtype``: how weights are remembered; empty for the widest, which in training all of them is float32. Beside what
    is frozen, adapters are in float32 anyway.
    """
    dtype = dtype or ("float32" if method == "full" else "bfloat16")
    return Run(rows, checkpointing, optimizer or "adamw", dtype, loss, packed=packed)


def fitting(
    room: Room,
    situation: Situation,
    method: str,
    values: Mapping[str, Any],
    sharding: str,
    checkpointing: bool,
) -> tuple[Step | None, int]:
    """The step with the most rows that fit, up to a share of the batch, and the bytes that one row needs.

    Raises:
        BadInput, SimulationError: a method that cannot be applied or simulated so.
    """
    each = ceil(room.batch / readers(sharding, room.devices))
    if not sharding.startswith((SPLIT, TENSOR)):
        return _whole(_Place(room, situation, method, values, sharding, checkpointing, each))
    if reason := optimizing.why_not(room.optimizer or "adamw", TENSOR if sharding == TENSOR else SPLIT):
        raise Unsupported(reason, "optimizer")
    least = 0
    for dtype in widths(situation, method):
        run = how_run(method, 1, checkpointing, optimizer=room.optimizer, dtype=dtype)
        step, least = _split(room, situation, method, values, replace(run, sharding=sharding), each)
        if step is not None:
            return step, least
    return None, least


def _split(
    room: Room, situation: Situation, method: str, values: Mapping[str, Any], run: Run, each: int
) -> tuple[Step | None, int]:
    """The same with weights remembered in one precision, as ``run`` says."""
    limit = room.usable_split
    least = room.share(method, values, run) if run.sharding == SPLIT else 0
    if least > limit:
        return None, least
    logits = int(MARGIN * LOGIT_BYTES * situation.pairs * situation.seq * situation.shape.vocab)
    for loss in dict.fromkeys(run.loss for run in room.states(method)):
        run = replace(run, loss=loss)

        def needs(rows: int, run: Run = run) -> int:
            return room.needs(method, values, replace(run, batch=rows))

        if loss == "chunked" and least - logits > limit:
            break  # a loss in chunks saves no more than that
        try:
            least = needs(1)
        except Unsupported:
            if loss == "whole":
                raise
            break  # no loss in chunks
        if least > limit:
            continue
        found = largest_rows(needs, each, limit)
        rows, taken = found if found is not None else (1, least)
        host = (
            room.needs(method, values, replace(run, batch=rows, in_main_memory=True)) if run.offloads else 0
        )
        return Step(
            rows, run.checkpointing, taken, ceil(each / rows), run.optimizer, run.dtype, run.sharding, host, loss,
            packed=room.packed,
        ), least  # fmt: skip
    return None, least


@dataclass(frozen=True)
class _Place:
    """Where a step with all of the model on each device is looked for.

    Attributes:
        each: the most rows of one device. offload: what the backward pass needs waits in main memory.
    """

    room: Room
    situation: Situation
    method: str
    values: Mapping[str, Any]
    sharding: str
    checkpointing: bool
    each: int
    offload: bool = False

    def needs(self, run: Run, rows: int, in_main_memory: bool = False) -> int:
        """Bytes of a step of so many rows, of the device or of main memory."""
        asked = replace(run, batch=rows, checkpointing=self.checkpointing, offload=self.offload)
        return self.room.needs(self.method, self.values, replace(asked, in_main_memory=in_main_memory))


def _whole(place: _Place) -> tuple[Step | None, int]:
    """In the cheapest of the states that fit, as the room has them; what the backward pass needs goes to main memory
    where nothing fits without."""
    if reason := optimizing.why_not(place.room.optimizer, place.sharding):
        raise Unsupported(reason, "optimizer")
    step, least = _in_place(place)
    if step is not None or not place.checkpointing:
        return step, least
    away, less = _in_place(replace(place, offload=True))
    return away, (less if away is not None else least)


def _in_place(place: _Place) -> tuple[Step | None, int]:
    """The same for one place of what the backward pass needs."""
    room, shape, method, values = place.room, place.situation.shape, place.method, place.values
    least = 0
    for run in room.states(method):
        buckets = states.buckets(shape, method, values, run.dtype) if room.devices > 1 else 0
        usable = room.usable - buckets
        weights = states.weights(shape, method, run)
        if weights > usable:
            least = weights + buckets
            continue
        asked = replace(run, checkpointing=place.checkpointing, offload=place.offload)
        if not room.may_help(method, values, asked, usable):
            continue
        needs = partial(place.needs, run)
        try:
            found = largest_rows(needs, place.each, usable, weights > usable / 2)
            least = needs(1) + buckets if found is None else least
        except Unsupported:
            if run.loss == "whole":
                raise
            continue  # no loss in chunks
        if found is not None:
            rows, taken = found
            return Step(
                rows, place.checkpointing, taken + buckets, ceil(place.each / rows), run.optimizer, run.dtype,
                place.sharding, needs(rows, True) if place.offload else 0, run.loss, packed=room.packed,
                offload=place.offload,
            ), taken + buckets  # fmt: skip
    return None, least
