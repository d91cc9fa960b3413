"""Whether this lab's small models show what a rule says: seen here, not seen here, or not testable here.

All is worked out from the shipped sweep (:mod:`peft_lab.studies.shipped_sweep`): a figure with its interval, and
beside it what the rule expects. Seen where the interval lies within that, not seen where it lies outside; an interval
that reaches over
the edge says neither.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from typing import Any

from peft_lab.advise.recipes import rates, runs, sizes
from peft_lab.advise.recipes.job import GRAIN, Job, Rule, job
from peft_lab.advise.recipes.rates import RATE as RATES
from peft_lab.advise.recipes.recipe import all_rules
from peft_lab.core.setting_words import label, written_figure
from peft_lab.models.catalogue import get_model
from peft_lab.studies.shipped_sweep import (
    ALL,
    ATTENTION,
    FULL,
    LORA,
    MLP,
    MLP_AND_MORE,
    Curve,
    Interval,
    Point,
    Sweep,
    curves,
    interval,
    shipped_points,
)

# ----------------------------------------
# What of a rule can be tried on the lab's small models: each function picks pairs of trainings out of a sweep that
# differ in one thing, and says what the rule expects of them.
#
# All differences are of logarithms: of best learning rates, or of the lowest held-out losses over all rates, so that
# each side of a pair has its own best rate. A group is what shares model, batch and seed
# (:mod:`peft_lab.studies.shipped_sweep`).


TIMES, PERCENT, RATE = "times", "%", "rate"
Group = tuple[str, int, int]


@dataclass(frozen=True)
class Tried:
    """What a sweep has on a rule.

    Attributes:
        what: the figure, as a heading. note: how it was taken.
        unit: ``times`` a ratio, ``%`` a difference in percent, ``rate`` a learning rate.
        expected: what the rule says it lies in.
        differences: logarithms, each with its group.
        runs: trainings behind them.
    """

    what: str
    note: str
    unit: str
    expected: tuple[float, float]
    differences: tuple[tuple[Group, float], ...]
    runs: int

    def figure(self, logarithm: float) -> float:
        """In the unit."""
        return 100 * math.expm1(logarithm) if self.unit == PERCENT else math.exp(logarithm)


Trial = Callable[[Sweep], Tried]
TRIALS: dict[str, Trial] = {}


def trial(of: Callable[[Job], Any]) -> Callable[[Trial], Trial]:
    """Enter a function as what tries the rule of that function."""

    def enter(does: Trial) -> Trial:
        TRIALS[of.__name__.strip("_").replace("_", "-")] = does
        return does

    return enter


def job_of(point: Point) -> Job:
    """The job that a training does, as the rules are asked of it."""
    shape = get_model(point.model).shape
    objective = "classification" if shape.kind == "encoder" else "extraction"
    values = {"r": point.rank} if point.method == LORA else {}
    return job(point.method, shape, objective, point.steps * point.batch, batch=point.batch, values=values)


def _group(curve: Curve) -> Group:
    return (curve.at.model, curve.at.batch, curve.at.seed)


def _known(sweep: Sweep) -> dict[tuple[str, str, int, str, int, int], Curve]:
    """Whole curves by model, method, rank, targets, batch and seed."""
    return {
        (at.model, at.method, at.rank, at.targets, at.batch, at.seed): curve
        for curve in curves(sweep)
        for at in (curve.at,)
    }


def _pairs(sweep: Sweep, **other: Any) -> Iterator[tuple[Curve, Curve]]:
    """Every LoRA curve with the one that differs from it in ``other`` alone, where both are there."""
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
    what: str, note: str, unit: str, expected: tuple[float, float],
    pairs: Sequence[tuple[Group, float | None, tuple[Curve, ...]]],
) -> Tried:  # fmt: skip
    """Pairs without a difference, whose best rate lies at an end of the sweep, are left out and counted."""
    kept = [(group, found, used) for group, found, used in pairs if found is not None]
    out = len(pairs) - len(kept)
    used = {point.name for _, _, each in kept for curve in each for point in curve.points}
    more = f"; {out} left out, whose best rate may lie beyond the sweep's" if out else ""
    return Tried(
        what, note + more, unit, expected, tuple((group, found) for group, found, _ in kept), len(used)
    )


def _apart(one: Curve, other: Curve) -> float | None:
    """Logarithm of the best rate of one over that of the other."""
    return None if one.rate is None or other.rate is None else math.log(one.rate / other.rate)


def _worse(one: Curve, other: Curve) -> float | None:
    """Logarithm of the lowest loss of one over that of the other."""
    if one.best is None or other.best is None or not one.best.loss or not other.best.loss:
        return None
    return math.log(one.best.loss / other.best.loss)


@trial(rates.ten_times_full)
def _times_full(sweep: Sweep) -> Tried:
    pairs = [
        (_group(lora), _apart(lora, full), (lora, full))
        for lora, full in _pairs(sweep, method=FULL, rank=0, targets=ALL)
    ]
    return _tried(
        "Best rate of LoRA over that of full fine-tuning",
        "same model, batch and seed; geometric mean over ranks and targets",
        TIMES,
        (rates.TIMES_FULL / GRAIN, rates.TIMES_FULL_SHORT * GRAIN),
        pairs,
    )


@trial(sizes.alpha_fixed)
def _rate_by_rank(sweep: Sweep) -> Tried:
    pairs = []
    for model in sweep.models:
        ranks = sweep.values(model, "rank")
        for small, large in _pairs(sweep, rank=max(ranks, default=0)):
            if small.at.model == model and small.at.rank == min(ranks):
                pairs.append((_group(small), _apart(large, small), (small, large)))
    return _tried(
        "Best rate at the largest rank over that at the smallest",
        "α fixed, same targets, batch and seed",
        TIMES,
        (1 / GRAIN, GRAIN),
        pairs,
    )


@trial(sizes.targets_with_feed_forward)
def _feed_forward(sweep: Sweep) -> Tried:
    mixed = [
        model
        for model in sweep.models
        if MLP_AND_MORE in (targets := sweep.values(model, "targets")) and MLP not in targets
    ]
    found = [(one, mlp) for one, mlp in _pairs(sweep, targets=MLP) if one.at.targets == ATTENTION]
    pairs = [(_group(attention), _worse(attention, mlp), (attention, mlp)) for attention, mlp in found]
    note = "same rank, batch and seed"
    if found:
        budget = statistics.fmean(mlp.at.trainable / one.at.trainable for one, mlp in found)
        note += f"; feed-forward maps train {budget:.2g} times as many parameters"
    if mixed:
        names = ", ".join(get_model(model).title for model in mixed)
        note += f"; not on {names}, where the feed-forward maps were trained with one of the attention only"
    return _tried(
        "Lowest loss of attention alone over that of the feed-forward maps alone",
        note,
        PERCENT,
        (0.0, math.inf),
        pairs,
    )


@trial(runs.small_batches_for_lora)
def _large_batches(sweep: Sweep) -> Tried:
    pairs: list[tuple[Group, float | None, tuple[Curve, ...]]] = []
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
    return _tried(
        "What the larger batch costs LoRA over what it costs full fine-tuning, in loss",
        f"batches {span} over the same rows, same rank, targets and seed; a group is a model and a seed",
        PERCENT,
        (0.0, math.inf),
        pairs,
    )


@trial(sizes.small_ranks)
def _rank_beyond(sweep: Sweep) -> Tried:
    pairs: list[tuple[Group, float | None, tuple[Curve, ...]]] = []
    for model in sweep.models:
        ranks = sweep.values(model, "rank")
        for large, small in ((one, two) for rank in ranks for two, one in _pairs(sweep, rank=rank)):
            said = sizes.small_ranks(job_of(small.at))
            if said is None or small.at.model != model or large.at.rank != ranks[-1]:
                continue
            least, most = said.band or (0.0, 0.0)
            inside = [rank for rank in ranks if least <= rank <= most]
            if inside and small.at.rank == inside[-1] and large.at.rank > most:
                pairs.append((_group(small), _worse(small, large), (small, large)))
    moved = _moved_by_seed(sweep)
    return _tried(
        "Lowest loss at the rule's largest rank over that at the sweep's largest",
        f"same targets, batch and seed; expected within what another seed moves in the median, {moved:.1f}%",
        PERCENT,
        (-math.inf, moved),
        pairs,
    )


def _moved_by_seed(sweep: Sweep) -> float:
    """By how many percent the lowest loss of a configuration differs between two seeds, in the median."""
    found = _known(sweep)
    seeds = sorted({point.seed for point in sweep.points})
    moved = [
        abs(_worse(curve, other) or 0.0)
        for key, curve in found.items()
        for seed in seeds
        if seed > key[-1] and (other := found.get((*key[:-1], seed))) is not None
    ]
    return 100 * math.expm1(statistics.median(moved)) if moved else 0.0


def rate_in_band(rule: Rule, sweep: Sweep) -> Tried | None:
    """The best rate of the trainings that a rule gives a rate for; ``None`` where it speaks of none."""
    pairs: list[tuple[Group, float | None, tuple[Curve, ...]]] = []
    bands, steps = [], set()
    for curve in curves(sweep):
        said = rule.says(job_of(curve.at))
        if said is None or said.band is None:
            continue
        bands.append(said.band)
        steps.add(curve.at.steps)
        pairs.append((_group(curve), None if curve.rate is None else math.log(curve.rate), (curve,)))
    if not bands:
        return None
    method = "LoRA" if pairs[0][2][0].at.method == LORA else "full fine-tuning"
    span = " and ".join(map(str, sorted(steps)))
    return _tried(
        f"Best rate of {method}",
        f"in {span} steps; the source's trainings are longer",
        RATE,
        (min(low for low, _ in bands), max(high for _, high in bands)),
        pairs,
    )


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
        value, low, high: the figure with its interval, in ``unit``
        (:class:`~peft_lab.advise.recipes.replications.Tried`).
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
        """Return what the runs say of the rule, by the interval from ``low`` to ``high``.

        Returns:
            SEEN if the interval lies inside the expected range, NOT_SEEN if outside, OPEN if it overlaps an end, and
            NOT_TESTABLE if the interval or the expectation is missing.
        """
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
    return written_figure(short) if unit == RATE else f"{short:g}"


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
    return replicate(shipped_points())


def replicated(rule: str) -> str:
    """A rule's verdict in a cell, with its figure or the reason."""
    return replications()[rule].text
