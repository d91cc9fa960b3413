"""What a claim is: a quotation, and a check that works on a model and says what it found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

from peft_lab.errors import BadInput
from peft_lab.facts import Fact
from peft_lab.methods import get_method
from peft_lab.models.catalogue import readers_of_text, resolve
from peft_lab.models.shapes import ModelShape
from peft_lab.quiz.question import topics
from peft_lab.units import Source

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
        topic: as in :func:`peft_lab.quiz.question.topics`.
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
