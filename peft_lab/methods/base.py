"""What a method is: knobs, checks, a closed formula, parts to draw, and how it is applied, saved and loaded.

A method is one folder with one :class:`MethodSpec`. Everything that needs no torch (knobs, checks, formula, parts) is
pure Python over a :class:`~peft_lab.models.shapes.ModelShape`, so that a page answers at once; the rest imports torch
and peft inside its functions and runs in worker processes.
"""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from peft_lab.core.errors import BadInput, UnknownName, Unsupported, echoed
from peft_lab.models.quantise import Quantization
from peft_lab.models.shapes import ModelKind, ModelShape

if TYPE_CHECKING:
    import torch
    from peft import PeftConfig


# ----------------------------------------
# Knobs: what a learner can set, with type, range and help, and the parsing of values from text.


Values = Mapping[str, Any]
KnobKind = Literal["int", "float", "bool", "choice", "modules", "text"]
_SENTENCE = re.compile(r"(?<!\bal)\.\s+")  # where one ends; not after "et al."
_YES, _NO = ("true", "yes", "1", "on"), ("false", "no", "0", "off")


@dataclass(frozen=True)
class Knob:
    """One setting of a method.

    Attributes:
        name: the PEFT config's own field name where PEFT has one.
        label: what stands at the control.
        kind: ``modules`` is a tuple of target names; its default is chosen per model by the method.
        help: what it does. ``usual``: the usual range. ``paper``: what the paper used.
        stops: when given, the slider offers these values only (any value in range stays valid).
        advanced: shown in a folded section.
        read_when: another knob and the values of it with which alone this one is read; ``None`` for one that always is.
        of: ``training`` for a setting of the optimizer, which leaves the model and its config as they are;
            ``application`` for what applying the method does beyond PEFT's config, such as starting from a text.
    """

    name: str
    label: str
    kind: KnobKind
    default: Any
    help: str
    usual: str = ""
    paper: str = ""
    min: float | None = None
    max: float | None = None
    choices: tuple[str, ...] = ()
    stops: tuple[float, ...] = ()
    advanced: bool = False
    read_when: tuple[str, tuple[Any, ...]] | None = None
    of: Literal["method", "training", "application"] = "method"

    @property
    def full_help(self) -> str:
        """The help with the usual range and the paper's value."""
        parts = [self.help]
        if self.usual:
            parts.append(f"Usual: {self.usual}.")
        if self.paper:
            parts.append(f"Paper: {self.paper}.")
        return " ".join(parts)

    def brief(self, value: Any) -> str:
        """One sentence of the help, for under the control: on ``value`` if there is one, else the first.

        >>> Knob("start", "Start", "choice", "a", "a: from zero. b: from noise (Li et al. 2021).").brief("b")
        'b: from noise (Li et al. 2021).'
        """
        sentences = [text.rstrip(".") + "." for text in _SENTENCE.split(self.help)]
        return next((text for text in sentences if text.startswith(f"{value}: ")), sentences[0])

    def check(self, value: Any) -> Any:
        """``value`` in its own type.

        Raises:
            BadInput: wrong type or out of range, with the range.

        >>> Knob("r", "Rank r", "int", 8, "Width.", min=1, max=1024).check(0)
        Traceback (most recent call last):
        peft_lab.core.errors.BadInput: Rank r must be from 1 to 1024; '0' is not.
        """
        if self.kind == "bool":
            if not isinstance(value, bool):
                raise self._bad(value, "is either true or false")
            return value
        if self.kind in ("int", "float"):
            return self._number(value)
        if self.kind == "choice":
            if value not in self.choices:
                raise self._bad(value, f"is one of {', '.join(self.choices)}")
            return value
        if self.kind == "modules":
            if isinstance(value, str):
                value = value.split(",")
            if not isinstance(value, Iterable):
                raise self._bad(value, "is a list of names")
            names = tuple(dict.fromkeys(str(name).strip() for name in value if str(name).strip()))
            return names
        if not isinstance(value, str):
            raise self._bad(value, "is a text")
        return value

    def _number(self, value: Any) -> float | int:
        wrong_type = isinstance(value, bool) or not isinstance(value, int | float)
        endless = isinstance(value, float) and not math.isfinite(value)
        if wrong_type or endless or (self.kind == "int" and value != int(value)):
            raise self._bad(value, "is a whole number" if self.kind == "int" else "is a number")
        if (self.min is not None and value < self.min) or (self.max is not None and value > self.max):
            raise self._bad(value, f"must be from {self.min:g} to {self.max:g}")
        return int(value) if self.kind == "int" else float(value)

    def parse(self, text: str) -> Any:
        """A value from its text on the command line or in an address: ``8``, ``true``, ``q_proj,v_proj``.

        Raises:
            BadInput: as :meth:`check`.

        >>> Knob("target_modules", "Target modules", "modules", (), "Which.").parse("q_proj, v_proj")
        ('q_proj', 'v_proj')
        >>> Knob("use_dora", "DoRA", "bool", False, "Magnitudes apart.").parse("yes")
        True
        """
        text = text.strip()
        if self.kind == "bool":
            if text.lower() not in _YES + _NO:
                raise self._bad(text, "is either true or false")
            return text.lower() in _YES
        if self.kind in ("int", "float"):
            try:
                number = float(text)
                return self.check(int(text) if self.kind == "int" else number)
            except ValueError:
                raise self._bad(text, "is a whole number" if self.kind == "int" else "is a number") from None
        return self.check(text)

    def _bad(self, value: Any, rule: str) -> BadInput:
        return BadInput(f"{self.label} {rule}; '{echoed(value)}' is not.", self.name)


