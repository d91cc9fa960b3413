"""What a recipe is asked for."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from peft_lab.errors import BadInput, UnknownName
from peft_lab.methods import get_method
from peft_lab.models.catalogue import catalogue
from peft_lab.models.shapes import ModelKind, ModelShape

#: What a model can be trained for, in words.
OBJECTIVES: Mapping[str, str] = {
    "sft": "instruction following",
    "cpt": "continued pretraining",
    "classification": "classification",
    "extraction": "extraction",
    "embedding": "embedding",
    "preference": "preference training",
    "rl": "reinforcement learning",
    "style": "style",
}
#: For a model that writes these are one loss on answers of different length: what holds for one is used for all.
ANSWERS = ("sft", "extraction", "style", "classification")
#: What encoders, which write nothing, are trained for.
OF_ENCODERS = ("classification", "extraction", "embedding", "cpt")
BILLION = 1_000_000_000
_USUAL_BATCH = 16


@dataclass(frozen=True)
class Job:
    """A method on a model for an objective.

    Attributes:
        values: the method's knobs, all of them.
        rows: of training data. row_tokens: tokens of a row, answer included.
        group: answers that are written to a row's prompt and compared; 1 where a row has its own.
        batch: rows of one optimizer step over all devices, where that is settled; ``None`` asks for advice.
        dtype, checkpointing: of a simulated step, where there is one.
        fixed: knobs that are settled already. They are kept, and what the sources say is put beside them.
    """

    method: str
    shape: ModelShape
    objective: str
    rows: int
    row_tokens: int
    devices: int = 1
    batch: int | None = None
    dtype: str | None = None
    checkpointing: bool | None = None
    values: Mapping[str, Any] = field(default_factory=dict)
    fixed: frozenset[str] = frozenset()
    group: int = 1

    @property
    def kind(self) -> ModelKind:
        """Of the model."""
        return self.shape.kind

    @property
    def parameters(self) -> int:
        """Of the base model."""
        return self.shape.total

    @property
    def tokens(self) -> int:
        """Tokens of training data, each counted once."""
        return self.rows * self.row_tokens

    @property
    def low_rank(self) -> bool:
        """Whether the method trains LoRA's matrices."""
        return get_method(self.method).low_rank

    @property
    def live(self) -> bool:
        """Whether the model is one of the small ones that this lab trains."""
        entry = catalogue().get(self.shape.name)
        return entry is not None and entry.live

    @property
    def sequences(self) -> int:
        """What is trained on in an epoch: rows, or every answer to a row's prompt."""
        return self.rows * self.group

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps over the data once."""
        return math.ceil(self.sequences / (self.batch or _USUAL_BATCH))

    def value(self, knob: str) -> Any:
        """A knob's value, or ``None`` where the method has no such knob."""
        return self.values.get(knob)

    def answers(self) -> bool:
        """Whether a model that writes learns answers to prompts."""
        return self.kind != "encoder" and self.objective in ANSWERS


def job(
    method: str,
    shape: ModelShape,
    objective: str,
    rows: int = 10_000,
    row_tokens: int = 512,
    *,
    devices: int = 1,
    batch: int | None = None,
    dtype: str | None = None,
    checkpointing: bool | None = None,
    values: Mapping[str, Any] | None = None,
) -> Job:
    """A job, checked. ``values`` are settled knobs; the others are at the method's defaults.

    Raises:
        UnknownName: a method or an objective that is none. BadInput: a job that cannot be.
    """
    spec = get_method(method)
    if objective not in OBJECTIVES:
        raise UnknownName("objective", objective, OBJECTIVES, "objective")
    if shape.kind == "encoder" and objective not in OF_ENCODERS:
        raise BadInput(
            f"{shape.title} is an encoder and writes no text, so it is not trained for {OBJECTIVES[objective]}.",
            "objective",
        )
    if shape.kind in spec.refuses:
        raise BadInput(spec.refuses[shape.kind], "method")
    for name, number in (
        ("rows", rows),
        ("row_tokens", row_tokens),
        ("devices", devices),
        ("batch", batch or 1),
    ):
        if number < 1:
            raise BadInput(f"{name} is a whole number from 1 on; {number} is not.", name)
    complete = spec.complete(shape, values or {})
    settled = frozenset(values or ())
    return Job(
        method, shape, objective, rows, row_tokens, devices, batch, dtype, checkpointing, complete, settled
    )
