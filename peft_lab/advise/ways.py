"""The ways to run a step on the given devices, and what is counted of each: bytes, time, rows of an update.

Counting is instant. It rules out what cannot fit before anything is simulated, and orders what fits. Plan and
``memory --gpu`` trace a step's time instead.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from math import ceil
from typing import Any

from peft_lab.advise.recipes.job import OBJECTIVES, OF_ENCODERS, Job, job
from peft_lab.advise.recipes.recipe import Setting, recipe
from peft_lab.advise.simulating import OFFLOAD, SPLIT, TENSOR, Run, Step
from peft_lab.advise.situation import Situation
from peft_lab.engine.devices import THIS
from peft_lab.engine.sharding import tensor, wrap
from peft_lab.engine.timing import estimate, here
from peft_lab.engine.timing.kernels import SHEETS
from peft_lab.methods import get_method
from peft_lab.models.shapes import ModelShape

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
    tokens = situation.tokens * situation.pairs
    seconds = training_seconds(situation, method, values, step, situation.devices, tokens)
    return rounds(method, step), -negatives(situation, step.batch), 0.0 if seconds is None else sum(seconds)


def negatives(situation: Situation, rows: int) -> int:
    """Return each row's in-batch negatives if ``rows`` go through a device at once; 0 except for embeddings."""
    return rows - 1 if situation.purpose == "embedding" else 0


# ----------------------------------------
# Bytes of weights, gradients and moments.


BYTES_OF_DTYPE = {"bfloat16": 2, "float16": 2, "float32": 4}
ADAPTER = 8  # bytes per adapter parameter: weight and gradient in float32
#: Moments per weight that an optimizer keeps on the device at least, as wide as the weight. AdamW keeps two.
_KEPT: Mapping[str, float] = {
    "paged_adamw": 0, "paged_adamw8bit": 0, "adafactor": 0, "muon": 1, "lorafa": 0, "sgd": 0,
}  # fmt: skip
PACKED = 4.127 / 8  # bytes of a weight in NF4 with double quantisation (Dettmers et al. 2023, section 3)


def weight_bytes(shape: ModelShape, method: str, run: Run) -> int:
    """Return the bytes of the weights, in full fine-tuning with gradients and moments. A step needs more."""
    if method == "full":
        return states(shape, method, {}, run)
    if method == "qlora":
        return int(_packed(shape))
    return 2 * shape.total


def states(shape: ModelShape, method: str, values: Mapping[str, Any], run: Run) -> int:
    """Return the bytes of weights, gradients and moments."""
    if method == "full":
        each = BYTES_OF_DTYPE[run.dtype]
        return int(shape.total * (2 * each + _moments(run.optimizer, each)))
    spec = get_method(method)
    trained = spec.formula(shape, spec.complete(shape, values)).trainable
    return int(weight_bytes(shape, method, run) + (ADAPTER + _moments(run.optimizer, 4)) * trained)


def _moments(optimizer: str, width: int) -> float:
    """Return the bytes of moments per weight of ``width`` bytes: two 8-bit moments, or some as wide as it."""
    return 2 if optimizer == "adamw8bit" else width * _KEPT.get(optimizer, 2)


def copies(shape: ModelShape, method: str, dtype: str) -> int:
    """Return the bytes of the 16-bit weight copies that autocast multiplies with, beside weights in float32."""
    return 2 * shape.total if method == "full" and dtype == "float32" else 0


def buckets(shape: ModelShape, method: str, values: Mapping[str, Any], dtype: str) -> int:
    """Return the bytes of the buffers in which devices average gradients: one more copy of the gradients."""
    spec = get_method(method)
    trained = spec.formula(shape, spec.complete(shape, values)).trainable
    return trained * (BYTES_OF_DTYPE[dtype] if method == "full" else 4)


def _packed(shape: ModelShape) -> float:
    layers = sum(_size(group) for group in shape.matrices if group.layers)
    return layers * PACKED + 2 * (shape.total - layers)


