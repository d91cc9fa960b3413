"""Read finished comparisons that come with the app, measured elsewhere: ``shipped/*.json``, made by
``python -m tools.ship_comparison``. Conclusions are derived from the figures when they are read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from peft_lab.core import disk
from peft_lab.core.errors import BadInput
from peft_lab.core.units import Source
from peft_lab.engine import published
from peft_lab.engine.published import BENCHMARKS, METAMATH, PublishedRow
from peft_lab.methods import get_method
from peft_lab.models.catalogue import get_model
from peft_lab.studies.compare.results import Axis, with_conclusions

FOLDER = "shipped"


@cache
def all_shipped() -> dict[str, dict[str, Any]]:
    """Return the documents of :mod:`peft_lab.studies.compare.results` by id, in the order of their files."""
    documents = map(disk.read_json, sorted((Path(__file__).parent / FOLDER).glob("*.json")))
    return {document["id"]: with_conclusions(document) for document in documents}


# ----------------------------------------
# The published comparison as rows of figures: on axes, by method, and as settings of this lab.
#
# Two figures differ from ours of the same name: a published peak is what the allocator reserved over the whole
# run, including an evaluation that generates, while ours is the tensors of one training step; and each published
# row is a single run. Training time is that of the steps alone, as ours is.


DEFAULT_BENCHMARK = ("trainable", "metric_mean")
#: Relative difference up to which two counts are the same budget.
EQUAL = 0.1
#: This lab's methods by their name in the published comparison.
_PAGES = {
    "lora": "lora",
    "ia3": "ia3",
    "prefixtuning": "prefix",
    "prompt_tuning": "prompt",
    "ptuning": "ptuning",
}
_TARGETS = ("target_modules", "feedforward_modules")
_STARTS = {True: "default", None: "random"}


def published_axes(benchmark: str = METAMATH) -> dict[str, Axis]:
    """Return the axes offered for a benchmark. Runs on images differ in steps, so the time of a step replaces that
    of the run."""
    about = BENCHMARKS[benchmark]
    kept, unit = about.kept
    time = (
        ("seconds", "Training time") if benchmark == METAMATH else ("step_seconds", "Time of a training step")
    )
    found = [
        Axis("metric_mean", about.measure, "share", "high", Source.CITED),
        Axis("trainable", "Trained parameters", "parameters", "low", Source.CITED),
        Axis("stored_bytes", "Stored size", "bytes", "low", Source.CITED),
        Axis("peak_bytes", "Peak reserved memory of the run", "bytes", "low", Source.CITED),
        Axis(*time, "seconds", "low", Source.CITED),
        Axis("tokens_per_second", "Tokens per second of training", "tokens/s", "high", Source.CITED),
        Axis("forgetting_change", kept, unit, "low", Source.CITED),
    ]
    known = published_points(benchmark)
    return {axis.name: axis for axis in found if any(row[axis.name] is not None for row in known)}


def published_points(benchmark: str = METAMATH) -> list[dict[str, Any]]:
    """Return one row for each published experiment: method (the experiment), title and the figures of
    :func:`published_axes`. A published row is one run: the metric's spread is the median change by re-runs."""
    moved = published.moved(benchmark)
    return [
        {
            "method": row.experiment,
            "title": row.title,
            "metric_mean": row.accuracy,
            "metric_std": moved and moved.median,
            "trainable": row.trainable,
            "percent": 100 * row.trainable / row.total,
            "stored_bytes": row.stored,
            "peak_bytes": row.reserved,
            "seconds": row.seconds,
            "step_seconds": row.step_seconds,
            "tokens_per_second": row.tokens_per_second,
            "forgetting_change": row.forgetting,
        }
        for row in published.rows(benchmark).values()
    ]


def families(benchmark: str = METAMATH) -> dict[str, list[PublishedRow]]:
    """Return the runs by method, each method's best first and the best method first."""
    best = sorted(published.rows(benchmark).values(), key=lambda row: -row.accuracy)
    return {
        kind: [row for row in best if row.kind == kind] for kind in dict.fromkeys(row.kind for row in best)
    }


def several_published(benchmark: str = METAMATH) -> dict[str, list[PublishedRow]]:
    """Return the methods with more than one published figure, from other settings or re-runs."""
    return {
        kind: found
        for kind, found in families(benchmark).items()
        if len(found) + sum(len(row.reruns) for row in found) > 1
    }


def published_setting(row: PublishedRow, among: Sequence[PublishedRow]) -> str:
    """Return the fields in which a row differs from others of its method, as text."""
    names = sorted({name for other in among for name in other.config or {}})
    told = [_written(row, name) for name in names if len({_written(other, name) for other in among}) > 1]
    if len({other.optimizer for other in among}) > 1 and row.optimizer != "AdamW":
        told.append(f"optimizer {row.optimizer}")
    if row.start_text:
        told.append("starts from a text's keys and values")
    if len({other.learning_rate for other in among}) > 1:
        told.append(f"learning rate {row.learning_rate:g}")
    return ", ".join(filter(None, told)) or "–"


def _written(row: PublishedRow, name: str) -> str:
    """Return a field of a row's config as text; empty if it is off."""
    value = (row.config or {}).get(name)
    if name in _TARGETS:
        if not isinstance(value, list) and row.kind in _PAGES:
            value = get_method(_PAGES[row.kind]).defaults(get_model(published.MODEL).shape)[name]
        return f"{name} {' '.join(sorted(set(value))) if isinstance(value, list | tuple) else value}"
    if value is None or value is False or value == {} or (value is True and name.startswith("init_")):
        return ""
    return name if value is True or isinstance(value, Mapping) else f"{name} {value}"


def budgets(found: Sequence[PublishedRow]) -> list[list[PublishedRow]]:
    """Group runs of nearly equal size: each count is within ``EQUAL`` of the next smaller one; best first in each
    group, groups of at least two, by size."""
    groups: list[list[PublishedRow]] = []
    for row in sorted(found, key=lambda row: row.trainable):
        if groups and row.trainable <= (1 + EQUAL) * groups[-1][-1].trainable:
            groups[-1].append(row)
        else:
            groups.append([row])
    return [sorted(group, key=lambda row: -row.accuracy) for group in groups if len(group) > 1]


def lab_page(row: PublishedRow) -> tuple[str, dict[str, Any]] | None:
    """Return the row's method in this lab and the knobs that differ from its defaults; ``None`` if the lab lacks
    these settings, or its own formula does not give the published count."""
    if row.kind not in _PAGES or row.benchmark != METAMATH:
        return None
    spec, shape = get_method(_PAGES[row.kind]), get_model(published.MODEL).shape
    config = row.config or {}
    values = {
        name: config[name]
        for name in (knob.name for knob in spec.knobs)
        if config.get(name) not in (None, {})
    }
    for name in ("init_lora_weights", "init_weights"):
        if any(knob.name == name for knob in spec.knobs):
            values[name] = _STARTS.get(config.get(name), config.get(name))
    if row.start_text:
        values |= {"init_weights": "text", "init_text": row.start_text}
    try:
        full = spec.require(shape, {name: spec.knob(name).check(value) for name, value in values.items()})
    except BadInput:
        return None
    if spec.formula(shape, full).trainable != row.trainable:
        return None
    usual = spec.defaults(shape)
    return spec.slug, {name: value for name, value in full.items() if value != usual[name]}
