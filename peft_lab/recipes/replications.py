"""Whether this lab's small models show what a rule says: seen here, not seen here, or not testable here.

All is worked out from the shipped sweep (:mod:`peft_lab.sweep`): a figure with its interval, and beside it what the
rule expects. Seen where the interval lies within that, not seen where it lies outside; an interval that reaches over
the edge says neither.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from typing import Any

from peft_lab.models.catalogue import get_model
from peft_lab.recipes.advice import figure, label
from peft_lab.recipes.rates import RATE as RATES
from peft_lab.recipes.recipe import all_rules
from peft_lab.recipes.rules import Rule
from peft_lab.recipes.tried import PERCENT, RATE, TRIALS, Tried, job_of, rate_in_band
from peft_lab.sweep.groups import Interval, interval
from peft_lab.sweep.points import Point, Sweep, shipped

#: Settings that the sweep varies.
VARIED = (RATES, "r", "target_modules", "batch")


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
        what: the figure, as a heading. note: how it was taken; for what is not testable, why.
        runs: trainings behind it. groups: independent witnesses among them.
        value, low, high: the figure with its interval, in ``unit`` (:class:`~peft_lab.recipes.tried.Tried`).
        expected: what the rule says the figure lies in; an end may be infinite.
        models: the figure of each model alone.
    """

    rule: str
    note: str
    what: str = ""
    runs: int = 0
    groups: int = 0
    value: float | None = None
    low: float | None = None
    high: float | None = None
    expected: tuple[float, float] | None = None
    unit: str = ""
    models: tuple[tuple[str, Interval], ...] = ()

    @property
    def verdict(self) -> Verdict:
        if self.low is None or self.high is None or self.expected is None:
            return Verdict.NOT_TESTABLE
        least, most = self.expected
        if least <= self.low and self.high <= most:
            return Verdict.SEEN
        return Verdict.NOT_SEEN if self.high < least or self.low > most else Verdict.OPEN

    @property
    def text(self) -> str:
        """Verdict, figure and what was expected, or the reason."""
        if self.verdict is Verdict.NOT_TESTABLE:
            return f"{self.verdict}: {self.note}"
        return f"{self.verdict}: {self.measured}; expected {self.limits}; {self.runs:,} short trainings"

    @property
    def measured(self) -> str:
        """The figure with its interval."""
        if self.value is None:
            return ""
        return measured(Interval(self.value, self.low, self.high, self.groups, self.groups), self.unit)

    @property
    def limits(self) -> str:
        """What the rule expects."""
        if self.expected is None:
            return ""
        low, high = self.expected
        if math.isinf(high):
            return f"above {written(low, self.unit)}"
        if math.isinf(low):
            return f"below {written(high, self.unit)}"
        return f"{_bare(low, self.unit)} to {written(high, self.unit)}"

    def as_dict(self) -> dict[str, Any]:
        """For JSON, which knows no infinity: an open end is ``None``."""
        ends = None if self.expected is None else [None if math.isinf(end) else end for end in self.expected]
        return {
            "verdict": str(self.verdict).partition(":")[0],
            "what": self.what,
            "value": self.value,
            "low": self.low,
            "high": self.high,
            "unit": self.unit,
            "expected": ends,
            "trainings": self.runs,
            "groups": self.groups,
            "note": self.note,
        }


def written(value: float, unit: str) -> str:
    """A figure in its unit.

    >>> written(12.345, "times"), written(-1.25, "%"), written(0.000213, "rate")
    ('12 times', '-1.2%', '2.1e-4')
    """
    return _bare(value, unit) + {PERCENT: "%", RATE: ""}.get(unit, f" {unit}")


def _bare(value: float, unit: str) -> str:
    if unit == PERCENT:
        return f"{value:+.1f}" if value else "0"
    short = float(f"{value:.2g}")
    return figure(short) if unit == RATE else f"{short:g}"


def measured(found: Interval, unit: str) -> str:
    """A figure with its interval, where it has one.

    >>> measured(Interval(12.3, 7.5, 16.2, groups=4, pairs=40), "times")
    '12 times (7.5 to 16)'
    """
    value = written(found.value, unit)
    if found.low is None or found.high is None:
        return value
    return f"{value} ({_bare(found.low, unit)} to {_bare(found.high, unit)})"


def replicate(sweep: Sweep, only: str = "") -> dict[str, Replication]:
    """What a sweep says of every rule, by rule; or of one."""
    return {rule.id: _replication(rule, sweep) for rule in all_rules() if only in ("", rule.id)}


def _replication(rule: Rule, sweep: Sweep) -> Replication:
    if rule.untestable:
        return Replication(rule.id, rule.untestable)
    trial = TRIALS.get(rule.id)
    found = trial(sweep) if trial else rate_in_band(rule, sweep) if rule.field == RATES else None
    if found is None:
        return Replication(rule.id, _reason(rule, sweep))
    whole = interval(found.differences)
    if whole is None:
        return Replication(rule.id, f"the sweep has no pair of trainings for it ({found.note})", found.what)
    note = found.note + _beyond(rule, found, sweep)
    if whole.groups < 2:
        note += "; a single group has no interval"
    return Replication(
        rule.id, note, found.what, found.runs, whole.groups, *_figures(found, whole), found.expected, found.unit,
        _by_model(found, sweep),
    )  # fmt: skip


def _beyond(rule: Rule, found: Tried, sweep: Sweep) -> str:
    """Models of which the source says nothing, so that what is seen on them is no test of what it says."""
    used = {group[0] for group, _ in found.differences}
    outside = [
        model for model in sweep.models
        if model in used and not any(rule.says(job_of(point)) for point in _one_of_each(sweep.on(model)))
    ]  # fmt: skip
    names = ", ".join(get_model(model).title for model in outside)
    return f"; the source speaks of no model such as {names}" if names else ""


def _one_of_each(points: Iterable[Point]) -> Iterable[Point]:
    return {point.method: point for point in points}.values()


def _figures(found: Tried, within: Interval) -> tuple[float, float | None, float | None]:
    low, high = (None if end is None else found.figure(end) for end in (within.low, within.high))
    return found.figure(within.value), low, high


def _by_model(found: Tried, sweep: Sweep) -> tuple[tuple[str, Interval], ...]:
    table = []
    for model in sweep.models:
        own = interval((group, each) for group, each in found.differences if group[0] == model)
        if own is not None:
            value, low, high = _figures(found, own)
            table.append((model, Interval(value, low, high, own.groups, own.pairs)))
    return tuple(table)


def _reason(rule: Rule, sweep: Sweep) -> str:
    """Why a sweep of these trainings has nothing on a rule."""
    if not any(rule.says(job_of(point)) for model in sweep.models for point in _one_of_each(sweep.on(model))):
        return (
            "the sweep trains LoRA and all weights, and none of its trainings is what this source speaks of"
        )
    if rule.field not in VARIED:
        return f"the sweep does not vary {label(rule.field)}"
    return f"the sweep has too few values of {label(rule.field)} for it"


@cache
def replications() -> Mapping[str, Replication]:
    """What the shipped sweep says, by rule."""
    return replicate(shipped())


def replicated(rule: str) -> str:
    """A rule's verdict in a cell, with its figure or the reason."""
    return replications()[rule].text
