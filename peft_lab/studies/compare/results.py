"""Compute a comparison's results, as one document that the page, the command line and the shipped file share.

Bytes are integers, seconds floats, metrics shares. Figures over seeds are means, with the sample standard deviation
beside them as ``_std``, ``None`` for fewer than two seeds. ``peak_bytes`` is the largest over seeds.
"""

from __future__ import annotations

import itertools
import math
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from peft_lab.core.errors import RunError, named
from peft_lab.core.units import Source
from peft_lab.methods import get_method
from peft_lab.models.catalogue import model_title
from peft_lab.runs import measuring, record
from peft_lab.runs.spec import entry_of
from peft_lab.runs.store import Run
from peft_lab.studies.compare.store import Cell, Comparison, ComparisonPlan, Standing, command_of
from peft_lab.training.tasks import get_task
from peft_lab.training.tasks.own import each_of, task_title

# ----------------------------------------
# Means and spreads over seeds, and which differences exceed noise.
#
# Two methods count as different if their means differ by more than twice the standard deviation of a difference,
# 2 sqrt(s_a^2 + s_b^2) with the sample standard deviations over seeds, and by more than one held-out row. With
# three seeds and normal figures, equal methods exceed that in about one of forty pairs (Welch's t above 2 sqrt(3),
# four degrees of freedom). There is no correction for the number of pairs.


FACTOR = 2.0  # standard deviations of a difference that a difference of means has to exceed


@dataclass(frozen=True)
class Pair:
    """Two methods, the better one first. ``apart``: whether ``difference`` exceeds ``noise``, the threshold."""

    better: str
    worse: str
    difference: float
    noise: float
    apart: bool


def mean(values: Sequence[float]) -> float | None:
    """Return the arithmetic mean, in the unit of the values; ``None`` for no values."""
    return statistics.fmean(values) if values else None


def deviation(values: Sequence[float]) -> float | None:
    """Return the sample standard deviation; ``None`` for fewer than two values.

    >>> round(deviation([0.80, 0.82, 0.84]), 4), deviation([0.80])
    (0.02, None)
    """
    return statistics.stdev(values) if len(values) > 1 else None


def seed_pairs(scores: Mapping[str, Sequence[float]], rows: int) -> list[Pair]:
    """Compare every two methods that have at least two seeds each; largest difference first.

    Args:
        scores: the metric by seed for each method; higher is better.
        rows: held-out rows that the metric is a share of.

    >>> [pair.apart for pair in seed_pairs({"lora": [0.81, 0.83], "ia3": [0.80, 0.82]}, rows=100)]
    [False]
    """
    known = {name: values for name, values in scores.items() if len(values) > 1}
    found = []
    for first, second in itertools.combinations(known, 2):
        better, worse = sorted((first, second), key=lambda name: statistics.fmean(known[name]), reverse=True)
        difference = statistics.fmean(known[better]) - statistics.fmean(known[worse])
        noise = FACTOR * math.hypot(statistics.stdev(known[better]), statistics.stdev(known[worse]))
        noise = max(noise, 1 / rows if rows else 0.0)
        # Figures are shares of whole rows: equal differences may differ in the last binary digit.
        found.append(Pair(better, worse, difference, noise, difference > noise * (1 + 1e-9)))
    return sorted(found, key=lambda pair: -pair.difference)


def sampling_error(share: float, rows: int) -> float:
    """Return the standard error of a share over the choice of held-out rows: binomial, with two rows of either kind
    added, so that none or all of a few rows does not count as certain (Agresti & Coull 1998).

    >>> round(sampling_error(0.9, 100), 3), round(sampling_error(1.0, 10), 3)  # 1 is not certain
    (0.031, 0.094)
    """
    share = (share * rows + 2) / (rows + 4)
    return math.sqrt(share * (1 - share) / (rows + 4))


# ----------------------------------------
# What a comparison can and cannot show, as plain sentences derived from its figures.


MOST_NAMED = 6  # pairs named in a sentence; the others are counted


