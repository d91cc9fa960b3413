"""Compute an answer from formulas that are written in its question's entry.

    calculate:
      value: total * MOMENTS * (1 + SINGLE / block)
      unit: bytes
      where: {block: 256}
      working:
        - <total> \\cdot 2 \\cdot <1 + SINGLE / block> = <value>\\ \\text{bytes}
      forgot:
        value / 2: that Adam keeps two moments
      tolerance: 0.02

A formula names the question's given values, the model's numbers as its texts do (``q_in``), ``value``, what stands in
``where`` and :data:`NAMES`. A line of the working is KaTeX with formulas in angle brackets; what was forgotten may have
them as well.
"""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from types import CodeType
from typing import Any, Literal

from peft_lab.core import units
from peft_lab.core.errors import BadInput
from peft_lab.interview import computed
from peft_lab.interview.computed import Answer, Case, Whole

_PLACE = re.compile(r"<([^<>]+)>")
_ALLOWED = (
    ast.Expression, ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare, ast.IfExp, ast.Call, ast.keyword, ast.Subscript,
    ast.Slice, ast.List, ast.Constant, ast.Name, ast.Load, ast.operator, ast.unaryop, ast.boolop, ast.cmpop,
)  # fmt: skip
_FUNCTIONS = (
    abs, float, format, len, max, min, round, sorted, str, sum, math.ceil, math.exp, math.floor, math.log, math.log1p,
    math.log2, math.prod, math.sqrt, units.size, computed.share, computed.show, computed.plain, computed.minus,
    computed.times, computed.of_sign, computed.relative_weights, computed.plus, computed.nf4_bits,
)  # fmt: skip
_CONSTANTS = (
    "BYTE", "HALF", "SINGLE", "MOMENTS", "MIXED", "BITS", "CODE_BITS", "CONSTANT_BITS", "SECOND_CONSTANT_BITS",
    "NF4_BLOCK", "SECOND_BLOCK",
)  # fmt: skip
#: What every formula may name: functions, and constants of :mod:`peft_lab.interview.computed`.
NAMES: Mapping[str, Any] = {
    "pi": math.pi,
    **{function.__name__: function for function in _FUNCTIONS},
    **{name: getattr(computed, name) for name in _CONSTANTS},
}


@dataclass(frozen=True, kw_only=True)
class Formulas:
    """A calculation as formulas. Called with a case, it returns the answer.

    Attributes:
        value, unit, tolerance: as in :class:`Answer`; of a choice, the index of the right option.
        where: further values by name.
        working: lines of KaTeX.
        forgot: by the formula of a near miss, what was forgotten.
        named: formulas by the names that texts use.
        parameters: for a count of parameters, whether they are ``added`` to the model or its ``own``.
    """

    value: str
    unit: str = ""
    where: Mapping[str, str] = field(default_factory=dict)
    working: tuple[str, ...] = ()
    forgot: Mapping[str, str] = field(default_factory=dict)
    tolerance: float = 0.0
    named: Mapping[str, str] = field(default_factory=dict)
    parameters: Literal["added", "own"] | None = None

    def __post_init__(self) -> None:
        texts = (*self.working, *self.forgot.values())
        places = [formula for line in texts for formula in _PLACE.findall(line)]
        for formula in (self.value, *self.where.values(), *self.forgot, *self.named.values(), *places):
            compiled(formula)

    def __call__(self, case: Case) -> Answer:
        """Return the answer. Raises BadInput as :meth:`Scope.compute`, and for settings that a method refuses."""
        scope = Scope(names_of(case), {**self.where, "value": self.value})

        def number(place: re.Match[str]) -> str:
            found = scope.compute(place[1])
            return found if isinstance(found, str) else computed.tex(found)

        return computed.result(
            scope["value"],
            self.unit,
            [_PLACE.sub(number, line) for line in self.working],
            *(
                (scope.compute(formula), _PLACE.sub(number, forgotten))
                for formula, forgotten in self.forgot.items()
            ),
            tolerance=self.tolerance,
            named={name: scope.compute(formula) for name, formula in self.named.items()},
            # a count may be given as a share of the model, with what is added to it
            wholes=(Whole(case.shape.total, added=self.parameters == "added"),) if self.parameters else (),
        )


def names_of(case: Case) -> dict[str, Any]:
    """Return what formulas on a case may name: :data:`NAMES`, the model's numbers and parts, what methods train."""
    names = {**NAMES, "trained": case.trained, "stored": case.stored, "lora": case.lora}
    if (shape := case.model) is not None:
        names |= {
            "three_vectors": case.three_vectors,
            **computed.numbers_of(shape),
            **computed.parts_of(shape),
        }
        names |= {whole.__name__: whole(shape) for whole in (computed.block_entries, computed.four_bit_bytes)}
    return names | dict(case.given)


class Scope(dict[str, Any]):
    """The values that formulas name: those given, and each of ``formulas`` once it is read."""

    def __init__(self, names: Mapping[str, Any], formulas: Mapping[str, str]) -> None:
        super().__init__({name: value for name, value in names.items() if name not in formulas})
        self._formulas = dict(formulas)

    def __missing__(self, name: str) -> Any:
        self[name] = self.compute(self._formulas.pop(name))  # a formula that needs itself finds nothing
        return self[name]

    def compute(self, formula: str) -> Any:
        """Return a formula's value. Raises BadInput if it names what nothing states, or cannot be computed."""
        try:
            return eval(compiled(formula), {"__builtins__": {}}, self)  # only _ALLOWED is compiled
        except NameError as error:
            raise BadInput(f"The formula '{formula}' uses '{error.name}', which is not defined.") from None
        except (TypeError, ArithmeticError) as error:
            raise BadInput(f"The formula '{formula}' cannot be computed: {error}.") from None


@cache
def compiled(formula: str) -> CodeType:
    """Return a formula as code. Raises ValueError if it is none, or does more than compute and name values."""
    try:
        tree = ast.parse(formula.strip(), mode="eval")
    except SyntaxError:
        raise ValueError(f"'{formula}' is not a formula") from None
    for node in ast.walk(tree):
        if not isinstance(node, _ALLOWED):
            raise ValueError(f"'{ast.unparse(node)}' cannot stand in a formula")
    return compile(tree, "<formula>", "eval")
