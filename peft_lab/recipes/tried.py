"""What of a rule can be tried on the lab's small models: each function picks pairs of trainings out of a sweep that
differ in one thing, and says what the rule expects of them.

All differences are of logarithms: of best learning rates, or of the lowest held-out losses over all rates, so that each
side of a pair has its own best rate. A group is what shares model, batch and seed (:mod:`peft_lab.sweep.groups`).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from peft_lab.models.catalogue import get_model
from peft_lab.recipes import rates, runs, sizes
from peft_lab.recipes.job import Job, job
from peft_lab.recipes.rules import GRAIN, Rule
from peft_lab.sweep.curves import Curve, curves
from peft_lab.sweep.points import ALL, ATTENTION, FULL, LORA, MLP, MLP_AND_MORE, Point, Sweep

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