def comparison_sentences(found: Mapping[str, Any], pairs: Sequence[Pair]) -> list[str]:
    """Return the conclusions as sentences, most important first; none while no run is done."""
    scored = [row for row in found["rows"] if row["metric_values"]]
    if not scored:
        return []
    plan, rows, left = found["plan"], found["metric"]["rows"], found["total"] - found["done"]
    titles = {row["method"]: row["title"] for row in found["rows"]}
    each = each_of(plan["task"])
    said = _verdict(pairs, titles, len(plan["seeds"]), len(scored))
    if rows:
        error = max(sampling_error(row["metric_mean"], rows) for row in scored)
        said.append(
            f"All methods were scored on the same {rows:,} held-out {each}s. On other {each}s, a score would differ by "
            f"about {100 * error:.1f} points (at most one standard error); more seeds do not reduce this."
        )
    forgot = [row for row in scored if row["forgetting_change"] is not None]
    if forgot:
        most = max(forgot, key=lambda row: row["forgetting_change"])
        said.append(
            f"The loss on unrelated text moved most with {most['title']}: {most['forgetting_change']:+.3f} nats per "
            "token (with the adapter in place). Removing an adapter undoes this; full fine-tuning cannot be undone."
        )
    settings = "with its default settings" if not plan["values"] else "with one setting"
    said.append(
        f"Each method ran {settings}. The defaults were chosen on this app's own models and tasks. {plan['steps']:,} "
        f"step{'' if plan['steps'] == 1 else 's'} of {plan['batch']} {each}s on {model_title(plan['model'])} and "
        f"{task_title(plan['task'])} say nothing about other models, tasks, or longer training."
    )
    if left:
        verb = "is" if left == 1 else "are"
        said.append(f"{left} of {found['total']} runs {verb} not done, so some means are over fewer seeds.")
    return said


def _verdict(pairs: Sequence[Pair], titles: Mapping[str, str], seeds: int, scored: int) -> list[str]:
    if scored < 2:
        return ["There is only one method so far, so there is nothing to compare."]
    if not pairs:
        return ["With one seed, the noise is unknown, so no difference between these methods can be trusted."]
    apart = [pair for pair in pairs if pair.apart]
    noise = [pair for pair in pairs if not pair.apart]
    rule = (
        f"A difference between two methods counts if it exceeds {FACTOR:g} times its standard deviation over the "
        "seeds; smaller ones may be noise."
    )
    if not apart:
        none = "The two do not differ" if len(pairs) == 1 else f"None of the {len(pairs)} pairs differs"
        return [rule, f"{none} by that much, so this comparison cannot rank the methods."]
    if not noise:
        every = f"All {len(pairs)} pairs differ by that much" if len(pairs) > 1 else _over(apart[0], titles)
        return [rule, f"{every}."]
    summary = f"{len(apart)} of {len(pairs)} pairs differ{'s' if len(apart) == 1 else ''} by that much"
    if len(noise) <= len(apart):
        named = _list([f"{titles[p.better]} and {titles[p.worse]}" for p in noise])
        return [rule, f"{summary}. Too close to tell apart: {named}."]
    return [rule, f"{summary}: {_list([_over(pair, titles) for pair in apart])}."]


def _over(pair: Pair, titles: Mapping[str, str]) -> str:
    return f"{titles[pair.better]} beats {titles[pair.worse]} by {100 * pair.difference:.1f} points"


def _list(names: Sequence[str]) -> str:
    more = len(names) - MOST_NAMED
    return "; ".join(names[:MOST_NAMED]) + (f"; and {more} more" if more > 0 else "")


# ----------------------------------------
# Axes on which methods can be compared, and the Pareto front: the methods that no other dominates.


@dataclass(frozen=True)
class Axis:
    """One figure of a row, by its field ``name``. ``title``: its ``{metric}`` and ``{unit}`` are filled in. ``unit``:
    as :func:`peft_lab.core.units.show` takes it. ``better``: which end is preferred."""

    name: str
    title: str
    unit: str
    better: Literal["low", "high"]
    source: Source


AXES = {
    axis.name: axis
    for axis in (
        Axis("metric_mean", "{metric}", "share", "high", Source.MEASURED),
        Axis("trainable", "Trained parameters", "parameters", "low", Source.COUNTED),
        Axis("stored_bytes", "Stored size", "bytes", "low", Source.MEASURED),
        Axis("peak_bytes", "Peak memory of a step", "bytes", "low", Source.MEASURED),
        Axis("seconds", "Training time", "seconds", "low", Source.MEASURED),
        Axis("added_seconds", "Added inference time per {unit}", "seconds", "low", Source.MEASURED),
        Axis("forgetting_change", "Rise of the loss on unrelated text", "nats/token", "low", Source.MEASURED),
    )
}
DEFAULT_AXES = ("trainable", "metric_mean")


