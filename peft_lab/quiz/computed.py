"""What a calculation works on and what comes out of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from peft_lab import units
from peft_lab.errors import BadInput
from peft_lab.methods import get_method
from peft_lab.models.shapes import ModelShape, ModuleGroup, Role

Given = int | float | str | tuple[int, ...]


@dataclass(frozen=True)
class NearMiss:
    """A wrong answer that tells what went wrong. ``forgot`` completes "Forgotten: ..."."""

    value: float
    forgot: str


@dataclass(frozen=True)
class Whole:
    """What a count of parameters can be stated as a share of.

    Attributes:
        size: parameters without the counted ones, if those are ``added`` to it; else with them.
        name: completes "0.1% of ...".
    """

    size: int
    name: str = "all parameters"
    added: bool = True

    def share(self, count: float) -> float:
        """``count`` as a percentage."""
        return 100 * count / (self.size + count if self.added else self.size)


@dataclass(frozen=True)
class Answer:
    """A computed answer.

    Attributes:
        value: in ``unit``; for a choice the index of the right option.
        unit: ``parameters``, ``bytes``, ``percent`` (of 100), ``bits`` or any other word; may be empty.
        working: the steps with their numbers, each one line of text with KaTeX.
        tolerance: relative; what is right beside correct rounding.
        named: further texts for the answer's template.
        wholes: of a count of parameters: what a learner may state it as a percentage of.
    """

    value: float
    unit: str
    working: tuple[str, ...]
    near_misses: tuple[NearMiss, ...] = ()
    tolerance: float = 0.0
    named: Mapping[str, str] = field(default_factory=dict)
    wholes: tuple[Whole, ...] = ()

    @property
    def shown(self) -> str:
        """The value as a learner reads it: ``4,587,520 parameters``, ``14.6 GB (13.6 GiB)``, ``0.143%``."""
        return show(self.value, self.unit)


@dataclass(frozen=True)
class Case:
    """What a calculation works on: one model's shape and the question's givens."""

    model: ModelShape | None
    given: Mapping[str, Given]

    @property
    def shape(self) -> ModelShape:
        if self.model is None:
            raise BadInput("This question needs a model.", "model")
        return self.model

    def __getitem__(self, name: str) -> int:
        """A given that is a whole number."""
        value = self.given[name]
        if not isinstance(value, int):
            raise BadInput(f"'{name}' is a whole number in this question.", name)
        return value

    def number(self, name: str) -> float:
        """A given that is any number."""
        value = self.given[name]
        if isinstance(value, str | tuple):
            raise BadInput(f"'{name}' is a number in this question.", name)
        return float(value)

    def numbers(self, name: str) -> tuple[int, ...]:
        """A given that is a list."""
        value = self.given[name]
        if not isinstance(value, tuple):
            raise BadInput(f"'{name}' is a list of numbers in this question.", name)
        return value

    def matrix(self, role: Role) -> ModuleGroup:
        """The block's linear map of that role (see :attr:`ModelShape.block`)."""
        return self.shape.block[role]

    def trained(self, method: str, **values: Any) -> int:
        """The trainable count by the method's own formula, with these knobs.

        Raises:
            BadInput: the method cannot be applied so.
        """
        spec = get_method(method)
        return spec.formula(self.shape, spec.require(self.shape, values)).trainable

    def stored(self, method: str, **values: Any) -> int:
        """The stored count by the method's own formula."""
        spec = get_method(method)
        return spec.formula(self.shape, spec.require(self.shape, values)).stored


def three_digits(value: float) -> str:
    """Three significant digits without an exponent: ``0.143``, ``13.6``, ``1,050``."""
    rounded = float(f"{value:.3g}")
    return f"{rounded:,.0f}" if abs(rounded) >= 1000 else f"{rounded:.3g}"


def show(value: float, unit: str) -> str:
    """A value with its unit; bytes in decimal and binary units, whole numbers whole."""
    if unit == "bytes":
        if abs(value) < 1e6:
            return f"{round(value):,} bytes"
        power, name = (30, "GiB") if abs(value) >= 2**30 else (20, "MiB")
        return f"{units.size(value)} ({three_digits(value / 2**power)} {name})"
    if unit == "percent":
        return units.percent(value)
    if unit == "parameters" and value != round(value):
        return f"{units.short_count(value)} parameters"
    whole = value == round(value) or abs(value) >= 1e4
    text = f"{round(value):,}" if whole or abs(value) >= 1000 else f"{value:.4g}"
    return f"{text} {unit}".strip()
