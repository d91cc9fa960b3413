"""Numbers and lines for the working of an answer, as KaTeX, and the small sums that several questions share."""

from __future__ import annotations

from collections.abc import Iterable

from peft_lab import units
from peft_lab.models.shapes import ModelShape, ModuleGroup
from peft_lab.quiz.computed import Answer, Case, NearMiss, Whole

NO_GQA = "grouped-query attention: keys and values are narrower than queries here"
BITS = 8  # per byte


def tex(number: float) -> str:
    """4587520 -> ``4{,}587{,}520``: without the braces KaTeX would set a space after each comma."""
    whole = number == round(number) or abs(number) >= 1e5
    text = f"{round(number):,}" if whole else f"{number:,.5g}"
    mantissa, e, power = text.partition("e")
    return mantissa.replace(",", "{,}") + (rf" \cdot 10^{{{int(power)}}}" if e else "")


def line(formula: str) -> str:
    """One displayed formula."""
    return f"${formula}$"


def product(*factors: float) -> str:
    return r" \cdot ".join(tex(factor) for factor in factors)


def plain(number: float) -> str:
    """A number for running text: ``1,536``, ``85.3``."""
    return f"{round(number):,}" if number == round(number) or abs(number) >= 1000 else f"{number:.3g}"


def share(part: float, whole: float) -> str:
    """``part`` of ``whole`` as a percentage."""
    return units.percent(100 * part / whole)


def misses(value: float, *pairs: tuple[float, str], tolerance: float = 0.0) -> tuple[NearMiss, ...]:
    """Near misses, each value once, without those that coincide with the answer on this model or pass for it."""
    found: dict[float, str] = {}
    for wrong, forgot in pairs:
        if abs(wrong - value) > tolerance * abs(value):
            found.setdefault(wrong, forgot)
    return tuple(NearMiss(wrong, forgot) for wrong, forgot in found.items())


def result(
    value: float,
    unit: str,
    working: Iterable[str],
    *pairs: tuple[float, str],
    tolerance: float = 0.0,
    named: dict[str, str] | None = None,
    wholes: tuple[Whole, ...] = (),
) -> Answer:
    """An answer whose near misses are given as pairs of value and what was forgotten."""
    return Answer(
        value,
        unit,
        tuple(working),
        misses(value, *pairs, tolerance=tolerance),
        tolerance,
        named or {},
        wholes,
    )


def told(value: float, unit: str = "", **named: float | str) -> Answer:
    """The number of a follow-up, whose text is its working; what else it names is written as running text."""
    return Answer(value, unit, (), named={n: v if isinstance(v, str) else plain(v) for n, v in named.items()})


def beside(case: Case) -> tuple[Whole, ...]:
    """For parameters that are added to the model: a share of the model with them."""
    return (Whole(case.shape.total),)


def within(case: Case) -> tuple[Whole, ...]:
    """For parameters that the model has anyway: a share of the model as it is."""
    return (Whole(case.shape.total, added=False),)


def entries(group: ModuleGroup) -> int:
    """Weights of one linear map, without its bias."""
    return group.in_features * group.out_features


def both(group: ModuleGroup) -> int:
    """Inputs and outputs together: what LoRA's rank is multiplied by."""
    return group.in_features + group.out_features


def block_entries(shape: ModelShape) -> int:
    """Weights of all the blocks' linear maps: what a token is multiplied with in the layers, and what 4 bits store."""
    return sum(entries(group) * group.count for group in shape.matrices if group.layers)


def widest_kv(case: Case) -> int:
    """How wide keys would be if every query head had its own."""
    return case.shape.heads * case.shape.head_dim
