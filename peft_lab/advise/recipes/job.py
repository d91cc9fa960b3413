"""The job that a recipe is for."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from peft_lab.core.errors import BadInput, UnknownName
from peft_lab.methods import get_method
from peft_lab.models.catalogue import catalogue
from peft_lab.models.shapes import ModelKind, ModelShape

#: What a model can be trained for, by key.
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
#: For a model that writes, all these are one loss on answers of some length: sources on one serve for all.
ANSWERS = ("sft", "extraction", "style", "classification")
#: Objectives of encoders, which write no text.
OF_ENCODERS = ("classification", "extraction", "embedding", "cpt")
BILLION = 1_000_000_000
_USUAL_BATCH = 16


@dataclass(frozen=True)
class Job:
    """A method on a model for an objective.

    Attributes:
        values: all knobs of the method.
        rows: of training data. row_tokens: average tokens of a row, answer included.
        group: answers that are sampled for a row's prompt and compared; 1 where a row has its own.
        batch: rows of one optimizer step over all devices, if fixed; ``None`` asks for advice.
        dtype, checkpointing: of a simulated step, if there is one.
        fixed: knobs that are fixed already. They are kept, with what the sources say beside them.
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
        """Return the kind of the model."""
        return self.shape.kind

    @property
    def parameters(self) -> int:
        """Return the parameters of the base model."""
        return self.shape.total

    @property
    def tokens(self) -> int:
        """Return the tokens of the training data, each counted once."""
        return self.rows * self.row_tokens

    @property
    def low_rank(self) -> bool:
        """Return whether the method trains LoRA's matrices."""
        return get_method(self.method).low_rank

    @property
    def live(self) -> bool:
        """Return whether the model is one of the small ones that this lab trains."""
        entry = catalogue().get(self.shape.name)
        return entry is not None and entry.live

    @property
    def sequences(self) -> int:
        """Return the sequences trained on in an epoch: rows, or all answers to the rows' prompts."""
        return self.rows * self.group

    @property
    def steps_per_epoch(self) -> int:
        """Return the optimizer steps of one epoch."""
        return math.ceil(self.sequences / (self.batch or _USUAL_BATCH))

    def value(self, knob: str) -> Any:
        """Return a knob's value; ``None`` if the method has no such knob."""
        return self.values.get(knob)

    def answers(self) -> bool:
        """Return whether a model that writes is trained on answers to prompts."""
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
    """Return a checked job. ``values``: fixed knobs; the others get the method's defaults.

    Raises:
        UnknownName: the method or objective is unknown. BadInput: the model refuses it, or a number is below 1.
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
