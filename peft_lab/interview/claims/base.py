"""What a claim is: a quotation, and a check that works on a model and says what it found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from math import sqrt
from typing import Any, Literal

from peft_lab.core.errors import BadInput
from peft_lab.core.facts import Fact
from peft_lab.core.units import Source
from peft_lab.interview.question import topics
from peft_lab.methods import get_method
from peft_lab.models.catalogue import readers_of_text, resolve
from peft_lab.models.shapes import ModelShape

Verdict = Literal["right", "imprecise", "wrong"]
VERDICTS: tuple[Verdict, ...] = ("right", "imprecise", "wrong")
Origin = Literal["text", "saying"]
FIRST = "llama-3.2-3b"


@dataclass(frozen=True)
class Found:
    """What a check found on one model.

    Attributes:
        verdict: follows from the figures wherever figures decide.
        found: the figures, in one or two sentences without a full stop at the end of the last.
        why: what explains them.
        values: the figures themselves, by name, as the machine found them.
        cited: published figures beside those of ``found``, as a sentence of the same kind; empty where there are none.
    """

    verdict: Verdict
    found: str
    why: str
    values: dict[str, float] = field(default_factory=dict)
    cited: str = ""


@dataclass(frozen=True)
class Subject:
    """The model a claim is checked on."""

    name: str

    @property
    def shape(self) -> ModelShape:
        return resolve(self.name).shape

    def trained(self, method: str, **values: Any) -> int:
        """Trainable parameters by the method's formula. Raises BadInput where it cannot be applied."""
        spec = get_method(method)
        return spec.formula(self.shape, spec.require(self.shape, values)).trainable

    def stored(self, method: str, **values: Any) -> int:
        """Stored parameters by the method's formula."""
        spec = get_method(method)
        return spec.formula(self.shape, spec.require(self.shape, values)).stored

    def total(self, method: str, **values: Any) -> int:
        """All parameters, those that the method adds included."""
        spec = get_method(method)
        return self.shape.total + spec.formula(self.shape, spec.require(self.shape, values)).added

    def share(self, method: str, **values: Any) -> float:
        """Trainable parameters in percent of all."""
        return 100 * self.trained(method, **values) / self.total(method, **values)


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One claim.

    Attributes:
        claim: what is meant, as a short sentence. quote: the words themselves.
        origin: ``text`` for the source text, ``saying`` for what is often said.
        topic: as in :func:`peft_lab.interview.question.topics`.
        check: works on a model. needs: ``torch`` for one that belongs into the inspector process.
        source: where what is found comes from. how: by which code or reference.
        model: on which model it is checked first; ``None`` where none matters.
        fits: which models it can be checked on.
        facts: what comes out of it, in the form that is compared with what leaves, questions and recipes say.
    """

    id: str
    claim: str
    quote: str
    topic: str
    check: Callable[[Subject], Found]
    source: Source
    how: str
    origin: Origin = "text"
    needs: Literal["shape", "torch"] = "shape"
    model: str | None = FIRST
    fits: Callable[[ModelShape], bool] = field(default=lambda shape: True)
    facts: tuple[Fact, ...] = ()

    @property
    def topic_order(self) -> int:
        return list(topics()).index(self.topic)

    def models(self) -> tuple[str, ...]:
        """Catalogue names of the models it can be checked on; empty when none matters."""
        if self.model is None:
            return ()
        return tuple(name for name, entry in readers_of_text().items() if self.fits(entry.shape))

    def on(self, model: str | None = None) -> Found:
        """What is found on a model, its own by default.

        Raises:
            BadInput: a model that it cannot be checked on. SimulationError: a step that cannot be simulated.
        """
        name = model or self.model or FIRST
        shape = resolve(name).shape
        if self.model is not None and not self.fits(shape):
            raise BadInput(
                f"This cannot be checked on {shape.title}; try {', '.join(self.models())}.", "model"
            )
        return self.check(Subject(name))

    @property
    def general(self) -> bool:
        """Whether it is checked on every model of the catalogue at once, and the verdict is about them all."""
        return self.needs == "shape" and self.model is not None


#: A claim about numbers of parameters.
counted = partial(
    Claim, source=Source.COUNTED, how="each method's formula on the model's shapes, checked against a count"
)


# ----------------------------------------
# How a verdict follows from a figure.


ABOUT = 0.25  # relative: what "about" still covers
SURE = 2  # standard errors: a smaller difference between two scores proves nothing
FACTOR = 10  # beyond this factor off a bound a claim is wrong rather than imprecise


def within(value: float, low: float, high: float) -> Verdict:
    """Right inside the bounds, imprecise less than a factor of ten outside, else wrong."""
    if low <= value <= high:
        return "right"
    return "imprecise" if low / FACTOR <= value <= high * FACTOR else "wrong"


def about(value: float, stated: float) -> Verdict:
    """Right within a quarter of what was stated, imprecise less than a factor of ten off, else wrong."""
    if abs(value - stated) <= ABOUT * stated:
        return "right"
    return within(value, stated, stated)


def both(first: bool, second: bool) -> Verdict:
    """Right when both parts hold, imprecise when one does, else wrong."""
    return "right" if first and second else "imprecise" if first or second else "wrong"


def holds(statement: bool) -> Verdict:
    """Right or wrong."""
    return "right" if statement else "wrong"


def error(first: float, second: float, rows: int) -> float:
    """The standard error of a difference between two shares of right answers, each out of ``rows``.

    >>> round(error(0.5, 0.5, 1_319), 4)
    0.0195
    """
    return sqrt((first * (1 - first) + second * (1 - second)) / rows)


def apart(difference: float, one_error: float) -> Verdict:
    """Right where a difference is above what chance explains, wrong where it is as far below, else imprecise.

    >>> [apart(difference, 1.0) for difference in (2.1, 1.9, -1.9, -2.1)]
    ['right', 'imprecise', 'imprecise', 'wrong']
    """
    return holds(difference > 0) if abs(difference) > SURE * one_error else "imprecise"