def get_axis(name: str) -> Axis:
    """Return an axis by name. Raises UnknownName if there is none."""
    return named("axis", name, AXES, "axes")


def pareto_front(rows: Sequence[Mapping[str, Any]], x: str | Axis, y: str | Axis) -> list[str]:
    """Return the methods that no other equals on both axes and beats on one, in the order of ``x``.
    Rows without one of the figures are ignored.

    Raises:
        UnknownName: there is no such axis.

    >>> rows = [
    ...     {"method": "lora", "trainable": 100, "metric_mean": 0.9},
    ...     {"method": "ia3", "trainable": 10, "metric_mean": 0.8},
    ...     {"method": "prompt", "trainable": 20, "metric_mean": 0.7},  # IA3 is smaller and better
    ... ]
    >>> pareto_front(rows, "trainable", "metric_mean")
    ['ia3', 'lora']
    """
    axes = [axis if isinstance(axis, Axis) else get_axis(axis) for axis in (x, y)]
    points = {
        str(row["method"]): tuple(row[axis.name] * (1 if axis.better == "low" else -1) for axis in axes)
        for row in rows
        if all(row.get(axis.name) is not None for axis in axes)
    }
    kept = [
        name
        for name, point in points.items()
        if not any(
            other != point and all(a <= b for a, b in zip(other, point, strict=True))
            for other in points.values()
        )
    ]
    return sorted(kept, key=lambda name: points[name])


Record = Mapping[str, Any]


def document(
    comparison: Comparison, standing: Standing | None = None, axes: tuple[str, str] = DEFAULT_AXES
) -> dict[str, Any]:
    """Return the document of a comparison, under way or finished; ``rows`` are those of :func:`_row`. Raises RunError
    if a plan or record cannot be read, UnknownName if there is no such axis."""
    plan = comparison.plan
    standing = standing or comparison.standing(plan)
    records = {cell: _record(standing.runs[cell]) for cell in standing.done}
    task = get_task(plan.request.task)
    rows = [_row(plan, slug, standing, records) for slug in plan.request.methods]
    one: Record = next(iter(records.values()), {})
    found: dict[str, Any] = {
        "id": comparison.id,
        "status": standing.status,
        "command": command_of(plan.request),
        "created": time.strftime("%Y-%m-%d", time.gmtime(comparison.created)),
        "plan": {
            **_plain(vars(plan.request)),
            "max_length": plan.cells[0].spec.max_length,
            "values": {slug: _plain(values) for slug, values in plan.request.values.items()},
        },
        "metric": {
            "name": task.metric,
            "title": task.metric.replace("_", " ").capitalize(),
            "rows": one["metric"]["rows"] if one else 0,
        },
        "inference_unit": measuring.UNIT[task.kind] if task.writes else task.each,
        "machines": comparison.machines,
        "packages": _versions(records.values()),
        "device": one.get("device"),
        "dtype": one.get("dtype"),
        "done": len(standing.done),
        "total": len(plan.cells),
        "rows": rows,
        "pareto_axes": {"x": axes[0], "y": axes[1]},
        "pareto": pareto_front(rows, *axes),
        "source": "measured",
    }
    return with_conclusions(found)


def with_conclusions(found: dict[str, Any]) -> dict[str, Any]:
    """Return the document with conclusions from its rows, ``pairs`` and ``says``, by this version's rules also for
    a document from a file."""
    scores = {row["method"]: row["metric_values"] for row in found["rows"]}
    pairs = seed_pairs(scores, found["metric"]["rows"])
    return {**found, "pairs": list(map(asdict, pairs)), "says": comparison_sentences(found, pairs)}


def _record(run: Run) -> Record:
    try:
        found = run.record()
    except RunError:
        found = {}  # the events, from which the record was made, are still there
    return found or record.result(run)  # a run that was killed has no record file


def _versions(records: Sequence[Record] | Any) -> dict[str, list[str]]:
    """Return each package's versions in the runs; more than one if the comparison continued after an update."""
    found: dict[str, list[str]] = {}
    for each in records:
        for name, version in each["packages"].items():
            if version not in found.setdefault(name, []):
                found[name].append(version)
    return found


