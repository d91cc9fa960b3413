"""The job that a recipe is for, and the rules by which sources speak of its settings."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from peft_lab.core.errors import BadInput, UnknownName
from peft_lab.engine import published
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


# ----------------------------------------
# One source on one setting: a function of the job, with its citation and its range of validity.


#: A source's single figure is read as half to twice that figure: sweeps move in steps of two to three, and no
#: source looked between two steps. (LoRA's best rate moved by less than two between rank 4 and 512.)
GRAIN = 2.0
#: Optimizers that rates were measured with. Each rate is for its own only: each scales gradients differently.
#: AdamW stands for Adam too, which differs in decay, and for 8-bit and paged moments, which replace 32-bit ones without
#: a change of hyperparameters (8-bit Optimizers, abstract).
ADAMW, ADAFACTOR = "AdamW", "Adafactor"


@dataclass(frozen=True)
class Said:
    """What a source says for one job: the value that it used, and the range if it gives one."""

    value: Any
    low: float | None = None
    high: float | None = None

    @property
    def band(self) -> tuple[float, float] | None:
        """Return the range that it allows; ``None`` if the value is no number."""
        if isinstance(self.value, bool | str) or not isinstance(self.value, int | float):
            return None
        least = 1 if isinstance(self.value, int) else 0  # there is no half epoch and no half row
        low = max(self.value / GRAIN, least) if self.low is None else self.low
        high = self.value * GRAIN if self.high is None else self.high
        return float(f"{low:.6g}"), float(f"{high:.6g}")

    def allows(self, value: Any) -> bool:
        """Return whether a value agrees with it."""
        band = self.band
        if band is None or isinstance(value, bool | str) or not isinstance(value, int | float):
            return bool(value == self.value)
        return band[0] * (1 - 1e-9) <= value <= band[1] * (1 + 1e-9)


@dataclass(frozen=True)
class Rule:
    """One source on one setting.

    Attributes:
        field: the setting.
        source: the reference. place: where in it. measured: on which models and data.
        says: returns what it says for a job, or ``None`` outside its range.
        optimizer: with which a learning rate was measured; without meaning for other settings.
        untestable: why this lab's small models cannot test it; empty if a sweep on them can.
    """

    id: str
    field: str
    source: str
    place: str
    measured: str
    says: Callable[[Job], Said | None]
    untestable: str = ""
    optimizer: str = ADAMW

    @property
    def citation(self) -> str:
        """Return the reference and the place in it."""
        return f"{self.source}, {self.place}" if self.place else self.source


SAYS = Callable[[Job], Said | None]
RULES: list[Rule] = []


def rule(
    field: str, source: str, place: str, measured: str, untestable: str = "", optimizer: str = ADAMW
) -> Callable[[SAYS], SAYS]:
    """Return a decorator that adds a function to the list of rules. Order matters: the first one wins a tie."""

    def enter(says: SAYS) -> SAYS:
        name = says.__name__.strip("_").replace("_", "-")
        RULES.append(Rule(name, field, source, place, measured, says, untestable, optimizer))
        return says

    return enter


def choose(found: Iterable[tuple[Rule, Said]]) -> Any:
    """Return the first rule's value if a second reference allows it, else what most references allow."""
    found = list(found)
    first = found[0][1].value
    if len(allowing(found, first)) > 1:
        return first
    return max((said.value for _, said in found), key=lambda value: len(allowing(found, value)))


def allowing(found: Iterable[tuple[Rule, Said]], value: Any) -> tuple[str, ...]:
    """Return the references that allow a value."""
    return tuple(dict.fromkeys(rule.source for rule, said in found if said.allows(value)))


def spanned(found: Iterable[tuple[Rule, Said]]) -> tuple[float, float] | None:
    """Return the range of all that any rule allows; ``None`` if no value is a number."""
    bands = [said.band for _, said in found if said.band is not None]
    return (min(low for low, _ in bands), max(high for _, high in bands)) if bands else None


LARGE = "needs a model of billions of parameters"
OTHER_TASK = "this lab trains no such task"


def best_published(kind: str) -> Said | None:
    """Return the rate of the best row of a kind in the published comparison; ``None`` if it has none."""
    rows = [row for name, row in published.rows().items() if name.startswith(f"{kind}--")]
    return Said(max(rows, key=lambda row: row.accuracy).learning_rate) if rows else None
