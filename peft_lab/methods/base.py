"""Define the interface of a method: knobs, checks, a closed formula, parts to draw, and how to apply, save and load it.

A method is one folder with one :class:`MethodSpec`, and a file ``about.yaml`` with what is said of it. Everything that
needs no torch (knobs, checks, formula, parts) is pure Python over a :class:`~peft_lab.models.shapes.ModelShape`, so
that pages respond at once; the rest imports torch and peft inside its functions and runs in worker processes.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from peft_lab.core import asking
from peft_lab.core.content import read_entry
from peft_lab.core.errors import BadInput, Unsupported
from peft_lab.core.field import Field, Values, field_named
from peft_lab.core.form import Form, form_of
from peft_lab.core.later import torch
from peft_lab.models.heads import TaskType
from peft_lab.models.quantise import Quantization
from peft_lab.models.shapes import ModelKind, ModelShape

if TYPE_CHECKING:
    from peft import PeftConfig

#: A setting of a method that a learner can change.
Knob = Field


@dataclass(frozen=True)
class Paper:
    """A reference; ``section``: where the method is defined, empty if no copy with section numbers was seen."""

    authors: str
    year: int
    title: str
    arxiv: str
    section: str = ""

    def __str__(self) -> str:
        return ", ".join(filter(None, (f"{self.authors} {self.year}", f"arXiv:{self.arxiv}", self.section)))

    @property
    def url(self) -> str:
        """Return the URL of the paper's page on arXiv."""
        return f"https://arxiv.org/abs/{self.arxiv}"


@dataclass(frozen=True)
class Problem:
    """A problem to report to the learner before anything runs. ``error`` blocks the run, ``warning`` does not."""

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
        """Return the number of parameters of all its modules."""
        return self.each * self.count


@dataclass(frozen=True)
class Formula:
    """The closed form of a method's parameter count on one model.

    Attributes:
        symbolic: KaTeX with symbols, as in the paper.
        terms: the same with numbers; they sum to ``trainable``.
        added: parameters the method adds to the model (0 for BitFit, which trains existing parameters).
        stored: parameters in the saved adapter.
    """

    symbolic: str
    terms: tuple[Term, ...]
    added: int
    stored: int

    @property
    def trainable(self) -> int:
        """Return the number of trained parameters, summed over the terms."""
        return sum(term.total for term in self.terms)


PartKind = Literal[
    "low_rank", "gate", "columns", "cells", "encoder", "bottleneck", "bias", "quantised", "trainable"
]


@dataclass(frozen=True)
class Part:
    """A component that a method adds to the block, for the drawing.

    Attributes:
        kind: how it is drawn.
        at: path of the module group it belongs to, or one of the places ``tokens``, ``attention``, ``ffn`` (after or
            beside the feed-forward part).
        label: the text beside it.
        size: its numbers (``rank``, ``tokens``, ``width`` ...), so that it can be drawn to scale.
    """

    kind: PartKind
    at: str
    label: str
    size: Mapping[str, int]


CLASS_STEPS = 15  # thirty learners share a machine
LANGUAGE: tuple[ModelKind, ...] = ("causal-lm", "seq2seq")
STEPS = 60  # of a run, in which every default rate learns; comparisons and sweeps give it to all methods


@dataclass(frozen=True)
class About:
    """What the file ``about.yaml`` in a method's folder says of it; the method's class has these attributes.

    Attributes:
        summary: one sentence under the page's title.
        order: its place among the methods.
        learning_rates: the default per model kind, chosen so that 60 steps visibly learn on the live models.
        short_runs: steps after which the loss of the live models' first task is flat, per model kind, where these are
            fewer (:meth:`MethodSpec.usual_steps`).
        head_learning_rate: that of a task head, which starts at random and must be learned whatever the method;
            ``None``: the method's own.
        refuses: model kinds it cannot run on, each with the reason in the learner's terms.
        text_knob: the knob with the text that virtual tokens start from; empty without one.
    """

    title: str
    summary: str
    paper: Paper
    order: int
    learning_rates: Mapping[ModelKind, float]
    short_runs: Mapping[ModelKind, int] = field(default_factory=dict)
    head_learning_rate: float | None = None
    refuses: Mapping[ModelKind, str] = field(default_factory=dict)
    text_knob: str = ""
    knobs: tuple[Knob, ...] = ()