def _row(
    plan: ComparisonPlan, slug: str, standing: Standing, records: Mapping[Cell, Record]
) -> dict[str, Any]:
    """Return one method's row. Figures are ``None`` until a run provides them; ``why`` says why there are none."""
    spec = get_method(slug)
    cells = [cell for cell in plan.cells if cell.method == slug]
    mine = {cell: records[cell] for cell in cells if cell in records}
    first: Record = next(iter(mine.values()), {})
    total = plan.totals.get(slug)
    trainable = first.get("trainable")
    metric = [each["metric"]["after"] for each in mine.values() if each["metric"]["after"] is not None]
    inference = [each["inference"] for each in mine.values() if each.get("inference")]
    return {
        "method": slug,
        "title": spec.title,
        **_state(plan, slug, cells, standing),
        "seeds": [cell.seed for cell in mine],
        "runs": [standing.runs[cell].id for cell in mine],
        "trainable": trainable,
        "head": first.get("head"),
        "total": total,
        "percent": 100 * trainable / total if trainable is not None and total else None,
        "metric_values": metric,
        "metric_mean": mean(metric),
        "metric_std": deviation(metric),
        "metric_before": mean(
            [each["metric"]["before"] for each in mine.values() if each["metric"]["before"] is not None]
        ),
        **_over_seeds("seconds", [each["seconds"] for each in mine.values()]),
        "peak_bytes": max(
            (each["memory"]["peak_bytes"] for each in mine.values() if each["memory"]), default=None
        ),
        "stored_bytes": first.get("stored_bytes"),
        "base_inference_seconds": mean([each["base_seconds"] for each in inference]),
        **_over_seeds("added_seconds", [each["added_seconds"] for each in inference]),
        "mergeable": spec.mergeable,
        **_forgetting(
            [each["unrelated"] for each in mine.values() if each.get("unrelated")],
            bool(mine),
            entry_of(plan.request.model).kind,
        ),
        "learning_rate": cells[0].spec.learning_rate if cells else None,
        "head_learning_rate": cells[0].spec.head_learning_rate if cells else None,
        "values": _plain(cells[0].spec.values) if cells else {},
        "loss": _curve([each["loss"] for each in mine.values()]),
    }


def merging(row: Mapping[str, Any]) -> str:
    """Return whether a row's method can be merged, in words; one that adds nothing to the model needs no merge."""
    if not get_method(row["method"]).adds:
        return "needs none"
    return "yes" if row["mergeable"] else "no"


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


def _state(plan: ComparisonPlan, slug: str, cells: Sequence[Cell], standing: Standing) -> dict[str, str]:
    if slug in plan.refused:
        return {"status": "does not apply", "why": plan.refused[slug]}
    done = sum(cell in standing.done for cell in cells)
    failed = [cell for cell in cells if cell in standing.failed]
    if failed:
        why = standing.runs[failed[0]].view().message
        return {"status": "failed" if not done else "partly failed", "why": why}
    if done == len(cells):
        return {"status": "done", "why": ""}
    return {"status": "partial" if done else "pending", "why": ""}


def _over_seeds(name: str, values: Sequence[float]) -> dict[str, float | None]:
    return {name: mean(values), f"{name}_std": deviation(values)}


def _forgetting(found: Sequence[Record], ended: bool, kind: str) -> dict[str, Any]:
    change = [each["after"]["loss"] - each["before"]["loss"] for each in found if each["before"]]
    return {
        "forgetting_before": mean([each["before"]["loss"] for each in found if each["before"]]),
        "forgetting_after": mean([each["after"]["loss"] for each in found]),
        **_over_seeds("forgetting_change", change),
        "forgetting_tokens": found[0]["after"]["tokens"] if found else None,
        "forgetting_task": found[0]["after"]["task"] if found else None,
        "forgetting_why": measuring.no_loss(kind) if ended and not found else "",
    }


def _curve(losses: Sequence[Sequence[float]]) -> dict[str, list[float | None]]:
    """Return the training loss by step, mean and standard deviation over seeds."""
    steps = list(zip(*losses, strict=False))
    return {"mean": [mean(step) for step in steps], "std": [deviation(step) for step in steps]}
