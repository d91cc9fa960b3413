"""Ship the sweep: put what ``tools.sweep`` wrote together, in one or several files, with what is known of it.

    OMP_NUM_THREADS=1 python -m tools.ship_sweep FILE... --note "other work ran beside it" [--again 1]

Writes ``peft_lab/studies/shipped_sweep/rows.jsonl`` and ``about.json``; commit them. A training that stands in
several files counts once. ``--again N`` makes the N quickest trainings of each model once more with the packages that
are installed now, and
ships nothing unless loss, metric and curve come out equal: so the versions that are noted are those that trained.
Without a FILE it prints the table of best rates that stands in ``bench/RESULTS.md``.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from peft_lab.core import machine
from peft_lab.core.errors import PeftLabError
from peft_lab.core.machine import describe_machine
from peft_lab.models.catalogue import get_model
from peft_lab.runs.record import PACKAGES
from peft_lab.studies import shipped_sweep
from peft_lab.studies.shipped_sweep import FULL, LORA, RateCurve, Sweep, SweepPoint, curves
from peft_lab.training.tasks import get_task
from tools import sweep

FOLDER = Path(shipped_sweep.__file__).parent / "shipped_sweep"
#: Of a run's spec, what every training of a model and method has alike.
_VARIED = ("model", "method", "task", "learning_rate", "head_learning_rate", "steps", "batch", "seed")
_NAMES = tuple(sweep.Training.__dataclass_fields__)


def union(texts: Iterable[str]) -> list[dict[str, Any]]:
    """Every training once, in the order of the grids. Losses that are no numbers are left out of the curves.

    Raises:
        ValueError: a training that is not on a grid, or that stands twice with other figures.
    """
    order = {
        each.key: number
        for number, each in enumerate(each for grid in sweep.GRIDS for each in sweep.trainings(grid))
    }
    found: dict[str, dict[str, Any]] = {}
    for text in texts:
        for line in text.splitlines():
            row = json.loads(line)
            key = sweep.Training(**{name: row[name] for name in _NAMES}).key
            if key not in order:
                raise ValueError(f"{key} is on no grid")
            row["curve"] = [value for value in row["curve"] if math.isfinite(value)]
            if figures(found.setdefault(key, row)) != figures(row):
                raise ValueError(f"{key} stands twice, with other figures")
    return [found[key] for key in sorted(found, key=order.__getitem__)]


def figures(row: dict[str, Any]) -> dict[str, Any]:
    """All of a row but the time that it took."""
    return {name: value for name, value in row.items() if name != "seconds"}


def about(rows: Sequence[dict[str, Any]], again: int, note: str) -> dict[str, Any]:
    """What is known of the trainings. Raises as :meth:`RunRequest.complete`."""
    dtype = str(machine.compute_dtype()).removeprefix("torch.")
    return {
        "command": "python -m tools.sweep FILE",
        "total": sum(1 for grid in sweep.GRIDS for _ in sweep.trainings(grid)),
        "created": time.strftime("%Y-%m-%d", time.gmtime()),
        "note": note,
        "machine": describe_machine(),
        "device": machine.in_use().kind,
        "dtype": dtype,
        "packages": {name: metadata.version(name) for name in PACKAGES},
        "again": again,
        "settings": {grid.model: _setting(grid) for grid in sweep.GRIDS if grid.full_rates},
    }


def _setting(grid: sweep.Grid) -> dict[str, Any]:
    specs = {}
    for method in (FULL, LORA):
        spec = sweep.spec_of(grid, next(each for each in sweep.trainings(grid) if each.method == method))
        told = {name: value for name, value in spec.to_dict().items() if name not in _VARIED}
        told["values"] = {
            name: v for name, v in told["values"].items() if name not in ("r", "target_modules")
        }
        specs[method] = told
    return {
        "task": grid.task,
        "rows": grid.rows,
        "eval_rows": grid.eval_rows,
        "metric": get_task(grid.task).metric,
        "targets": grid.targets,
        "specs": specs,
    }


def repeat(rows: Sequence[dict[str, Any]], of_each: int) -> int:
    """Make the quickest trainings of each model again; returns how many.

    Raises:
        ValueError: one that came out otherwise.
    """
    made = 0
    for grid in sweep.GRIDS:
        own = sorted((row for row in rows if row["model"] == grid.model), key=lambda row: row["seconds"])
        for row in own[:of_each]:
            training = sweep.Training(**{name: row[name] for name in _NAMES})
            found = json.loads(json.dumps(sweep.outcome(grid, training)))
            if figures(found) != figures(row):
                raise ValueError(f"made again, {training.key} came out otherwise: {found}")
            made += 1
    return made


# ----------------------------------------
# The best learning rate of every method, batch and rank, with its spread over seeds and targets.


@dataclass(frozen=True)
class Best:
    """The curves of one model, method, batch and rank: one for each seed and choice of targets.

    Attributes:
        rate: geometric mean, lowest and highest of their best rates; ``None`` if all of these are at an end of the
            sweep.
        loss: mean, lowest and highest of their lowest held-out losses. metric: the same for these trainings.
        curves: number of curves. seeds: number of distinct seeds.
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


def best_rate(sweep: Sweep) -> list[Best]:
    """Return the best rates by model, full fine-tuning first, then by batch and rank; complete curves only."""
    table: dict[tuple[str, bool, int, int], list[RateCurve]] = {}
    for curve in curves(sweep):
        at = curve.at
        if curve.best is not None:
            table.setdefault((at.model, at.method != FULL, at.batch, at.rank), []).append(curve)
    order = sorted(table, key=lambda key: (sweep.models.index(key[0]), *key[1:]))
    return [_best(table[key]) for key in order]


def _best(found: Sequence[RateCurve]) -> Best:
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


def rate_table(sweep: Sweep) -> str:
    """Return :func:`best_rate` as a table in Markdown."""
    lines = [
        "| model | method | batch | rank | best rate (lowest to highest) | loss there | metric there | curves, seeds |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    for each in best_rate(sweep):
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


def main(arguments: list[str] | None = None, folder: Path = FOLDER) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("files", nargs="*", type=Path, help="what tools.sweep wrote")
    parser.add_argument("--note", default="", help="how it was measured, for the reader")
    parser.add_argument("--again", type=int, default=1, help="trainings of each model to repeat")
    asked = parser.parse_args(arguments)
    if not asked.files:
        print(rate_table(shipped_sweep.shipped_points()))
        return 0
    try:
        rows = union(file.read_text("utf-8") for file in asked.files)
        known = about(rows, repeat(rows, asked.again), asked.note)
        kept = Sweep.of(rows, known)
    except (PeftLabError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    lines = (json.dumps(_row(point), allow_nan=False) for point in kept.points)
    (folder / shipped_sweep.ROWS_FILE).write_text("".join(f"{line}\n" for line in lines), "utf-8")
    (folder / shipped_sweep.ABOUT_FILE).write_text(
        json.dumps(known, indent=1, allow_nan=False) + "\n", "utf-8"
    )
    print(f"{len(kept.points)} of {known['total']} trainings, {known['again']} made again with equal figures")
    return 0


def _row(point: SweepPoint) -> dict[str, Any]:
    """As ``tools.sweep`` writes it: a diverged training has no scores."""
    return {name: value for name, value in asdict(point).items() if value is not None}


if __name__ == "__main__":
    sys.exit(main())
