"""Find the ways to run a step on the given devices, and what fits: by simulating the training step, never by a rule
of thumb.

In each way to run a step (:mod:`peft_lab.advise.room`), the step with the most rows that fit is taken, up to a
device's share of an update. Its states are made smaller, cheapest change first: an 8-bit optimizer, a loss in
chunks, 16-bit weights. A 4-bit base is another method, with its own place in the tree. A split step is simulated
as such (:mod:`peft_lab.engine.sharding`), unless its states alone are too much. Choose and Plan both ask here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import astuple, replace
from math import ceil, inf
from typing import Any

from peft_lab.advise.recipes.recipe import RecipeSetting, recipe
from peft_lab.advise.recipes.rules import OBJECTIVES, OF_ENCODERS, Job, job
from peft_lab.advise.simulating import (
    MARGIN,
    OFFLOAD,
    SPLIT,
    TENSOR,
    Ask,
    OverRuns,
    Recall,
    Step,
    StepRun,
    bounds,
    decided,
    largest_rows,
    over_run,
    recalling,
    simulating,
    splits,
    unequal,
)
from peft_lab.advise.situation import Situation
from peft_lab.core.errors import Unsupported
from peft_lab.engine.devices import HEADROOM, HEADROOM_SPLIT, THIS
from peft_lab.engine.request import COMPUTING, LOSSES, WIDTHS, Reserved
from peft_lab.engine.sharding import tensor, wrap
from peft_lab.engine.timing import estimate, here
from peft_lab.engine.timing.kernels import SHEETS
from peft_lab.methods import get_method
from peft_lab.models.catalogue import resolve
from peft_lab.models.shapes import ModelShape
from peft_lab.training.optimizers import altered

# Counting is instant. It rules out what cannot fit before anything is simulated, and orders what fits. Plan and
# ``memory --gpu`` trace a step's time instead.


#: The sharding, and whether activations are checkpointed.
Way = tuple[str, bool]
#: What a way decides of a step; how weights and moments are kept decides the rest.
_WAY = ("batch", "checkpointing", "sharding", "offload")


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
    """Return whether no other way can be better: all rows go through at once, small updates are kept, each device
    holds the whole model, and nothing is computed twice.
    """
    return step.batch >= most and not (step.checkpointing or step.split or rounds(method, step))


def rounds(method: str, step: Step) -> bool:
    """Return whether rounding loses small updates: full fine-tuning of weights kept in 16 bits."""
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


#: Moments per weight that an optimizer keeps on the device at least, as wide as the weight. AdamW keeps two.
_KEPT: Mapping[str, float] = {
    "paged_adamw": 0, "paged_adamw8bit": 0, "adafactor": 0, "muon": 1, "lorafa": 0, "sgd": 0,
}  # fmt: skip
PACKED = 4.127 / 8  # bytes of a weight in NF4 with double quantisation (Dettmers et al. 2023, section 3)


def weight_bytes(shape: ModelShape, method: str, run: StepRun) -> int:
    """Return the bytes of the weights, in full fine-tuning with gradients and moments. A step needs more."""
    if method == "full":
        return states(shape, method, {}, run)
    if method == "qlora":
        return int(_packed(shape))
    return 2 * shape.total


def states(shape: ModelShape, method: str, values: Mapping[str, Any], run: StepRun) -> int:
    """Return the bytes of weights, gradients and moments."""
    if method == "full":
        each = WIDTHS[run.dtype]
        return int(shape.total * (2 * each + _moments(run.optimizer, each)))
    spec = get_method(method)
    trained = spec.formula(shape, spec.complete(shape, values)).trainable
    each = trained_width(method, run)
    return int(weight_bytes(shape, method, run) + (2 * each + _moments(run.optimizer, each)) * trained)


def _moments(optimizer: str, width: int) -> float:
    """Return the bytes of moments per weight of ``width`` bytes: two 8-bit moments, or some as wide as it."""
    return 2 if optimizer == "adamw8bit" else width * _KEPT.get(optimizer, 2)


def copies(shape: ModelShape, method: str, dtype: str) -> int:
    """Return the bytes of the 16-bit weight copies that autocast multiplies with, beside weights in float32."""
    return 2 * shape.total if method == "full" and dtype == "float32" else 0


def trained_width(method: str, run: StepRun) -> int:
    """Return the bytes of a trained parameter, as its gradient has them too."""
    return WIDTHS[run.dtype if method == "full" else run.adapter_dtype or "float32"]


def buckets(shape: ModelShape, method: str, values: Mapping[str, Any], run: StepRun) -> int:
    """Return the bytes of the buffers in which devices average gradients: one more copy of the gradients."""
    spec = get_method(method)
    return spec.formula(shape, spec.complete(shape, values)).trainable * trained_width(method, run)


def _packed(shape: ModelShape) -> float:
    layers = sum(_size(group) for group in shape.matrices if group.layers)
    return layers * PACKED + 2 * (shape.total - layers)


def _size(group: Any) -> int:
    size: int = group.in_features * group.out_features * group.count
    return size


# ----------------------------------------
# How long a training takes: its steps' work at the device's speed, as :mod:`peft_lab.engine.timing` has it.


#: Lower and upper ratio of traced to counted step times (tests/engine/timing/test_fitted.py).
COUNTED = (0.97, 1.45)


def training_seconds(
    situation: Situation, method: str, values: Mapping[str, Any], step: Step, devices: int, tokens: float
) -> tuple[float, float] | None:
    """Return lower and upper seconds for that many tokens; ``None`` if the device's speed is unknown, and for
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
    once = 2 * others * trainable * trained_width(method, step)
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


