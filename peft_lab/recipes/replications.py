"""Whether this lab's small models show what a rule says: seen here, not seen here, or not testable here.

A sweep of short runs writes ``replications.json`` beside this module; while there is none, only what cannot be tested
here is known. The file: ``{"runs": how many in all, "packages": {name: version}, "rules": {rule's id: {"runs", "value",
"low", "high", "expected": [low, high], "unit", "note"}}}``. The verdict is worked out: seen where the interval lies
within what the rule expects, not seen where it lies outside; an interval that reaches over the edge says neither.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from importlib import resources
from typing import Any

from peft_lab.recipes.recipe import all_rules

FILE = "replications.json"


class Verdict(StrEnum):
    """What the sweep says of a rule."""

    SEEN = "seen here"
    NOT_SEEN = "not seen here"
    OPEN = "open: the interval reaches over the edge"
    NOT_TESTABLE = "not testable here"


@dataclass(frozen=True)
class Replication:
    """One rule under the sweep.

    Attributes:
        runs: that speak of it. value, low, high: the figure with its interval, in ``unit``.
        expected: what the rule says the figure lies in.
        note: how the figure was taken; for what is not testable, why.
    """

    rule: str
    note: str
    runs: int = 0
    value: float | None = None
    low: float | None = None
    high: float | None = None
    expected: tuple[float, float] | None = None
    unit: str = ""

    @property
    def verdict(self) -> Verdict:
        if self.low is None or self.high is None or self.expected is None:
            return Verdict.NOT_TESTABLE
        least, most = self.expected
        if least <= self.low and self.high <= most:
            return Verdict.SEEN
        return Verdict.NOT_SEEN if self.high < least or self.low > most else Verdict.OPEN


def read(sweep: Mapping[str, Any]) -> dict[str, Replication]:
    """A sweep's outcomes by rule, with every rule that cannot be tested here.

    Raises:
        ValueError: a rule that is none or is not testable here, or an interval that does not hold its figure.
    """
    known = {rule.id: rule for rule in all_rules()}
    found = {name: Replication(name, rule.untestable) for name, rule in known.items() if rule.untestable}
    for name, outcome in sweep.get("rules", {}).items():
        if name not in known or known[name].untestable:
            raise ValueError(f"The sweep speaks of '{name}', which is no rule that can be tested here.")
        low, value, high = (float(outcome[key]) for key in ("low", "value", "high"))
        if not low <= value <= high:
            raise ValueError(f"'{name}': {value:g} does not lie between {low:g} and {high:g}.")
        least, most = map(float, outcome["expected"])
        found[name] = Replication(
            name, outcome["note"], int(outcome["runs"]), value, low, high, (least, most), outcome["unit"]
        )
    return found


@cache
def replications() -> Mapping[str, Replication]:
    """What the shipped sweep says, by rule; without one, what is not testable here. Raises as :func:`read`."""
    file = resources.files(__package__) / FILE
    return read(json.loads(file.read_text("utf-8")) if file.is_file() else {})


def replicated(rule: str) -> str:
    """A rule's verdict in a cell, with its figure or the reason; empty where no sweep has looked yet."""
    found = replications().get(rule)
    if found is None:
        return ""
    if found.verdict is Verdict.NOT_TESTABLE:
        return f"{found.verdict}: {found.note}"
    return f"{found.verdict}: {found.value:g} ({found.low:g} to {found.high:g}) {found.unit}, {found.runs:,} runs"
