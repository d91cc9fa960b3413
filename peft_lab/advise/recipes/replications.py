"""Test on this lab's small models what a rule says: seen here, not seen here, or not testable here.

All figures come from the shipped sweep (:mod:`peft_lab.studies.shipped_sweep`), each with its interval and the
range that the rule expects. Seen if the interval lies inside that range, not seen if outside; an interval across
an end leaves it open.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from typing import Any

from peft_lab.advise.recipes.rules import (
    CONTENT,
    GRAIN,
    TIMES_FULL,
    TIMES_FULL_SHORT,
    Job,
    Rule,
    all_rules,
    job,
)
from peft_lab.advise.recipes.rules import RATE as RATES
from peft_lab.core.content import read_entries
from peft_lab.core.units import label, written_figure
from peft_lab.models.catalogue import get_model
from peft_lab.studies.shipped_sweep import (
    ALL,
    ATTENTION,
    FULL,
    LORA,
    MLP,
    MLP_AND_MORE,
    Interval,
    RateCurve,
    Sweep,
    SweepPoint,
    curves,
    interval,
    shipped_points,
)

# ----------------------------------------
# Tests of rules on the lab's small models: each function picks pairs of runs from a sweep that differ in one
# setting, and states what the rule expects of them.
#
# Differences are between logarithms of best learning rates, or of the lowest held-out losses over all rates, so
# that each side of a pair has its own best rate. A group shares model, batch and seed
# (:mod:`peft_lab.studies.shipped_sweep`).


TIMES, PERCENT, RATE = "times", "%", "rate"
Group = tuple[str, int, int]
#: A group, the difference of logarithms (``None``: a best rate lies at an end of the sweep), and the curves behind it.
Pair = tuple[Group, float | None, tuple[RateCurve, ...]]


@dataclass(frozen=True)
class Tried:
    """What a sweep shows about a rule.

    Attributes:
        what: the figure's heading. note: how it was measured.
        unit: ``times`` for a ratio, ``%`` for a difference in percent, ``rate`` for a learning rate.
        expected: the range in which the rule expects it.
        differences: logarithms, each with its group.
        runs: number of training runs behind them.
    """

    what: str
    note: str
    unit: str
    expected: tuple[float, float]
    differences: tuple[tuple[Group, float], ...]
    runs: int

    def figure(self, logarithm: float) -> float:
        """Return a logarithm as a figure in the unit."""
        return 100 * math.expm1(logarithm) if self.unit == PERCENT else math.exp(logarithm)


def job_of(point: SweepPoint) -> Job:
    """Return a training run's job, as rules take it."""
    shape = get_model(point.model).shape
    objective = "classification" if shape.kind == "encoder" else "extraction"
    values = {"r": point.rank} if point.method == LORA else {}
    return job(point.method, shape, objective, point.steps * point.batch, batch=point.batch, values=values)


@dataclass(frozen=True)
class _Trial:
    id: str
    what: str
    note: str


_TRIALS = {one.id: one for one in read_entries(CONTENT / "trials.yaml", _Trial)}


def _group(curve: RateCurve) -> Group:
    return (curve.at.model, curve.at.batch, curve.at.seed)


def _known(sweep: Sweep) -> dict[tuple[str, str, int, str, int, int], RateCurve]:
    """Return the whole curves by model, method, rank, targets, batch and seed."""
    return {
        (at.model, at.method, at.rank, at.targets, at.batch, at.seed): curve
        for curve in curves(sweep)
        for at in (curve.at,)
    }


def _pairs(sweep: Sweep, **other: Any) -> Iterator[tuple[RateCurve, RateCurve]]:
    """Yield every LoRA curve with the one that differs only in ``other``, if both exist."""
    found = _known(sweep)
    for key, curve in found.items():
        if key[1] != LORA:
            continue
        names = ("model", "method", "rank", "targets", "batch", "seed")
        wanted = dict(zip(names, key, strict=True)) | other
        beside = found.get(tuple(wanted.values()))  # type: ignore[arg-type]
        if beside is not None and beside is not curve:
            yield curve, beside


