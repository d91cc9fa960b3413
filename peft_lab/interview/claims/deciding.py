"""Decide claims by formulas that stand in their entries, as :mod:`peft_lab.interview.formulas` computes answers.

check:
  values: {share: percent('ia3')}
  verdict: within(share, 0, 0.01)
  words: {vectors: trained('ia3')}
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from peft_lab.advise import tree
from peft_lab.engine import published
from peft_lab.interview import predictions
from peft_lab.interview.claims.comparing import TESTED, accuracy, deviation
from peft_lab.interview.claims.simulating import needs
from peft_lab.interview.claims.verdicts import Checked, ClaimModel, about, apart, both, holds, within
from peft_lab.interview.computed import float_errors
from peft_lab.interview.formulas import Scope, compiled, names_of
from peft_lab.interview.question import takes
from peft_lab.methods import get_method
from peft_lab.methods.lora.spec import METHOD
from peft_lab.studies import tiny

#: Small experiments by name; each returns a list of figures, in another process than the page's.
EXPERIMENTS: dict[str, Callable[..., Any]] = {
    name: value
    for module in (tiny, predictions)
    for name, value in vars(module).items()
    if getattr(value, "__annotations__", {}).get("return") == "list[float]"
} | {"float_errors": float_errors, "zero_sides": tiny.zero_sides}


@dataclass(frozen=True, kw_only=True)
class Decision:
    """A check as formulas; called with a model, it returns the verdict and the figures (:class:`Checked`)."""

    values: Mapping[str, str]
    verdict: str
    words: Mapping[str, str] = field(default_factory=dict, hash=False)
    case: str = "''"

    def __post_init__(self) -> None:
        for formula in (*self.values.values(), self.verdict, *self.words.values(), self.case):
            compiled(formula)

    def __call__(self, model: ClaimModel) -> Checked:
        scope = Scope(_names(model), {**self.words, **self.values})
        values, words = ({name: scope[name] for name in named} for named in (self.values, self.words))
        return Checked(scope.compute(self.verdict), values, words, scope.compute(self.case))

    @property
    def text(self) -> str:
        """Return the formulas as lines, for a reader."""
        lines = {**self.words, **self.values, "verdict": self.verdict}
        return "\n".join(f"{name} = {formula}" for name, formula in lines.items())


def _names(model: ClaimModel) -> dict[str, Any]:
    """Return what a check's formulas may name, beside what a question's may."""
    shape = model.shape
    return names_of(model) | {
        **EXPERIMENTS,
        **{
            function.__name__: function
            for function in (about, apart, both, holds, within, accuracy, deviation)
        },
        "TESTED": TESTED,
        "percent": model.share,
        "whole": model.total,
        "adds": lambda slug: model.formula(slug).added,
        "targets": lambda slug: list(get_method(slug).defaults(shape)["target_modules"]),
        "maps": lambda *roles: [shape.target_name(shape.block[role]) for role in roles],
        "mergeable": lambda slug: get_method(slug).mergeable,
        "lengthens": lambda slug: get_method(slug).virtual_tokens(get_method(slug).complete(shape, {})) > 0,
        "runs": lambda slug: takes(slug, shape),
        "lora_scale": lambda **values: METHOD.scale(METHOD.complete(shape, values)),
        "needs": lambda slug, rows=4, checkpointing=False, **values: needs(
            model.name, slug, values, rows, checkpointing=checkpointing
        ),
        "score": lambda row: 100 * published.rows()[row].accuracy,
        "seconds": lambda row: published.rows()[row].seconds,
        "figure": lambda name: getattr(tree, name).value,
        "written": lambda name: str(getattr(tree, name)),
    }