def _size(group: Any) -> int:
    size: int = group.in_features * group.out_features * group.count
    return size


# ----------------------------------------
# How long a training takes: its steps' work at the device's speed, as :mod:`peft_lab.engine.timing` has it.


#: Lower and upper ratio of traced to counted step times (tests/engine/timing/test_counted.py).
COUNTED = (0.97, 1.45)


def training_seconds(
    situation: Situation, method: str, values: Mapping[str, Any], step: Step, devices: int, tokens: float
) -> tuple[float, float] | None:
    """Return lower and upper seconds for so many tokens; ``None`` if the device's speed is unknown, and for
    mixtures of experts, whose products are not counted."""
    shape, device, length = situation.shape, situation.device, situation.seq
    if device not in SHEETS and (device != THIS or here.known() is None):
        return None
    if shape.mixtures:  # a router's choices are not counted; Plan traces them
        return None
    spec = get_method(method)
    formula = spec.formula(shape, spec.complete(shape, values))
    trainable, full = formula.trainable, method == "full"
    others = (devices - 1) / devices
    once = 2 * others * trainable * BYTES_OF_DTYPE[step.dtype if full else "float32"]
    # whole models average gradients once per update; split ones are gathered in each pass
    gathered = 2 * shape.total if full else weight_bytes(shape, method, step.run(step.batch))
    sent = others * 2 * gathered + once / 2 if step.split else once / step.accumulate
    work = estimate.counted_work(
        shape,
        trainable,
        step.batch,
        length,
        adapted=0.0 if full else estimate.adapted_maps(formula),
        full=full,
        packed=method == "qlora",
        checkpointing=step.checkpointing,
        bus=2.0 * step.host,
        passes=step.accumulate,
        chunked=step.loss == "chunked",
    )
    one = estimate.seconds(work, device, devices, situation.link or "pcie", sent)
    steps = tokens / (step.batch * length * devices)
    return one.low * COUNTED[0] * steps, one.high * COUNTED[1] * steps


# ----------------------------------------
# How many rows an update reads, and the maximum that one device takes at once.


#: Minimum updates per epoch if there are enough rows: the lab's own choice.
UPDATES = 10


def readers(sharding: str, devices: int) -> int:
    """Return how many of the devices read rows of their own: all, or one where matrices are split."""
    return 1 if sharding == TENSOR else devices


def job_of(situation: Situation, method: str, values: Mapping[str, Any], **step: Any) -> Job:
    """Return the job to look up a recipe for. All knobs are fixed, as the step is simulated with them.

    ``step``: precision and checkpointing, if there is a step.
    """
    shape, objective = situation.shape, situation.purpose
    if (shape.kind == "encoder" and objective not in OF_ENCODERS) or objective not in OBJECTIVES:
        objective = "classification"
    tokens = situation.row_tokens or situation.seq
    return job(
        method, shape, objective, situation.rows, tokens, devices=situation.devices, values=values, **step
    )


def answers(settings: Mapping[str, Setting]) -> int:
    """Return the number of answers per prompt that a recipe trains on; 1 where a row has its own."""
    return int(settings["group"].value) if "group" in settings else 1


def most_rows(
    situation: Situation, method: str, values: Mapping[str, Any], sharding: str, packed: int = 0
) -> int:
    """Return the maximum rows of a step on a device at once: its share of an update, or fewer if an epoch would
    hardly have an update. An update reads as many rows as the sources use, or more if the situation asks for more.

    ``packed``: rows of the step that all data rows fill together; 0: each data row is one.

    Raises:
        BadInput: the method cannot be applied to the model with these values.
    """
    reading = readers(sharding, situation.devices)
    found = recipe(job_of(replace(situation, devices=reading), method, values))
    wanted = max(int(found["batch"].value), situation.batch or 1)
    share = int(wanted * packed / (situation.rows * reading)) if packed else ceil(wanted / reading)
    rows = packed or situation.rows * answers(found.settings)
    return max(1, min(share, rows // (UPDATES * reading)))