def is_read(knob: Knob, knobs: Iterable[Knob], values: Values) -> bool:
    """Whether a knob says anything beside these values of the others; those that are not given have not been asked."""
    if knob.read_when is None:
        return True
    name, wanted = knob.read_when
    by_name = {other.name: other for other in knobs}
    return name not in values or (values[name] in wanted and is_read(by_name[name], by_name.values(), values))


def read(knobs: Iterable[Knob], values: Values) -> dict[str, Any]:
    """The values that say anything beside each other; two settings that agree in them are the same."""
    known = tuple(knobs)
    return {
        knob.name: values[knob.name] for knob in known if knob.name in values and is_read(knob, known, values)
    }


#: PEFT's names of what is trained. It has none for classifying images: there ``IMAGE_CLS`` stands for a config without
#: a task type that saves the head (:func:`peft_lab.methods.shared.peft_backed.config_of`).
TaskType = Literal["CAUSAL_LM", "SEQ_CLS", "FEATURE_EXTRACTION", "SEQ_2_SEQ_LM", "IMAGE_CLS"]
CLASSIFYING: tuple[TaskType, ...] = ("SEQ_CLS", "IMAGE_CLS")
_PLAIN_TASK: dict[ModelKind, TaskType] = {
    "causal-lm": "CAUSAL_LM",
    "encoder": "FEATURE_EXTRACTION",
    "seq2seq": "SEQ_2_SEQ_LM",
    "vision": "FEATURE_EXTRACTION",
}


@dataclass(frozen=True)
class Paper:
    """A reference, with the place in it where the method is defined; empty where no copy that numbers them was seen."""

    authors: str
    year: int
    title: str
    arxiv: str
    section: str = ""

    def __str__(self) -> str:
        return ", ".join(filter(None, (f"{self.authors} {self.year}", f"arXiv:{self.arxiv}", self.section)))

    @property
    def url(self) -> str:
        """The paper's page on arXiv."""
        return f"https://arxiv.org/abs/{self.arxiv}"


@dataclass(frozen=True)
class Problem:
    """Something the learner should know about a choice before anything runs. ``error`` blocks, ``warning`` does not."""

    field: str
    message: str
    level: Literal["error", "warning"] = "error"


