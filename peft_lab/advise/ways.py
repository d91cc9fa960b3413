"""The ways to run a step on the given devices, and which of those that fit comes first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from peft_lab.advise import duration
from peft_lab.advise.simulating import OFFLOAD, SPLIT, TENSOR, Step
from peft_lab.advise.situation import Situation
from peft_lab.engine.sharding import tensor, wrap
from peft_lab.methods import get_method

#: The sharding, and whether activations are checkpointed.
Way = tuple[str, bool]


def ways(
    situation: Situation, method: str, values: Mapping[str, Any], optimizer: str
) -> Iterator[tuple[Way, ...]]:
    """Yield groups of ways: if anything in one fits, the next is not tried.

    First everything stays on the devices; then what is split waits in main memory, except in full fine-tuning,
    whose optimizer would crawl; last every matrix is split, which takes many sums and is timed only by tracing.
    """
    whole = ("none",) if situation.devices == 1 else ("ddp", SPLIT)
    yield tuple((kind, again) for kind in whole if not refused(optimizer, kind) for again in (False, True))
    if situation.devices == 1:
        return
    if method != "full" and not refused(optimizer, SPLIT):
        yield ((SPLIT + OFFLOAD, True),)
    why_not = tensor.why_not(situation.shape, get_method(method), values, situation.devices)
    if not why_not and not refused(optimizer, TENSOR):
        yield ((TENSOR, True),)


def refused(optimizer: str, sharding: str) -> str:
    """Return why an optimizer cannot run in a way; empty if it can."""
    kind = SPLIT if sharding.startswith(SPLIT) else sharding
    return wrap.why_not(optimizer or "adamw", kind)


def leaves_nothing(method: str, step: Step, most: int) -> bool:
    """Return whether no other way is worth a look: all rows go through at once, small updates are kept, each
    device holds the whole model, and nothing is computed twice."""
    return step.batch >= most and not (step.checkpointing or step.split or rounds(method, step))


def rounds(method: str, step: Step) -> bool:
    """Return whether small updates are lost: all weights learn, kept in the 16 bits they compute in."""
    return method == "full" and step.dtype != "float32"


def order(situation: Situation, method: str, values: Mapping[str, Any], step: Step) -> tuple[float, ...]:
    """Return a step's sort key among those that fit, best first: ways that keep small updates, then the most
    in-batch negatives, then the least time by the estimate from counted products.

    Only for embeddings are there negatives: each row is told apart from the others of its pass.
    """
    seconds = duration.training_seconds(
        situation.shape, method, values, step, situation.seq, situation.device, situation.devices,
        situation.tokens * situation.pairs, situation.link,
    )  # fmt: skip
    return rounds(method, step), -negatives(situation, step.batch), 0.0 if seconds is None else sum(seconds)


def negatives(situation: Situation, rows: int) -> int:
    """Return each row's in-batch negatives if ``rows`` go through a device at once; 0 except for embeddings."""
    return rows - 1 if situation.purpose == "embedding" else 0
