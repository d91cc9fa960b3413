"""Why a formula and a count differ, where they do: module by module. Both being shown, silence would be a lie."""

from __future__ import annotations

from collections.abc import Iterable

from peft_lab.methods.base import Formula
from peft_lab.module_tree import GroupCount

MOST = 3  # modules that are named


def explain(formula: Formula, tree: Iterable[GroupCount]) -> str:
    """One sentence that names what was counted otherwise than the formula says; empty where both agree."""
    told: dict[str, int] = {}
    for term in formula.terms:
        told[term.module] = told.get(term.module, 0) + term.total
    counted: dict[str, int] = {}
    for group in tree:
        if group.role == "method":
            path = f"{group.module}.{group.name}"
            places = [place for place in told if path == place or path.startswith(f"{place}.")]
            # What stands in a stack is trained under the stack's own name.
            place = max(places, key=len) if places else group.module
            counted[place] = counted.get(place, 0) + group.parameters
    if sum(told.values()) == sum(counted.values()):
        return ""
    differing = [
        f"{place.split('{}.')[-1]} ({counted.get(place, 0):,} counted, {told.get(place, 0):,} by the formula)"
        for place in dict.fromkeys([*counted, *told])
        if counted.get(place, 0) != told.get(place, 0)
    ]
    named = ", ".join(differing[:MOST])
    more = f" and {len(differing) - MOST} more" if len(differing) > MOST else ""
    return f"The count is right: it is of what was built. The formula does not know this architecture at {named}{more}."