def _tried(
    trial: str, unit: str, expected: tuple[float, float], pairs: Sequence[Pair], more: str = "", **words: Any
) -> Tried:
    """Return the result. Pairs without a difference, their best rate at an end of the sweep, are only counted.
    ``more``: to add to the trial's note. ``words``: for its texts."""
    kept = [(group, found, used) for group, found, used in pairs if found is not None]
    out = len(pairs) - len(kept)
    used = {point.name for _, _, each in kept for curve in each for point in curve.points}
    more += f"; {out} left out, because the best rate may lie outside the sweep" if out else ""
    what, note = (text.format_map(words) for text in (_TRIALS[trial].what, _TRIALS[trial].note))
    return Tried(
        what, note + more, unit, expected, tuple((group, found) for group, found, _ in kept), len(used)
    )


def _apart(one: RateCurve, other: RateCurve) -> float | None:
    """Return the logarithm of the ratio of the first's best rate to the second's."""
    return None if one.rate is None or other.rate is None else math.log(one.rate / other.rate)


def _worse(one: RateCurve, other: RateCurve) -> float | None:
    """Return the logarithm of the ratio of the first's lowest loss to the second's."""
    if one.best is None or other.best is None or not one.best.loss or not other.best.loss:
        return None
    return math.log(one.best.loss / other.best.loss)


def _times_full(sweep: Sweep) -> Tried:
    found = _pairs(sweep, method=FULL, rank=0, targets=ALL)
    pairs = [(_group(lora), _apart(lora, full), (lora, full)) for lora, full in found]
    return _tried("ten-times-full", TIMES, (TIMES_FULL / GRAIN, TIMES_FULL_SHORT * GRAIN), pairs)


def _rate_by_rank(sweep: Sweep) -> Tried:
    pairs = []
    for model in sweep.models:
        ranks = sweep.values(model, "rank")
        for small, large in _pairs(sweep, rank=max(ranks, default=0)):
            if small.at.model == model and small.at.rank == min(ranks):
                pairs.append((_group(small), _apart(large, small), (small, large)))
    return _tried("alpha-fixed", TIMES, (1 / GRAIN, GRAIN), pairs)


def _feed_forward(sweep: Sweep) -> Tried:
    values = {model: sweep.values(model, "targets") for model in sweep.models}
    mixed = [model for model, targets in values.items() if MLP_AND_MORE in targets and MLP not in targets]
    found = [(one, mlp) for one, mlp in _pairs(sweep, targets=MLP) if one.at.targets == ATTENTION]
    pairs = [(_group(attention), _worse(attention, mlp), (attention, mlp)) for attention, mlp in found]
    note = ""
    if found:
        budget = statistics.fmean(mlp.at.trainable / one.at.trainable for one, mlp in found)
        note += f"; feed-forward maps train {budget:.2g} times as many parameters"
    if mixed:
        names = ", ".join(get_model(model).title for model in mixed)
        note += f"; not on {names}, where feed-forward maps were trained only together with an attention map"
    return _tried("targets-with-feed-forward", PERCENT, (0.0, math.inf), pairs, note)


def _large_batches(sweep: Sweep) -> Tried:
    pairs: list[Pair] = []
    sizes_seen: set[int] = set()
    known = _known(sweep)
    for model in sweep.models:
        batches = sweep.values(model, "batch")
        if len(batches) < 2:
            continue
        sizes_seen |= {batches[0], batches[-1]}
        for small, large in _pairs(sweep, batch=batches[-1]):
            at = small.at
            if (at.model, at.batch) != (model, batches[0]):
                continue
            full = [known.get((model, FULL, 0, ALL, batch, at.seed)) for batch in (batches[0], batches[-1])]
            if full[0] is None or full[1] is None:
                continue
            lora, all_weights = _worse(large, small), _worse(full[1], full[0])
            found = None if lora is None or all_weights is None else lora - all_weights
            pairs.append(((model, 0, at.seed), found, (small, large, full[0], full[1])))
    span = " to ".join(map(str, sorted(sizes_seen)))
    return _tried("small-batches-for-lora", PERCENT, (0.0, math.inf), pairs, span=span)