#: By type: fields of a knob that a file states as they are.
_AS_WRITTEN: Mapping[Any, Any] = {tuple[str, tuple[Any, ...]] | None: lambda value: value}


class MethodSpec(ABC):
    """One PEFT method. Attributes that :class:`About` has are read from the file beside the class's module, if any.

    Class attributes:
        slug: name in URLs, on the command line and in the registry.
        mergeable: whether it can be merged into the base's weights after training.
        low_rank: whether it adds what PEFT names ``lora_A`` and ``lora_B``.
        adds: whether it adds anything to the model. A method that trains existing parameters has nothing to merge.
    """

    slug: ClassVar[str]
    title: ClassVar[str]
    summary: ClassVar[str]
    paper: ClassVar[Paper]
    knobs: ClassVar[tuple[Knob, ...]]
    refuses: ClassVar[Mapping[ModelKind, str]] = {}
    learning_rates: ClassVar[Mapping[ModelKind, float]]
    short_runs: ClassVar[Mapping[ModelKind, int]] = {}
    head_learning_rate: ClassVar[float | None] = None
    mergeable: ClassVar[bool] = False
    low_rank: ClassVar[bool] = False
    adds: ClassVar[bool] = True
    text_knob: ClassVar[str] = ""
    order: ClassVar[int] = 100

    def __init_subclass__(cls) -> None:
        about = Path(inspect.getfile(cls)).with_name("about.yaml")
        if "slug" in vars(cls) and about.is_file():
            for name, value in vars(read_entry(about, About, _AS_WRITTEN)).items():
                setattr(cls, name, {**value, **cls.refuses} if name == "refuses" else value)

    # -- knobs ---------------------------------------------------------------------------------------------------

    @cached_property
    def form(self) -> type[Form]:
        """Return the knobs as a form."""
        return form_of(self.slug, self.knobs)

    def knob(self, name: str) -> Knob:
        """Return the knob of that name. Raises :class:`UnknownName` if the method has none."""
        return field_named(self.knobs, name, f"{self.title} knob")

    def defaults(self, shape: ModelShape) -> dict[str, Any]:
        """Return every knob's default value on this model."""
        return {knob.name: knob.default for knob in self.knobs}

    def task_values(self, start_text: str) -> dict[str, Any]:
        """Return the defaults that depend on the task, by its :attr:`~peft_lab.training.tasks.base.Task.start_text`."""
        return {self.text_knob: start_text} if self.text_knob and start_text else {}

    def options(self, knob: Knob, shape: ModelShape) -> tuple[str, ...]:
        """Return the names to offer for a list of modules; empty if this model has nothing to name."""
        names = (*shape.target_names, "all-linear", *self.defaults(shape)[knob.name])
        return tuple(dict.fromkeys(names))

    def complete(self, shape: ModelShape, values: Values) -> dict[str, Any]:
        """Return the defaults overlaid with ``values``, each checked for type and range. Raises UnknownName: there is
        no such knob. BadInput: a value is out of range; the message gives the range."""
        full = self.defaults(shape)
        for name, value in values.items():
            full[name] = self.knob(name).check(value)
        return full

    def problems(self, shape: ModelShape, values: Values) -> tuple[Problem, ...]:
        """Return all errors and warnings about ``values`` on this model, without building anything."""
        if shape.kind in self.refuses:
            return (Problem("model", self.refuses[shape.kind]),)
        try:
            full = self.complete(shape, values)
        except BadInput as error:
            return (Problem(error.field or "", str(error)),)
        return tuple(self.check(shape, full))

    def refusal(self, shape: ModelShape, values: Values) -> str | None:
        """Return why ``values`` do not work on this model; None if they do."""
        found = self.problems(shape, values)
        return next((problem.message for problem in found if problem.level == "error"), None)

    def check(self, shape: ModelShape, values: Values) -> Iterable[Problem]:
        """Yield the method's own problems, on complete values. None by default."""
        return ()

    def require(self, shape: ModelShape, values: Values) -> dict[str, Any]:
        """Return complete values. Raises the first error as :class:`BadInput` (:class:`Unsupported` for the model)."""
        for problem in self.problems(shape, values):
            if problem.level == "error":
                kind = Unsupported if problem.field == "model" else BadInput
                raise kind(problem.message, problem.field)
        return self.complete(shape, values)

    # -- without torch -------------------------------------------------------------------------------------------

    @abstractmethod
    def formula(self, shape: ModelShape, values: Values) -> Formula:
        """Return the closed form, on complete and checked values. It never includes head parameters."""

    @abstractmethod
    def parts(self, shape: ModelShape, values: Values) -> tuple[Part, ...]:
        """Return the parts to draw into the block, on complete values (which may still have warnings)."""

    def quantization(self, values: Values) -> Quantization | None:
        """Return how the base is stored; ``None`` keeps the model's own precision."""
        return None

    def virtual_tokens(self, values: Values) -> int:
        """Return the number of positions the method occupies before the text; 0 for all but the prompt methods."""
        return 0

    def learning_rate(self, kind: ModelKind, values: Values) -> float:
        """Return the default learning rate for the model kind; a knob that changes the method may change it."""
        return self.learning_rates[kind]

    def usual_steps(self, kind: ModelKind) -> int:
        """Return the default number of steps of a run on the model kind; in a class, language models get few."""
        usual = self.short_runs.get(kind, STEPS)
        return min(usual, CLASS_STEPS) if asking.class_is_on() and kind in LANGUAGE else usual

    def recorder(self, values: Values) -> tuple[str, str]:
        """Return module and name of the class that records a run; the module need not exist."""
        return f"{self.slug}.recording", "RunRecorder"

    def rate_factor(self, parameter: str, values: Values) -> float:
        """Return the factor on a trained parameter's learning rate, by its name; 1 unless a method overrides it."""
        return 1.0

    # -- with torch ----------------------------------------------------------------------------------------------

    @abstractmethod
    def apply(
        self, model: torch.nn.Module, shape: ModelShape, values: Values, task_type: TaskType
    ) -> torch.nn.Module:
        """Add the method to a fresh base model (real or meta) and freeze the rest.

        Args:
            model: a transformers model, changed in place. Never wrap a base twice: start from a fresh one.
            values: complete and checked.
            task_type: ``SEQ_CLS``, ``TOKEN_CLS`` and ``IMAGE_CLS`` keep the classification head trainable and save it
                with the adapter.

        Returns:
            the model to train: same call signature, including ``generate``; ``requires_grad`` marks what is trained.
        """

    @abstractmethod
    def save(self, model: torch.nn.Module, directory: Path) -> None:
        """Write ``adapter_config.json`` and ``adapter_model.safetensors`` (trained head included)."""

    @abstractmethod
    def load(self, model: torch.nn.Module, directory: Path) -> torch.nn.Module:
        """Load what :meth:`save` wrote onto a fresh base; the outputs then equal the saved model's."""

    @abstractmethod
    def state(self, model: torch.nn.Module) -> dict[str, torch.Tensor]:
        """Return the tensors that :meth:`save` writes, by name. Works on meta models too, to count the stored size.
        Every tensor has the shape it is saved in."""

    def config(self, shape: ModelShape, values: Values, task_type: TaskType) -> PeftConfig | None:
        """Return the PEFT config for these values; ``None`` for methods that PEFT lacks."""
        return None
