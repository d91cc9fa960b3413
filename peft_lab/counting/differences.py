"""Why a closed formula gives another number than the count: places it does not know, and those that PEFT leaves out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from peft_lab.methods.base import Formula
from peft_lab.models.module_tree import GroupCount

_NAMED = 3  # places named in a sentence; the rest is summed up


def difference(formula: Formula, tree: Iterable[GroupCount]) -> str | None:
    """One sentence with the places and their parameters; ``None`` where formula and count agree.

    Args:
        tree: the counted model's groups; those trained by the method are compared.
    """
    groups = tuple(tree)
    trained = [group for group in groups if group.role == "method"]
    bare = {group.module for group in groups if not group.added}
    counted = sum(group.parameters for group in trained)
    if counted == formula.trainable:
        return None
    surplus: Counter[str] = Counter()
    for term in formula.terms:
        surplus[term.module] -= term.total
    for group in trained:
        path = f"{group.module}.{group.name}"
        place = (
            _longest((term.module for term in formula.terms), path) or _longest(bare, path) or group.module
        )
        surplus[place] += group.parameters
    more = {place: number for place, number in surplus.items() if number > 0}
    less = {place: -number for place, number in surplus.items() if number < 0}
    parts = []
    if more:
        parts.append(f"PEFT trains {_listed(more)} that the formula does not know")
    if less:
        parts.append(f"the formula counts {_listed(less)} that PEFT leaves out")
    sentence = ", and ".join(parts)
    return f"The formula gives {formula.trainable:,}, the count {counted:,}: {sentence}. The count is right."


def _longest(places: Iterable[str], path: str) -> str:
    """The longest of the places that a path begins with; empty where there is none."""
    return max((place for place in places if f"{path}.".startswith(f"{place}.")), key=len, default="")


def _listed(places: dict[str, int]) -> str:
    largest = sorted(places, key=lambda place: -places[place])
    shown = [f"{places[place]:,} in {place.rpartition('{}.')[2]}" for place in largest[:_NAMED]]
    if len(largest) > _NAMED:
        shown.append(f"{sum(places[place] for place in largest[_NAMED:]):,} elsewhere")
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"