def _rank_beyond(sweep: Sweep) -> Tried:
    pairs: list[Pair] = []
    rule = next(rule for rule in all_rules() if rule.id == "small-ranks")
    for model in sweep.models:
        ranks = sweep.values(model, "rank")
        for large, small in ((one, two) for rank in ranks for two, one in _pairs(sweep, rank=rank)):
            said = rule.says(job_of(small.at))
            if said is None or small.at.model != model or large.at.rank != ranks[-1]:
                continue
            least, most = said.band or (0.0, 0.0)
            inside = [rank for rank in ranks if least <= rank <= most]
            if inside and small.at.rank == inside[-1] and large.at.rank > most:
                pairs.append((_group(small), _worse(small, large), (small, large)))
    found, seeds = _known(sweep), sorted({point.seed for point in sweep.points})
    by_seed = [
        abs(_worse(curve, other) or 0.0)
        for key, curve in found.items()
        for seed in seeds
        if seed > key[-1] and (other := found.get((*key[:-1], seed))) is not None
    ]
    moved = 100 * math.expm1(statistics.median(by_seed)) if by_seed else 0.0
    return _tried("small-ranks", PERCENT, (-math.inf, moved), pairs, moved=moved)


#: The test of each rule that has one of its own, by the rule's id.
TRIALS: Mapping[str, Callable[[Sweep], Tried]] = {
    "ten-times-full": _times_full,
    "alpha-fixed": _rate_by_rank,
    "targets-with-feed-forward": _feed_forward,
    "small-batches-for-lora": _large_batches,
    "small-ranks": _rank_beyond,
}


def rate_in_band(rule: Rule, sweep: Sweep) -> Tried | None:
    """Return the best rates of the runs that a rule gives a rate for; ``None`` if it covers none."""
    said = [(curve, rule.says(job_of(curve.at))) for curve in curves(sweep)]
    bands = [(curve, one.band) for curve, one in said if one is not None and one.band is not None]
    if not bands:
        return None
    pairs: list[Pair] = [
        (_group(curve), None if curve.rate is None else math.log(curve.rate), (curve,)) for curve, _ in bands
    ]
    lows, highs = zip(*(band for _, band in bands), strict=True)
    method = "LoRA" if bands[0][0].at.method == LORA else "full fine-tuning"
    span = " and ".join(map(str, sorted({curve.at.steps for curve, _ in bands})))
    return _tried("band", RATE, (min(lows), max(highs)), pairs, method=method, span=span)


#: Settings that the sweep varies.
VARIED = (RATES, "r", "target_modules", "batch")


class RuleVerdict(StrEnum):
    """What the sweep says of a rule."""

    SEEN = "seen here"
    NOT_SEEN = "not seen here"
    OPEN = "open: the interval includes the limit"
    NOT_TESTABLE = "not testable here"