@dataclass(frozen=True)
class Term:
    """One summand of a formula: ``count`` modules of ``each`` parameters.

    Attributes:
        module: group path with ``{}`` for the layer, as in :class:`~peft_lab.models.shapes.ModuleGroup`.
        expression: ``each`` as KaTeX with this model's numbers, such as ``16 \\cdot (3072 + 1024)``.
    """

    module: str
    expression: str
    each: int
    count: int

    @property
    def total(self) -> int:
        """Parameters of all its modules."""
        return self.each * self.count


@dataclass(frozen=True)
class Formula:
    """The closed form of a method's parameter count on one model.

    Attributes:
        symbolic: KaTeX with symbols, as in the paper.
        terms: the same with numbers; they sum to ``trainable``.
        added: parameters the method adds to the model (0 for BitFit: what it trains was there before).
        stored: parameters in the saved adapter.
    """

    symbolic: str
    terms: tuple[Term, ...]
    added: int
    stored: int

    @property
    def trainable(self) -> int:
        """Parameters that are trained, of all terms."""
        return sum(term.total for term in self.terms)


PartKind = Literal[
    "low_rank", "gate", "columns", "cells", "encoder", "bottleneck", "bias", "quantised", "trainable"
]


@dataclass(frozen=True)
class Part:
    """Something a method puts into the block, for the drawing.

    Attributes:
        kind: how it is drawn.
        at: path of the module group it sits on, or one of the places ``tokens``, ``attention``, ``ffn`` (after or
            beside the feed-forward part).
        label: what is written beside it.
        size: its numbers (``rank``, ``tokens``, ``width`` ...), so that it can be drawn to scale.
    """

    kind: PartKind
    at: str
    label: str
    size: Mapping[str, int]


