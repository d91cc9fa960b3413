"""What fits on the devices: answers come from simulating the training step, none from a rule of thumb.

What does not fit is made smaller in the order of what that costs: fewer rows at once with accumulation, checkpointing,
an 8-bit optimizer, a loss in chunks, weights remembered in 16 bits. A base in 4 bits is another method and stands in
the tree. A step that is split is simulated as such (:mod:`peft_lab.sharding`), unless its states alone are too much.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from math import ceil, inf
from typing import Any

from peft_lab.choose import states
from peft_lab.choose.bounds import MARGIN, bounds, decided, largest_rows
from peft_lab.choose.simulating import recalling, simulating
from peft_lab.choose.situation import Situation
from peft_lab.choose.step import OFFLOAD, SPLIT, TENSOR, Ask, Recall, Run, Step
from peft_lab.errors import Unsupported
from peft_lab.memory.setting import LOSSES
from peft_lab.models.catalogue import resolve
from peft_lab.training.chunked import altered

BFLOAT16 = (8, 0)  # compute capability from which a GPU multiplies it
#: Kept free: more than the simulation was off at any published peak, and twice as much where a step is split: NCCL's
#: buffers are in none of its figures.
HEADROOM, HEADROOM_SPLIT = 0.05, 0.10
#: Of one logit at most: itself in 16 bits; in 32 its copy, its logarithm and their gradients (bench/RESULTS.md).
LOGIT_BYTES = 2 + 4 + 4 + 4 + 4
#: How a model says that it cannot take its loss so.
_NO_CHUNKS: Mapping[str, tuple[type[Exception], ...]] = {"whole": (), "chunked": (Unsupported,)}


class Room:
    """Asks whether steps fit.

    ``ask`` is the simulation, or in tests something that stands for it; ``recall``: what was simulated already;
    ``optimizer``: what is wanted, empty for AdamW, in 8 bits where it must be. ``packed``: rows share those of a step.
    """

    def __init__(
        self, situation: Situation, ask: Ask, memory: int | None = None, recall: Recall | None = None,
        optimizer: str = "", packed: bool = False) -> None:  # fmt: skip
        self._situation, self._ask, self._recall = situation, ask, recall
        self._needed, self.optimizer, self.packed = ask(situation), optimizer, packed
        self.batch, self.devices = situation.batch, situation.devices
        self.memory = situation.hardware.memory if memory is None else memory

    @property
    def usable(self) -> int:
        """Bytes of a device's memory that a plan may take."""
        return int(self.memory * (1 - HEADROOM))

    @property
    def usable_split(self) -> int:
        """Of a step that is split."""
        return int(self.memory * (1 - HEADROOM_SPLIT))

    @staticmethod
    def memory_for(needed: int) -> int:
        """The least memory of a device on which so many bytes may be taken."""
        return ceil(needed / (1 - HEADROOM))

    def with_memory(self, memory: int) -> Room:
        """The same questions for a device that differs in its memory alone."""
        return Room(self._situation, self._ask, memory, self._recall, self.optimizer, self.packed)

    def for_model(self, situation: Situation) -> Room:
        """The same device for a situation with another model, or with other rows."""
        return Room(situation, self._ask, self.memory, self._recall, self.optimizer, self.packed)

    def needs(self, method: str, values: Mapping[str, Any], run: Run) -> int:
        """Bytes on one device. A preference is two sequences a row."""
        asked = replace(run, batch=run.batch * self._situation.pairs, packed=self.packed)
        return self._needed(method, values, asked) + self._copies(method, run)

    def _copies(self, method: str, run: Run) -> int:
        """What the simulation of one device leaves out, or of its part of each matrix; that of FSDP2 has it."""
        kind = run.sharding.partition(OFFLOAD)[0]
        part = 0 if run.in_main_memory else {SPLIT: 0, TENSOR: 1 / self.devices}.get(kind, 1)
        return int(part * states.copies(self._situation.shape, method, run.dtype))

    def between(self, method: str, values: Mapping[str, Any], run: Run) -> tuple[float, float]:
        """Bytes on one device at least and at most, without asking the simulation."""
        ran = replace(run, packed=self.packed)
        known = self._recall(self._situation, method, values, ran) if self._recall else {}
        shape, rows, seq = self._situation.shape, run.batch * self._situation.pairs, self._situation.seq
        if not known:
            return float(0 if run.split else states.weights(shape, method, run)), inf
        # a split step's peak is in the passes or in the optimizer's step: no line over rows, but it only grows
        if run.split:
            share = self.share(method, values, run)
            each = [bounds({size: needed}, share, rows, seq) for size, needed in known.items()]
            return max(low for low, _ in each), min(high for _, high in each)
        copies = self._copies(method, run)
        low, high = bounds(known, states.weights(shape, method, run), rows, seq)
        return low + copies, high + copies

    def share(self, method: str, values: Mapping[str, Any], run: Run) -> int:
        """Bytes of weights, gradients and moments that each device has of a split step at least."""
        if run.offloads:
            return 0
        return states.states(self._situation.shape, method, values, run) // self.devices

    def may_help(self, method: str, values: Mapping[str, Any], run: Run, limit: int) -> bool:
        """Whether a loss in chunks can make one row fit where a whole one did not: it saves the logits alone."""
        if run.loss == "whole":
            return True
        tokens = self._situation.pairs * self._situation.seq
        logits = int(MARGIN * LOGIT_BYTES * tokens * self._situation.shape.vocab)  # the allocator rounds
        one = replace(run, batch=1, loss="whole")
        known = decided(self.between(method, values, one), limit + logits)
        return self.needs(method, values, one) - logits <= limit if known is None else known

    def least(self, method: str, values: Mapping[str, Any] | None = None) -> int:
        """Bytes of the smallest step on one device, what :meth:`smallest` tries last."""
        values, states, needed = values or self.usual(method), list(self.states(method)), list[int]()
        for loss in LOSSES:
            run = next((run for run in reversed(states) if run.loss == loss), None)
            if run is not None:
                with suppress(*_NO_CHUNKS[loss]):
                    needed.append(self.needs(method, values, replace(run, batch=1, checkpointing=True)))
        return min(needed)

    def step(self, method: str, values: Mapping[str, Any]) -> Step | None:
        """The step that costs least of those that fit, up to the batch asked for; else ``None``."""
        return self.held(method, values) or self.offloaded(method, values)

    def held(self, method: str, values: Mapping[str, Any]) -> Step | None:
        """As :meth:`step`, with everything on the devices."""
        each = ceil(self.batch / self.devices)
        for run in self.states(method):
            found = self._alone(method, values, run, each) or self._split(method, values, run, each, SPLIT)
            if found is not None:
                return found
        return None

    def offloaded(self, method: str, values: Mapping[str, Any]) -> Step | None:
        """With what is split in main memory, where the optimizer runs too. Of full fine-tuning it would crawl."""
        if method == "full":
            return None
        each = ceil(self.batch / self.devices)
        found = (self._split(method, values, run, each, SPLIT + OFFLOAD) for run in self.states(method))
        return next((step for step in found if step is not None), None)

    def alone(self, method: str, values: Mapping[str, Any]) -> Step | None:
        """As :meth:`step`, where each device has all of the model."""
        each = ceil(self.batch / self.devices)
        found = (self._alone(method, values, run, each) for run in self.states(method))
        return next((step for step in found if step is not None), None)

    def smallest(self, method: str, values: Mapping[str, Any]) -> Step | None:
        """Whether anything fits: one row on each device, checkpointed, with the cheapest states, where each has all of
        the model; else split.

        Where a larger step that was simulated fits, it needs no simulation of its own (``bound``).
        """
        if (found := self._smallest_alone(method, values)) is not None or self.devices == 1:
            return found
        kinds = [SPLIT] if method == "full" else [SPLIT, SPLIT + OFFLOAD]
        split = (self._split(method, values, run, 1, kind) for kind in kinds for run in self.states(method))
        return next((step for step in split if step is not None), None)

    def _smallest_alone(self, method: str, values: Mapping[str, Any]) -> Step | None:
        ways = [replace(run, batch=1, checkpointing=True) for run in self.states(method)]
        buckets = self._buckets(method, values, ways[-1])
        limit = self.usable - buckets
        if states.weights(self._situation.shape, method, ways[-1]) > limit:
            return None
        kind = "ddp" if self.devices > 1 else "none"
        for loss in LOSSES:
            run = next((run for run in reversed(ways) if run.loss == loss), None)
            if run is None or not self.may_help(method, values, run, limit):
                continue
            low, high = self.between(method, values, run)
            known = decided((low, high), limit)
            if known is False:
                continue
            with suppress(*_NO_CHUNKS[loss]):
                needed = (
                    int(high * MARGIN if low < high else high) if known else self.needs(method, values, run)
                )
                if needed <= limit:
                    bound = bool(known) and low < high
                    return Step(
                        1, True, needed + buckets, ceil(self.batch / self.devices), run.optimizer, run.dtype, kind,
                        loss=loss, bound=bound,
                    )  # fmt: skip
        return None

    def _buckets(self, method: str, values: Mapping[str, Any], run: Run) -> int:
        """Bytes of what gradients are averaged in where each of several devices has all of the model."""
        return states.buckets(self._situation.shape, method, values, run.dtype) if self.devices > 1 else 0

    def base(self) -> str:
        """The tree's question ``base``.

        Where 4 bits fit on one device, that is less trouble than to split 16 bits over a slow link.
        """
        values = self.usual("lora")
        if self.devices == 1:
            if self.smallest("lora", values) is not None:
                return "sixteen"
            return "four" if self.smallest("qlora", {}) is not None else "none"
        if self.alone("lora", values) is not None:
            return "sixteen"
        if self._situation.link != "nvlink" and self.alone("qlora", {}) is not None:
            return "four"
        if self.held("lora", values) is not None:
            return "sixteen"
        if self.step("qlora", {}) is not None:
            return "four"
        return "none" if self.offloaded("lora", values) is None else "sixteen"

    def full(self) -> str:
        """The tree's question ``full``."""
        return "yes" if self.smallest("full", {}) is not None else "no"

    def states(self, method: str) -> Iterator[Run]:
        """How weights and moments are kept, what costs least first."""
        entry = resolve(self._situation.model)
        chunks = entry.kind == "causal-lm" and not altered(entry.config.get("text_config") or entry.config)
        losses = LOSSES if chunks else LOSSES[:1]
        if self.optimizer:
            widths = ("float32", "bfloat16") if method == "full" else ("bfloat16",)
            yield from (Run(1, False, self.optimizer, width, loss) for width in widths for loss in losses)
            return
        if method != "full":
            for loss in losses:
                yield Run(1, False, loss=loss)
                if method == "qlora":  # as in its paper
                    yield Run(1, False, "paged_adamw8bit", loss=loss)
            return
        for loss in losses:
            yield Run(1, False, "adamw", "float32", loss)
            yield Run(1, False, "adamw8bit", "float32", loss)
        hardware = self._situation.hardware
        if hardware.kind != "cuda" or hardware.capability >= BFLOAT16:
            yield from (Run(1, False, loss=loss) for loss in losses)

    def usual(self, method: str) -> Mapping[str, Any]:
        """The values of a method where none are given: LoRA's are those of the usual advice."""
        from peft_lab.choose.leaves import ADVICE

        return ADVICE["lora"].knobs(self._situation.shape) if method == "lora" else {}

    def _alone(self, method: str, values: Mapping[str, Any], run: Run, each: int) -> Step | None:
        """With all of the model on each device: whole, fewer rows, checkpointed, both; embeddings need their rows."""
        fewer: Step | None = None
        buckets = self._buckets(method, values, run)
        limit = self.usable - buckets
        weights = states.weights(self._situation.shape, method, run)
        if weights > limit:
            return None
        for checkpointing in (False, True):
            if not self.may_help(method, values, replace(run, checkpointing=checkpointing), limit):
                continue

            def needs(rows: int, checkpointing: bool = checkpointing) -> int:
                return self.needs(method, values, replace(run, batch=rows, checkpointing=checkpointing))

            def between(rows: int, checkpointing: bool = checkpointing) -> tuple[float, float]:
                return self.between(method, values, replace(run, batch=rows, checkpointing=checkpointing))

            try:
                found = largest_rows(needs, each, limit, weights > limit / 2, between)
            except _NO_CHUNKS[run.loss]:
                return None
            if found is not None:
                rows, needed = found
                step = Step(
                    rows, checkpointing, needed + buckets, ceil(each / rows), run.optimizer, run.dtype,
                    "ddp" if self.devices > 1 else "none", loss=run.loss,
                )  # fmt: skip
                if self._situation.purpose != "embedding" or rows == each:
                    return step
                fewer = step if fewer is None or rows > fewer.batch else fewer
        return fewer

    def _split(
        self, method: str, values: Mapping[str, Any], run: Run, each: int, sharding: str
    ) -> Step | None:
        """With weights, gradients and moments split over the devices, checkpointed."""
        if self.devices == 1 or not splits(method, run):
            return None
        run, limit = replace(run, checkpointing=True, sharding=sharding), self.usable_split
        share = self.share(method, values, run)
        if share > limit or not self.may_help(method, values, run, limit):
            return None

        def needs(rows: int) -> int:
            return self.needs(method, values, replace(run, batch=rows))

        def between(rows: int) -> tuple[float, float]:
            return self.between(method, values, replace(run, batch=rows))

        try:
            found = largest_rows(needs, each, limit, share > limit / 2, between)
        except _NO_CHUNKS[run.loss]:
            return None
        if found is None:
            return None
        rows, needed = found
        host = self.needs(method, values, replace(run, batch=rows, in_main_memory=True))
        return Step(
            rows, True, needed, ceil(each / rows), run.optimizer, run.dtype, sharding, host, loss=run.loss
        )


def splits(method: str, run: Run) -> bool:
    """Whether a step is split so: with AdamW, as bitsandbytes' optimizers do not work on split parameters, and in full
    fine-tuning with weights in float32."""
    return run.optimizer == "adamw" and (method != "full" or run.dtype == "float32")


def room_of(situation: Situation, optimizer: str = "", packed: bool = False) -> Room:
    """Rows as long as the situation says, on its device. Each simulation is run once per process."""
    return Room(situation, simulating, recall=recalling, optimizer=optimizer, packed=packed)