@dataclass(frozen=True)
class Replication:
    """One rule tested on the sweep.

    Attributes:
        what: the figure's heading. note: how it was measured, or why the rule is not testable.
        runs: training runs behind it. groups: independent groups among them.
        value, low, high: the figure with its interval, in ``unit``
        (:class:`~peft_lab.advise.recipes.replications.Tried`).
        expected: the range in which the rule expects the figure; an end may be infinite.
        models: the figure for each model alone.
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
    def verdict(self) -> RuleVerdict:
        """Return what the runs say of the rule: seen if the interval lies inside the expected range, not seen if
        outside, open if it overlaps an end, and not testable without interval or expectation."""
        if self.low is None or self.high is None or self.expected is None:
            return RuleVerdict.NOT_TESTABLE
        least, most = self.expected
        if least <= self.low and self.high <= most:
            return RuleVerdict.SEEN
        return RuleVerdict.NOT_SEEN if self.high < least or self.low > most else RuleVerdict.OPEN

    @property
    def text(self) -> str:
        """Return the verdict with the figure and the expected range, or with the reason."""
        if self.verdict is RuleVerdict.NOT_TESTABLE:
            return f"{self.verdict}: {self.note}"
        return f"{self.verdict}: {self.measured}; expected {self.limits}; {self.runs:,} short runs"

    @property
    def measured(self) -> str:
        """Return the figure with its interval."""
        if self.value is None:
            return ""
        return measured(Interval(self.value, self.low, self.high, self.groups, self.groups), self.unit)

    @property
    def limits(self) -> str:
        """Return the range that the rule expects."""
        if self.expected is None:
            return ""
        low, high = self.expected
        if math.isinf(high):
            return f"above {written(low, self.unit)}"
        if math.isinf(low):
            return f"below {written(high, self.unit)}"
        return f"{_bare(low, self.unit)} to {written(high, self.unit)}"

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON, which has no infinity: an open end is ``None``."""
        ends = None if self.expected is None else [None if math.isinf(end) else end for end in self.expected]
        told = {
            name: getattr(self, name) for name in ("what", "value", "low", "high", "unit", "groups", "note")
        }
        return {
            **told,
            "verdict": str(self.verdict).partition(":")[0],
            "expected": ends,
            "trainings": self.runs,
        }


def written(value: float, unit: str) -> str:
    """Return a figure in its unit.

    >>> written(12.345, "times"), written(-1.25, "%"), written(0.000213, "rate")
    ('12 times', '-1.2%', '2.1e-4')
    """
    return _bare(value, unit) + {PERCENT: "%", RATE: ""}.get(unit, f" {unit}")


def _bare(value: float, unit: str) -> str:
    if unit == PERCENT:
        return f"{value:+.1f}" if value else "0"
    short = float(f"{value:.2g}")
    return written_figure(short) if unit == RATE else f"{short:g}"


def measured(found: Interval, unit: str) -> str:
    """Return a figure with its interval, if it has one.

    >>> measured(Interval(12.3, 7.5, 16.2, groups=4, pairs=40), "times")
    '12 times (7.5 to 16)'
    """
    value = written(found.value, unit)
    if found.low is None or found.high is None:
        return value
    return f"{value} ({_bare(found.low, unit)} to {_bare(found.high, unit)})"


def replicate(sweep: Sweep, only: str = "") -> dict[str, Replication]:
    """Return what a sweep shows about every rule, by rule, or about ``only`` one."""
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
        return Replication(rule.id, f"the sweep has no pair of runs for this rule ({found.note})", found.what)
    note = found.note + _beyond(rule, found, sweep)
    if whole.groups < 2:
        note += "; a single group has no interval"
    return Replication(
        rule.id, note, found.what, found.runs, whole.groups, *_figures(found, whole), found.expected, found.unit,
        _by_model(found, sweep),
    )  # fmt: skip


def _beyond(rule: Rule, found: Tried, sweep: Sweep) -> str:
    """Return a note on models that the source does not cover, so that they do not test it."""
    used = {group[0] for group, _ in found.differences}
    outside = [
        model for model in sweep.models
        if model in used and not any(rule.says(job_of(point)) for point in _one_of_each(sweep.on(model)))
    ]  # fmt: skip
    names = ", ".join(get_model(model).title for model in outside)
    return f"; the source does not cover models such as {names}" if names else ""


def _one_of_each(points: Iterable[SweepPoint]) -> Iterable[SweepPoint]:
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
    """Return why a sweep of such runs shows nothing about a rule."""
    if not any(rule.says(job_of(point)) for model in sweep.models for point in _one_of_each(sweep.on(model))):
        return "the sweep trains LoRA and all weights, and the source covers none of its runs"
    if rule.field not in VARIED:
        return f"the sweep does not vary {label(rule.field)}"
    return f"the sweep has too few values of {label(rule.field)} for it"


@cache
def replications() -> Mapping[str, Replication]:
    """Return what the shipped sweep shows, by rule."""
    return replicate(shipped_points())


def replicated(rule: str) -> str:
    """Return a rule's verdict for a table cell, with its figure or the reason."""
    return replications()[rule].text
