"""The simulation of a step as Choose and Plan ask it: once per process, and what ships is not run at all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from peft_lab.choose import kept
from peft_lab.choose.bounds import Known
from peft_lab.choose.situation import Situation
from peft_lab.choose.step import TENSOR
from peft_lab.memory import fits
from peft_lab.memory.kernels import stands_for
from peft_lab.memory.request import StepRequest
from peft_lab.memory.setting import Setting
from peft_lab.memory.simulate import bytes_needed, simulate
from peft_lab.sharding.how import Sharding
from peft_lab.sharding.result import ShardedResult
from peft_lab.sharding.simulate import simulate_sharded

if TYPE_CHECKING:
    from peft_lab.choose.step import Needed, Run


def simulating(situation: Situation) -> Needed:
    """The simulation as a function of what changes."""

    def needed(method: str, values: Mapping[str, Any], run: Run) -> int:
        asked, how = request(situation, method, values, run), sharding(situation, run)
        if how is None:
            return _waiting(asked) if run.in_main_memory else _simulated(asked)
        return _split(asked, how)[run.in_main_memory]

    return needed


def recalling(situation: Situation, method: str, values: Mapping[str, Any], run: Run) -> Known:
    """What ships, and what this process simulated, of a step with other rows and lengths."""
    return kept.family(request(situation, method, values, run), sharding(situation, run))


def request(situation: Situation, method: str, values: Mapping[str, Any], run: Run) -> StepRequest:
    """One device's step, the same for all devices on which it takes the same. ``run.batch``: sequences that go through
    at once."""
    setting = Setting(
        run.batch,
        situation.seq,
        optimizer=run.optimizer,
        loss=run.loss,
        packed=run.packed,
        offload=run.offload,
    )
    asked = StepRequest(situation.model, method, values, setting, run.dtype, run.checkpointing)
    card = situation.hardware
    return asked.on(replace(card, capability=stands_for(card.capability)) if card.kind == "cuda" else card)


def sharding(situation: Situation, run: Run) -> Sharding | None:
    """How a step is split over devices; ``None`` where each has all of it. Weights in float32 compute in 16 bits."""
    if not run.split:
        return None
    if run.sharding == TENSOR:
        return Sharding(TENSOR, situation.devices)
    mixed = run.dtype == "float32"
    return Sharding(
        "fsdp2", situation.devices, offload=run.offloads, compute="bfloat16" if mixed else None,
        reduce="float32" if mixed else None,
    )  # fmt: skip


@lru_cache(maxsize=512)
def _simulated(request: StepRequest) -> int:
    key = kept.key(request)
    known = kept.simulations().get(key)
    if known is None:
        known = bytes_needed(request)
    kept.note(key, known)
    return known


@lru_cache(maxsize=512)
def _waiting(request: StepRequest) -> int:
    """Bytes in main memory."""
    key = kept.key(request, in_main_memory=True)
    known = kept.simulations().get(key)
    if known is None:
        known = simulate(request).host_bytes
    kept.note(key, known)
    return known


@lru_cache(maxsize=512)
def _split(request: StepRequest, how: Sharding) -> tuple[int, int]:
    """Bytes on each device, and in main memory for each."""
    keys = [kept.key(request, how)]
    if how.offload:
        keys.append(kept.key(request, how, in_main_memory=True))
    found = [kept.simulations().get(key, -1) for key in keys]
    if min(found) < 0:
        real = split(request, how)
        found = [fits.needed(real), real.host_bytes][: len(keys)]
    for key, known in zip(keys, found, strict=True):
        kept.note(key, known)
    return found[0], found[1] if how.offload else 0


@lru_cache(maxsize=256)
def split(request: StepRequest, how: Sharding) -> ShardedResult:
    """All that the simulation of a split step says. Raises as :func:`peft_lab.sharding.simulate.simulate_sharded`."""
    return simulate_sharded(request, how)