class MethodSpec(ABC):
    """One PEFT method.

    Class attributes:
        slug: name in URLs, on the command line and in the registry.
        summary: one sentence under the page's title.
        refuses: model kinds it cannot run on, each with the reason in the learner's terms.
        learning_rates: the default per model kind, chosen so that 60 steps visibly learn on the live models.
        head_learning_rate: that of a task head, which starts at random and has to be learnt whatever the method;
            ``None``: the method's own.
        mergeable: whether it can be folded into the base's weights afterwards.
        low_rank: whether it adds what PEFT names ``lora_A`` and ``lora_B``.
        adds: whether it puts anything into the model. What trains the model's own parameters has nothing to merge.
    """

    slug: ClassVar[str]
    title: ClassVar[str]
    summary: ClassVar[str]
    paper: ClassVar[Paper]
    knobs: ClassVar[tuple[Knob, ...]]
    refuses: ClassVar[Mapping[ModelKind, str]] = {}
    learning_rates: ClassVar[Mapping[ModelKind, float]]
    head_learning_rate: ClassVar[float | None] = None
    mergeable: ClassVar[bool] = False
    low_rank: ClassVar[bool] = False
    adds: ClassVar[bool] = True
    order: ClassVar[int] = 100

    # -- knobs ---------------------------------------------------------------------------------------------------

    def knob(self, name: str) -> Knob:
        """Raises :class:`UnknownName` for a name that is none of this method's knobs."""
        for knob in self.knobs:
            if knob.name == name:
                return knob
        raise UnknownName(f"{self.title} knob", name, [knob.name for knob in self.knobs], name)

    def defaults(self, shape: ModelShape) -> dict[str, Any]:
        """Every knob's value before the learner moves any, on this model."""
        return {knob.name: knob.default for knob in self.knobs}

    def options(self, knob: Knob, shape: ModelShape) -> tuple[str, ...]:
        """Names to offer for a list of modules; none where this model has nothing for it to name."""
        names = (*shape.target_names, "all-linear", *self.defaults(shape)[knob.name])
        return tuple(dict.fromkeys(names))

    def complete(self, shape: ModelShape, values: Values) -> dict[str, Any]:
        """Defaults overlaid with ``values``, each checked for type and range.

        Raises:
            UnknownName: a name that is no knob. BadInput: a value out of range, with the range.
        """
        full = self.defaults(shape)
        for name, value in values.items():
            full[name] = self.knob(name).check(value)
        return full

    def problems(self, shape: ModelShape, values: Values) -> tuple[Problem, ...]:
        """Everything wrong or surprising about ``values`` on this model, found without building anything."""
        if shape.kind in self.refuses:
            return (Problem("model", self.refuses[shape.kind]),)
        try:
            full = self.complete(shape, values)
        except BadInput as error:
            return (Problem(error.field or "", str(error)),)
        return tuple(self.check(shape, full))

    def check(self, shape: ModelShape, values: Values) -> Iterable[Problem]:
        """The method's own checks, on complete values. None by default."""
        return ()

    def require(self, shape: ModelShape, values: Values) -> dict[str, Any]:
        """Complete values, or the first error raised as :class:`BadInput` (:class:`Unsupported` for the model kind)."""
        for problem in self.problems(shape, values):
            if problem.level == "error":
                kind = Unsupported if problem.field == "model" else BadInput
                raise kind(problem.message, problem.field)
        return self.complete(shape, values)

    # -- without torch -------------------------------------------------------------------------------------------

    @abstractmethod
    def formula(self, shape: ModelShape, values: Values) -> Formula:
        """The closed form, on complete and checked values. Head parameters are never part of it."""

    @abstractmethod
    def parts(self, shape: ModelShape, values: Values) -> tuple[Part, ...]:
        """What to draw into the block, on complete values (which may still have warnings)."""

    def quantization(self, values: Values) -> Quantization | None:
        """How the base is stored; ``None`` leaves it in the model's own precision."""
        return None

    def virtual_tokens(self, values: Values) -> int:
        """Positions the method takes up in front of the text; 0 for all but the prompt methods."""
        return 0

    def learning_rate(self, kind: ModelKind, values: Values) -> float:
        """The default learning rate: that of the model kind, unless a knob makes another method of it."""
        return self.learning_rates[kind]

    def rate_factor(self, parameter: str, values: Values) -> float:
        """What the learning rate of a trained parameter, by its name, is multiplied by: 1 unless a method says more."""
        return 1.0

    # -- with torch ----------------------------------------------------------------------------------------------

    @abstractmethod
    def apply(
        self, model: torch.nn.Module, shape: ModelShape, values: Values, task_type: TaskType
    ) -> torch.nn.Module:
        """Inject the method into a fresh base model (real or meta) and freeze the rest.

        Args:
            model: a transformers model, changed in place. Wrapping one base twice is a mistake: start from a fresh one.
            values: complete and checked.
            task_type: ``SEQ_CLS`` and ``IMAGE_CLS`` keep the classification head trainable and save it with the
                adapter.

        Returns:
            the model to train: same call signature, ``generate`` included, trainable parameters marked.
        """

    @abstractmethod
    def save(self, model: torch.nn.Module, directory: Path) -> None:
        """Write ``adapter_config.json`` and ``adapter_model.safetensors`` (trained head included)."""

    @abstractmethod
    def load(self, model: torch.nn.Module, directory: Path) -> torch.nn.Module:
        """The inverse of :meth:`save`, onto a fresh base: outputs equal to the saved model's."""

    @abstractmethod
    def state(self, model: torch.nn.Module) -> dict[str, torch.Tensor]:
        """The tensors that :meth:`save` writes, by name. Works on meta models, so stored size is countable.

        Every tensor has the shape that it is saved in.
        """

    def config(self, shape: ModelShape, values: Values, task_type: TaskType) -> PeftConfig | None:
        """The PEFT config these values stand for; ``None`` for methods that PEFT does not have."""
        return None


def classifying_task(kind: ModelKind) -> TaskType:
    """The task type of a model with a classification head."""
    return "IMAGE_CLS" if kind == "vision" else "SEQ_CLS"


def plain_task(kind: ModelKind) -> TaskType:
    """The task type of a model without a task head."""
    return _PLAIN_TASK[kind]