def answers(settings: Mapping[str, RecipeSetting]) -> int:
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


#: Share of a device's memory below which a step counts as holding runs over rows of unequal length too, unasked: before
#: the allocator fails it gives back the segments that nothing uses. In 30 simulated cases from 0.64 to 0.95 (Llama 3.1
#: 8B on an RTX 4090, Llama 3.2 3B on a T4) each run fitted; a run takes two seconds to simulate.
TIGHT = 0.9
BFLOAT16 = (8, 0)  # lowest compute capability that multiplies in bfloat16
#: Maximum bytes of one logit: 16 bits; in 32 its copy, its logarithm and their gradients (bench/RESULTS.md).
LOGIT_BYTES = 2 + 4 + 4 + 4 + 4
#: The exceptions by which a model refuses a loss.
_NO_CHUNKS: Mapping[str, tuple[type[Exception], ...]] = {"whole": (), "chunked": (Unsupported,)}


class Room:
    """Answers whether steps fit.

    ``ask``: the simulation, or a substitute in tests. ``recall``: earlier results. ``optimizer``: empty for AdamW,
    in 8 bits where necessary. ``packed``: rows of a step that all data rows fill; 0: each data row is one.
    ``precision``, ``adapter_dtype``: as of a step's setting; empty for those of the scripts. ``over_run``: what runs
    over rows of unequal length reserve, which must be within the memory; None: only single steps are asked for.
    """

    def __init__(
        self, situation: Situation, ask: Ask, memory: int | None = None, recall: Recall | None = None,
        optimizer: str = "", packed: int = 0, precision: str = "", adapter_dtype: str = "",
        over_run: OverRuns | None = None) -> None:  # fmt: skip
        self._situation, self._ask, self._recall, self._over_run = situation, ask, recall, over_run
        self._needed, self.optimizer, self.packed = ask(situation), optimizer, packed
        self.precision, self.adapter_dtype = precision, adapter_dtype
        self.devices = situation.devices
        self.memory = situation.hardware.memory if memory is None else memory

    @property
    def usable(self) -> int:
        """Return the bytes of a device's memory that a plan may use."""
        return int(self.memory * (1 - HEADROOM))

    @property
    def usable_split(self) -> int:
        """Return the bytes of a device's memory that a split step may use."""
        return int(self.memory * (1 - HEADROOM_SPLIT))

    @staticmethod
    def memory_for(needed: int) -> int:
        """Return the least memory of a device on which so many bytes may be used."""
        return ceil(needed / (1 - HEADROOM))

    def with_memory(self, memory: int) -> Room:
        """Return the room for a device that differs only in its memory."""
        return self._other(self._situation, memory)

    def for_model(self, situation: Situation) -> Room:
        """Return the room on the same device for another situation: another model, or other rows."""
        return self._other(situation, self.memory)

    def _other(self, situation: Situation, memory: int) -> Room:
        return Room(
            situation, self._ask, memory, self._recall, self.optimizer, self.packed, self.precision,
            self.adapter_dtype, self._over_run,
        )  # fmt: skip

    def needs(self, method: str, values: Mapping[str, Any], run: StepRun) -> int:
        """Return the bytes that a step needs on one device. A preference has two sequences per row."""
        return self._needed(method, values, self._simulated(run)) + self._copies(method, run)

    def _simulated(self, run: StepRun) -> StepRun:
        return replace(run, batch=run.batch * self._situation.pairs, packed=bool(self.packed))

    def over_run(
        self, method: str, values: Mapping[str, Any], run: StepRun, needed: int
    ) -> tuple[Reserved | None, int]:
        """Return what runs of a step over rows of unequal length reserve beside the most that they may; ``None`` as in
        :func:`peft_lab.advise.simulating.over_run`, and if the step needs too little to matter."""
        beside = self._copies(method, run) + (0 if run.split else self._buckets(method, values, run))
        capacity = self.memory - beside
        if self._over_run is None or needed < TIGHT * self.memory:
            return None, capacity
        once = replace(run, accumulates=False)  # runs are simulated with one pass per update
        more = 0
        if run.accumulates and unequal(self._situation):
            more = self.needs(method, values, run) - self.needs(method, values, once)
        found = self._over_run(self._situation, method, values, self._simulated(once), capacity - more)
        return found and Reserved(*(one + more for one in astuple(found))), capacity

    def _copies(self, method: str, run: StepRun) -> int:
        """Return the bytes of autocast's copies, which the simulation of one device omits unless a precision was asked
        for; FSDP2's has them."""
        if run.precision:
            return 0
        kind = run.sharding.partition(OFFLOAD)[0]
        part = 0 if run.in_main_memory else {SPLIT: 0, TENSOR: 1 / self.devices}.get(kind, 1)
        return int(part * copies(self._situation.shape, method, run.dtype))

    def between(self, method: str, values: Mapping[str, Any], run: StepRun) -> tuple[float, float]:
        """Return bounds on the bytes on one device, without asking the simulation."""
        if run.accumulates:
            return self._between_passes(method, values, run)
        ran = replace(run, packed=bool(self.packed))
        known = self._recall(self._situation, method, values, ran) if self._recall else {}
        shape, rows, seq = self._situation.shape, run.batch * self._situation.pairs, self._situation.seq
        if not known:
            return float(0 if run.split else weight_bytes(shape, method, run)), inf
        # a split step peaks in the passes or the optimizer's step: not linear in rows, but never falling
        if run.split:
            share = self.share(method, values, run)
            each = [bounds({size: needed}, share, rows, seq) for size, needed in known.items()]
            return max(low for low, _ in each), min(high for _, high in each)
        copies = self._copies(method, run)
        low, high = bounds(known, weight_bytes(shape, method, run), rows, seq)
        return low + copies, high + copies

    def _between_passes(self, method: str, values: Mapping[str, Any], run: StepRun) -> tuple[float, float]:
        """Return :meth:`between` of a step that keeps gradients: from one pass to all of them more."""
        ran = self._simulated(run)
        known = self._recall(self._situation, method, values, ran) if self._recall else {}
        size = (ran.batch, self._situation.seq)
        if size in known:
            needed = float(known[size] + self._copies(method, run))
            return needed, needed
        low, high = self.between(method, values, replace(run, accumulates=False))
        kept = buckets(self._situation.shape, method, values, run)
        return low, high + kept / (self.devices if run.split else 1)

    def share(self, method: str, values: Mapping[str, Any], run: StepRun) -> int:
        """Return the bytes of weights, gradients and moments that a device of a split step holds at least."""
        if run.offloads:
            return 0
        return states(self._situation.shape, method, values, run) // self.devices

    def may_help(self, method: str, values: Mapping[str, Any], run: StepRun, limit: int) -> bool:
        """Return whether one row may fit with this loss. Chunks save no more than the logits: a step that is too
        large without them needs no simulation.
        """
        if run.loss == "whole":
            return True
        tokens = self._situation.pairs * self._situation.seq
        logits = int(MARGIN * LOGIT_BYTES * tokens * self._situation.shape.vocab)  # the allocator rounds
        one = replace(run, batch=1, loss="whole")
        known = decided(self.between(method, values, one), limit + logits)
        return self.needs(method, values, one) - logits <= limit if known is None else known

    def least(
        self, method: str, values: Mapping[str, Any] | None = None, sharding: str = "none", away: bool = False,
        checkpointing: bool = True) -> int:  # fmt: skip
        """Return the bytes of the smallest step; ``away``: with what the backward pass needs in main memory."""
        return self.leanest(method, values or self.usual(method), sharding, away, checkpointing)[0]

    def leanest(
        self, method: str, values: Mapping[str, Any], sharding: str = "none", away: bool = False,
        checkpointing: bool = True) -> tuple[int, StepRun]:  # fmt: skip
        """Return the bytes of the smallest step, as :meth:`least`, and that step as it is simulated."""
        found = list[tuple[int, StepRun]]()
        for run in self._one_row(method, sharding):
            run = replace(run, sharding=sharding, offload=away, checkpointing=checkpointing)
            with suppress(*_NO_CHUNKS[run.loss]):
                found.append((self.needs(method, values, run), self._simulated(run)))
        return min(found, key=lambda one: one[0])

    def _one_row(self, method: str, sharding: str = "none") -> list[StepRun]:
        """Return the smallest step with each loss: one row, checkpointed, in the last of :meth:`states`."""
        last = {run.loss: run for run in self.states(method, sharding)}
        return [replace(last[loss], batch=1, checkpointing=True) for loss in LOSSES if loss in last]

    def least_between(self, method: str) -> tuple[float, float]:
        """Return bounds on :meth:`least`, without asking the simulation; equal if it is known."""
        lows, highs = zip(
            *(self.between(method, self.usual(method), run) for run in self._one_row(method)), strict=True
        )
        return min(lows), min(highs)

    def least_of_all(self, method: str) -> int:
        """Return the bytes below which no step of a method fits one device, wherever activations are."""
        here = self.least(method)
        return min(here, self.least(method, away=True)) if self._situation.hardware.kind == "cuda" else here

    def step(self, method: str, values: Mapping[str, Any]) -> Step | None:
        """Return the first of the steps that fit, by :func:`peft_lab.advise.room.order`; ``None`` where none does."""
        for group in self.ways(method, values):
            found = list[Step]()
            for sharding, checkpointing in group:
                if any(leaves_nothing(method, one, self.most(method, values, one.sharding)) for one in found):
                    break
                step = self.fit(method, values, sharding, checkpointing)[0]
                found += [step] if step is not None else []
            if found:
                return min(found, key=lambda step: order(self._situation, method, values, step))
        return None

    def ways(self, method: str, values: Mapping[str, Any]) -> Iterator[tuple[Way, ...]]:
        """Yield groups of ways to run a step, as :func:`peft_lab.advise.room.ways`."""
        return ways(self._situation, method, values, self.optimizer)

    def most(self, method: str, values: Mapping[str, Any], sharding: str) -> int:
        """Return the most rows of a step on each device."""
        return most_rows(self._situation, method, values, sharding, self.packed)

    def fit(
        self, method: str, values: Mapping[str, Any], sharding: str, checkpointing: bool, most: int = 0
    ) -> tuple[Step | None, int]:
        """Return the step with the most rows that fit in one way, and its bytes, or the least that one row needs.

        Its states are the first of :meth:`states` that fit. What the backward pass needs goes to main memory only
        if a checkpointed step on whole models does not fit otherwise. Full fine-tuning keeps gradients from one pass to
        the next: where they do not fit, an update reads the rows of one pass.

        Args:
            most: maximum rows per device; 0 for its share of an update.

        Raises:
            Unsupported: the optimizer cannot run so. BadInput, SimulationError: the method cannot be applied or
            simulated so.
        """
        if reason := refused(self.optimizer, sharding):
            raise Unsupported(reason, "optimizer")
        most = most or self.most(method, values, sharding)
        way = StepRun(1, checkpointing, sharding=sharding)
        everything = checkpointing and not splits(sharding) and self._situation.hardware.kind == "cuda"
        for once in (False, True) if method == "full" and most > 1 else (False,):
            step, least = self._fit(method, values, way, most, once)
            if step is None and everything:
                step, less = self._fit(method, values, replace(way, offload=True), most, once)
                least = less if step is not None else min(filter(None, (least, less)), default=0)
            if step is not None:
                break
        return step, least

    def _fit(
        self, method: str, values: Mapping[str, Any], way: StepRun, most: int, once: bool = False
    ) -> tuple[Step | None, int]:
        """Do :meth:`fit` with what the backward pass needs in one given place: the device or main memory.

        ``once``: updates read only the rows of one pass, which keeps no gradients for the next one.
        """
        least, shape, full = 0, self._situation.shape, method == "full"
        for kept in self.states(method, way.sharding):
            run = replace(kept, **{name: getattr(way, name) for name in _WAY})
            buckets = 0 if run.split else self._buckets(method, values, run)
            limit = (self.usable_split if run.split else self.usable) - buckets
            floor = self.share(method, values, run) if run.split else weight_bytes(shape, method, run)
            if floor > limit:
                least = floor + buckets
                continue
            if not self.may_help(method, values, run, limit):
                continue

            def of(rows: int, run: StepRun = run) -> StepRun:
                return replace(run, batch=rows, accumulates=full and not once and rows < most)

            def needs(rows: int, of: Callable[[int], StepRun] = of) -> int:
                return self.needs(method, values, of(rows))

            def between(rows: int, of: Callable[[int], StepRun] = of) -> tuple[float, float]:
                return self.between(method, values, of(rows))

            over: Reserved | None = None
            try:
                while found := largest_rows(needs, most, limit, floor > limit / 2, between):
                    over, capacity = self.over_run(method, values, of(found[0]), found[1])
                    if over is None or over.high <= capacity:
                        break
                    limit = max(found[1] - (over.high - capacity), needs(1))
                    if limit >= found[1]:
                        found = None
                        break
                if found is None:
                    low = between(1)[0]
                    least = buckets + (int(low / MARGIN) if low > limit * MARGIN else needs(1))
                    least = max(least, self.memory + over.high - capacity if over else 0)
                    continue
            except Unsupported:
                if run.loss == "whole":
                    raise
                continue  # the model has no chunked loss
            rows, needed = found
            there = replace(run, batch=rows, in_main_memory=True)
            host = self.needs(method, values, there) if run.offload or run.offloads else 0
            needed += buckets
            passes = 1 if once else ceil(most / rows)
            return run.step(
                needed, batch=rows, accumulate=passes, host=host, packed=bool(self.packed), over=over
            ), needed
        return None, least

    def smallest(self, method: str, values: Mapping[str, Any]) -> Step | None:
        """Return the smallest step that fits, or ``None``: a checkpointed row per device, on whole models if possible.

        If the simulation of a larger step shows that it fits, it is not simulated itself (``bound``).
        """
        if (found := self._smallest_alone(method, values)) is not None:
            return found
        for group in self.ways(method, values):
            for sharding, checkpointing in group:
                found = self.fit(method, values, sharding, True, 1)[0] if checkpointing else None
                if found is not None:
                    return found
        return None

    def _smallest_alone(self, method: str, values: Mapping[str, Any]) -> Step | None:
        runs = self._one_row(method)
        buckets = self._buckets(method, values, runs[-1])
        limit = self.usable - buckets
        kind = "ddp" if self.devices > 1 else "none"
        if refused(self.optimizer, kind) or weight_bytes(self._situation.shape, method, runs[-1]) > limit:
            return None
        for run in runs:
            if not self.may_help(method, values, run, limit):
                continue
            low, high = self.between(method, values, run)
            known = decided((low, high), limit)
            if known is False:
                continue
            with suppress(*_NO_CHUNKS[run.loss]):
                bound = bool(known) and low < high
                most = int(high * MARGIN if bound else high) if known else self.needs(method, values, run)
                if most > limit:
                    continue
                over, capacity = self.over_run(method, values, run, most)
                if over is None or over.high <= capacity:
                    return run.step(
                        most + buckets, sharding=kind, packed=bool(self.packed), bound=bound, over=over
                    )
        return None

    def _buckets(self, method: str, values: Mapping[str, Any], run: StepRun) -> int:
        """Return the bytes of gradient buckets if each of several devices holds the whole model, else 0."""
        return buckets(self._situation.shape, method, values, run) if self.devices > 1 else 0

    def base(self) -> str:
        """Return the answer to the tree's question ``base``.

        If 4 bits fit on one device, that is preferred to splitting 16 bits over a slow link.
        """
        values = self.usual("lora")
        if self._smallest_alone("lora", values) is not None:
            return "sixteen"
        if self._situation.link != "nvlink" and self._smallest_alone("qlora", {}) is not None:
            return "four"
        if self.devices > 1 and self.fit("lora", values, SPLIT, True, 1)[0] is not None:
            return "sixteen"
        if self.smallest("qlora", {}) is not None:
            return "four"
        return "none" if self.smallest("lora", values) is None else "sixteen"

    def full(self) -> str:
        """Return the answer to the tree's question ``full``."""
        return "yes" if self.smallest("full", {}) is not None else "no"

    def states(self, method: str, sharding: str = "none") -> Iterator[StepRun]:
        """Yield the ways to keep weights and moments, cheapest first, in the requested precision. Autocast trains
        weights that are stored in float32."""
        asked = COMPUTING[self.precision]
        stored = asked.stored or ("float32" if asked.autocast and method == "full" else "")
        adapters = self.adapter_dtype if method != "full" else ""
        found = (replace(run, dtype=stored or run.dtype) for run in self._kept(method, sharding))
        yield from dict.fromkeys(
            replace(run, precision=self.precision, adapter_dtype=adapters) for run in found
        )

    def _kept(self, method: str, sharding: str) -> Iterator[StepRun]:
        """Yield the ways in the scripts' own precision. Split steps use AdamW or the requested optimizer: those of
        bitsandbytes do not work on split parameters."""
        entry = resolve(self._situation.model)
        chunks = entry.kind == "causal-lm" and not altered(entry.config.get("text_config") or entry.config)
        losses = LOSSES if chunks else LOSSES[:1]
        hardware = self._situation.hardware
        multiplies = hardware.kind != "cuda" or hardware.capability >= BFLOAT16
        if method != "full":
            for loss in losses:
                yield StepRun(1, False, self.optimizer or "adamw", loss=loss)
                if method == "qlora" and not (self.optimizer or splits(sharding)):
                    yield StepRun(1, False, "paged_adamw8bit", loss=loss)  # as in its paper
            return
        if self.optimizer or splits(sharding):
            widths = ("float32", "bfloat16") if multiplies else ("float32",)
            name = self.optimizer or "adamw"
            yield from (StepRun(1, False, name, width, loss) for width in widths for loss in losses)
            return
        for loss in losses:
            yield StepRun(1, False, "adamw", "float32", loss)
            yield StepRun(1, False, "adamw8bit", "float32", loss)
        if multiplies:
            yield from (StepRun(1, False, loss=loss) for loss in losses)

    def usual(self, method: str) -> Mapping[str, Any]:
        """Return a method's knobs if none are given: LoRA's are those of the usual advice."""
        from peft_lab.advise.tree import ADVICE

        return ADVICE["lora"].knobs(self._situation.shape) if method == "lora" else {}


def room_of(situation: Situation, **asked: Any) -> Room:
    """Return the room for a situation, with its rows on its device; ``asked``: other arguments of the room. Each
    simulation runs once per process."""
    return Room(situation, simulating, recall=recalling, over_run=over_run, **asked)
