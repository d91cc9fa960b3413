"""The best learning rate of every method, batch and rank, with what seeds and targets moved it."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from peft_lab.models.catalogue import get_model
from peft_lab.sweep.curves import Curve, curves
from peft_lab.sweep.points import FULL, Sweep


@dataclass(frozen=True)
class Best:
    """Curves of one model, method, batch and rank: one of each seed and choice of targets.

    Attributes:
        rate: geometric mean of their best rates, with the lowest and the highest; ``None`` where none lies between the
            ends of the sweep.
        loss: mean of their lowest held-out losses, with the lowest and the highest. metric: the same of the shares at
            those rates.
        curves: how many. seeds: how many of them differ.
    """

    model: str
    method: str
    batch: int
    rank: int
    rate: tuple[float, float, float] | None
    loss: tuple[float, float, float]
    metric: tuple[float, float, float]
    curves: int
    seeds: int


def best(sweep: Sweep) -> list[Best]:
    """By model, full fine-tuning first, then by batch and rank; whole curves only."""
    table: dict[tuple[str, bool, int, int], list[Curve]] = {}
    for curve in curves(sweep):
        at = curve.at
        if curve.best is not None:
            table.setdefault((at.model, at.method != FULL, at.batch, at.rank), []).append(curve)
    order = sorted(table, key=lambda key: (sweep.models.index(key[0]), *key[1:]))
    return [_best(table[key]) for key in order]


def _best(found: Sequence[Curve]) -> Best:
    at = found[0].at
    scored = [curve.best for curve in found if curve.best is not None]
    logs = [math.log(curve.rate) for curve in found if curve.rate is not None]
    rate = (math.exp(statistics.fmean(logs)), math.exp(min(logs)), math.exp(max(logs))) if logs else None
    losses, shares = (
        [value for point in scored if (value := getattr(point, name)) is not None]
        for name in ("loss", "metric")
    )
    return Best(
        at.model, at.method, at.batch, at.rank, rate, _three(losses), _three(shares), len(found),
        len({curve.at.seed for curve in found}),
    )  # fmt: skip


def _three(values: Sequence[float]) -> tuple[float, float, float]:
    return statistics.fmean(values), min(values), max(values)


def table(sweep: Sweep) -> str:
    """The same as a table in Markdown."""
    lines = [
        "| model | method | batch | rank | best rate (lowest to highest) | loss there | metric there | curves, seeds |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    for each in best(sweep):
        rate = "at an end" if each.rate is None else _span(each.rate, "{:.1e}")
        rank = "–" if each.method == FULL else str(each.rank)
        lines.append(
            f"| {get_model(each.model).title} | {each.method} | {each.batch} | {rank} | {rate} | "
            f"{_span(each.loss, '{:.3f}')} | {_span(each.metric, '{:.1%}')} | {each.curves}, {each.seeds} |"
        )
    return "\n".join(lines)


def _span(values: tuple[float, float, float], form: str) -> str:
    mean, low, high = (form.format(value) for value in values)
    return f"{mean} ({low} to {high})"
