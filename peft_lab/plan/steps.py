"""How long a step of a plan takes, on one device or split over several."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from peft_lab.choose import simulating, states
from peft_lab.choose.situation import Situation
from peft_lab.choose.step import SPLIT, TENSOR, Run, Step
from peft_lab.errors import UnknownName
from peft_lab.memory.request import StepRequest
from peft_lab.memory.setting import Setting
from peft_lab.memory.simulate import work_of
from peft_lab.memory.work import Work
from peft_lab.sharding.result import ShardedResult
from peft_lab.timing import estimate
from peft_lab.timing.estimate import Seconds


def split_step(
    situation: Situation, method: str, values: Mapping[str, Any], run: Run, sharding: str = SPLIT
) -> ShardedResult:
    """The split step with all that its simulation says. Raises as
    :func:`peft_lab.sharding.simulate.simulate_sharded`."""
    run = replace(run, batch=run.batch * situation.pairs, sharding=sharding)
    how = simulating.sharding(situation, run)
    assert how is not None
    return simulating.split(simulating.request(situation, method, values, run), how)


@dataclass(frozen=True)
class Pace:
    """How fast a plan goes.

    Attributes:
        update: seconds of one update, all of its passes. passes: how many. sent: bytes that a device sends in it.
        look: seconds of a pass over held-out rows, forward alone.
    """

    update: Seconds
    passes: int
    sent: float
    look: Seconds


@lru_cache(maxsize=256)
def _work(request: StepRequest) -> Work:
    return work_of(request)


def split_seconds(work: Work, split: ShardedResult, gpu: str, link: str) -> Seconds:
    """One step on each device, from the work of the step on one: where parameters are split, so is the optimizer's.

    Raises:
        UnknownName: a GPU or link of which no speed is known.
    """
    devices = split.sharding.devices
    if split.work:  # all that one of them does, matrices split
        return estimate.seconds(split.work, gpu, devices, link, split.sent_bytes, waits=True)
    passing, ending = parted(work)
    own = 1 / devices if split.sharding.runs == "fsdp2" else 1.0
    sent = split.sent_bytes
    return added(
        [
            estimate.seconds(passing, gpu, devices, link, sent, copied=split.copied_bytes),
            estimate.seconds(ending, gpu, devices, link).times(own),
        ]
    )


def parted(work: Work) -> tuple[Work, Work]:
    """The passes, and the optimizer's step after them."""
    passing = tuple(piece for piece in work if piece.phase != "optimizer")
    return passing, tuple(piece for piece in work if piece.phase == "optimizer")


def pace(
    situation: Situation, method: str, values: Mapping[str, Any], step: Step, accumulate: int, trainable: int
) -> Pace | None:
    """Seconds of one update on rows of average length; ``None`` for a device of which no speed is known.

    Raises:
        SimulationError: as :func:`peft_lab.memory.simulate.simulate`.
    """
    if step.sharding == TENSOR:
        return _by_matrices(situation, method, values, step, accumulate)
    passing, ending = parted(_traced(situation, method, values, step))
    apart = _traced(situation, method, values, replace(step, packed=False, offload=False))  # held-out rows
    looking = tuple(piece for piece in apart if piece.phase == "forward")
    share = (situation.devices - 1) / situation.devices
    each, once, own, ahead, copied = 0.0, 0.0, 1.0, 0.0, 0.0
    if step.split:
        one = split_step(situation, method, values, step.run(1), step.sharding)
        each, copied = one.sent_bytes, one.copied_bytes
        own = 1 / situation.devices  # each runs the optimizer on its own part
        # a layer is gathered twice in a pass, and once where there is no way back
        ahead = sum(sent.nbytes for sent in one.exchanges if sent.kind == "all-gather") * share / 2
    elif situation.devices > 1:
        once = 2 * share * states.BYTES[step.dtype if method == "full" else "float32"] * trainable

    def timed(part: Work, sent: float = 0.0, copied: float = 0.0) -> Seconds:
        link = link_of(situation)
        return estimate.seconds(part, situation.device, situation.devices, link, sent, copied=copied)

    try:
        last = timed(passing, each + once, copied)
        parts = [timed(passing, each, copied).times(accumulate - 1), last] if accumulate > 1 else [last]
        found = added([*parts, timed(ending).times(own)])
        look = timed(looking, ahead, copied / 2)
    except UnknownName:
        return None
    return Pace(found, accumulate, each * accumulate + once, look)


def _traced(situation: Situation, method: str, values: Mapping[str, Any], step: Step) -> Work:
    """What a step does on rows of average length, or on packed ones, which are full."""
    tokens = situation.seq if step.packed else min(situation.seq, situation.row_tokens or situation.seq)
    dtype = "bfloat16" if method == "full" else step.dtype  # products are made in 16 bits
    setting = Setting(
        step.batch * situation.pairs, tokens, optimizer=step.optimizer, loss=step.loss, packed=step.packed,
        offload=step.offload,
    )  # fmt: skip
    asked = StepRequest(situation.model, method, values, setting, dtype, step.checkpointing)
    return _work(asked.on(situation.hardware))


def _by_matrices(
    situation: Situation, method: str, values: Mapping[str, Any], step: Step, accumulate: int
) -> Pace | None:
    """As :func:`pace` where every matrix is split: what one device does of a step, and sums that are waited for."""
    run = replace(step, dtype="bfloat16", packed=False).run(step.batch)
    average = replace(situation, seq=min(situation.seq, situation.row_tokens or situation.seq))
    apart = split_step(average, method, values, run, TENSOR)  # held-out rows too
    one = split_step(situation, method, values, replace(run, packed=True), TENSOR) if step.packed else apart
    passing, ending = parted(one.work)
    looking = tuple(piece for piece in apart.work if piece.phase == "forward")
    # as much is summed up on the way back as forward, and again where a layer is made again for it
    ahead = apart.sent_bytes / (3 if step.checkpointing else 2)
    device, devices, link = situation.device, situation.devices, link_of(situation)
    try:
        made = estimate.seconds(passing, device, devices, link, one.sent_bytes, waits=True).times(accumulate)
        found = added([made, estimate.seconds(ending, device, devices, link)])
        look = estimate.seconds(looking, device, devices, link, ahead, waits=True)
    except UnknownName:
        return None
    return Pace(found, accumulate, one.sent_bytes * accumulate, look)


def link_of(situation: Situation) -> str:
    """What connects the devices, by its generation: Hopper's NVLink is the fourth."""
    newer = situation.device in ("h100", "h200")
    return "nvlink4" if situation.link == "nvlink" and newer else situation.link or "pcie"


def added(parts: list[Seconds]) -> Seconds:
    """One after the other. What takes most of all of them is the bottleneck."""
    sums: dict[str, float] = {}
    for part in parts:
        for name, seconds in part.parts.items():
            sums[name] = sums.get(name, 0.0) + seconds
    low, value, high = (sum(getattr(part, name) for part in parts) for name in ("low", "value", "high"))
    return Seconds(low, value, high, max(sums, key=sums.__getitem__), sums)
