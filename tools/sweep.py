"""A grid of short trainings on the two live models: ``python -m tools.sweep FILE [0/2]``.

LoRA by learning rate, rank, targets and batch, and full fine-tuning by learning rate and batch, each with several
seeds. A training sees the same number of rows whatever its batch: a batch four times larger makes a quarter of the
steps. Steps, loss, precision and scoring are those of the app's own runs. FILE gets a line a training; what stands in
is not trained again, so a sweep that was cut short goes on. ``0/2`` and ``1/2`` share the work between two processes.
``tools.ship_sweep`` makes of it what the app shows; a copy of ``peft_lab/studies/shipped_sweep/rows.jsonl`` is a FILE
to go on with.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from peft_lab.models.catalogue import get_model
from peft_lab.runs import course
from peft_lab.runs.spec import RunRequest, RunSpec
from peft_lab.training.step import Masters

CURVE = 12  # points of a loss curve that are kept
ALPHA = 16  # fixed, so that a rank changes the number of parameters and the scale α/r as the paper has it


@dataclass(frozen=True)
class Grid:
    """What is varied on one model.

    Attributes:
        rows: training rows that each training sees. eval_rows: held-out rows it is scored on.
        lora_rates, full_rates: peak learning rates. targets: by the name that the results give them.
    """

    model: str
    task: str
    rows: int
    eval_rows: int
    lora_rates: tuple[float, ...]
    full_rates: tuple[float, ...]
    ranks: tuple[int, ...]
    targets: dict[str, tuple[str, ...]]
    batches: tuple[int, ...]
    seeds: tuple[int, ...]


@dataclass(frozen=True)
class Training:
    """One point of a grid. ``rank`` is 0 and ``targets`` is "all" for full fine-tuning."""

    model: str
    method: str
    rate: float
    rank: int
    targets: str
    batch: int
    seed: int

    @property
    def key(self) -> str:
        """Names the point in a file of results."""
        return json.dumps(asdict(self))


GRIDS = (
    Grid(
        model="minilm-l6",
        task="sentiment",
        rows=960,
        eval_rows=500,
        lora_rates=(2.5e-4, 1e-3, 2e-3, 4e-3, 8e-3, 1.6e-2, 3.2e-2),
        full_rates=(2.5e-5, 5e-5, 1e-4, 2e-4, 4e-4, 8e-4, 1.6e-3),
        ranks=(1, 4, 16, 64),
        targets={
            "attention": ("query", "key", "value", "attention.output.dense"),
            # PEFT compares endings: "output.dense" alone is the attention's output map as well.
            "mlp": ("intermediate.dense", *(f"{layer}.output.dense" for layer in range(6))),
            "mlp-and-more": ("intermediate.dense", "output.dense"),
            "all": ("query", "key", "value", "attention.output.dense", "intermediate.dense", "output.dense"),
        },
        batches=(8, 32),
        seeds=(0, 1),
    ),
    Grid(
        model="smollm2-135m",
        task="json",
        rows=240,
        eval_rows=32,
        lora_rates=(5e-4, 1e-3, 2e-3, 4e-3, 8e-3, 1.6e-2),
        full_rates=(2.5e-5, 5e-5, 1e-4, 2e-4, 4e-4, 8e-4),
        ranks=(2, 16),
        targets={
            "attention": ("q_proj", "k_proj", "v_proj", "o_proj"),
            "mlp": ("gate_proj", "up_proj", "down_proj"),
            "all": ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
        },
        batches=(8,),
        seeds=(0, 1),
    ),
    Grid(  # the other squares of a class's map: `studies.class_map`
        model="smollm2-135m",
        task="json",
        rows=240,
        eval_rows=32,
        lora_rates=(5e-4, 1e-3, 2e-3, 4e-3, 8e-3, 1.6e-2),
        full_rates=(),
        ranks=(4, 8, 32),
        targets={"attention": ("q_proj", "k_proj", "v_proj", "o_proj")},
        batches=(8,),
        seeds=(0,),
    ),
)


def trainings(grid: Grid) -> Iterator[Training]:
    """Every point of the grid, one seed after the other, so that a sweep cut short is a whole grid with fewer seeds."""
    for seed in grid.seeds:
        for rate, batch in itertools.product(grid.full_rates, grid.batches):
            yield Training(grid.model, "full", rate, 0, "all", batch, seed)
        for batch, targets, rank, rate in itertools.product(
            grid.batches, grid.targets, grid.ranks, grid.lora_rates
        ):
            yield Training(grid.model, "lora", rate, rank, targets, batch, seed)


def spec_of(grid: Grid, training: Training) -> RunSpec:
    """The run that a learner would start for it, complete. Raises what :meth:`RunRequest.complete` raises."""
    values: dict[str, Any] = {}
    if training.method == "lora":
        values = {
            "r": training.rank,
            "lora_alpha": ALPHA,
            "target_modules": _targets(grid, training),
        }
    return RunRequest(
        model=grid.model,
        method=training.method,
        task=grid.task,
        values=values,
        steps=grid.rows // training.batch,
        batch=training.batch,
        seed=training.seed,
        learning_rate=training.rate,
        eval_rows=grid.eval_rows,
    ).complete()


def _targets(grid: Grid, training: Training) -> tuple[str, ...]:
    """The ends of the matrices' paths, each of which the model has to have."""
    wanted = grid.targets[training.targets]
    missing = get_model(grid.model).shape.match(wanted).unmatched
    if missing:
        raise SystemExit(f"{grid.model} has no {', '.join(missing)}")
    return wanted


def outcome(grid: Grid, training: Training) -> dict[str, Any]:
    """Train and score once.

    Returns:
        the point with ``trainable``, ``steps``, ``curve`` (training losses, nats), ``loss`` and ``metric`` on the
        held-out rows and ``seconds``; ``diverged`` where a loss was no number, without scores.
    """
    begun = time.monotonic()
    spec = spec_of(grid, training)
    ready = course.prepare(spec)
    masters = Masters(ready.model)
    losses = []
    for made in course.steps(ready, masters, course.optimizer_of(ready, masters)):
        losses.append(made.loss)
        if not math.isfinite(made.loss) or not math.isfinite(made.norm):
            break
    found = {
        **asdict(training),
        "task": grid.task,
        "steps": spec.steps,
        "trainable": sum(p.numel() for p in ready.model.parameters() if p.requires_grad),
        "curve": [float(f"{value:.4g}") for value in _thinned(losses)],
        "diverged": len(losses) < spec.steps or not math.isfinite(losses[-1]),
    }
    if not found["diverged"]:
        course.settle(ready, masters)
        scored = course.examiner(ready).evaluate(ready.model, ready.test)
        found |= {"loss": round(scored.loss, 5), "metric": round(scored.metrics[ready.task.metric], 5)}
    return found | {"seconds": round(time.monotonic() - begun, 1)}


def _thinned(losses: list[float]) -> list[float]:
    """Means of neighbouring steps, :data:`CURVE` of them or fewer."""
    width = math.ceil(len(losses) / CURVE)
    parts = [losses[start : start + width] for start in range(0, len(losses), width)]
    return [sum(part) / len(part) for part in parts]


def main() -> None:
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    file = Path(sys.argv[1])
    share, of = (int(part) for part in (sys.argv[2] if len(sys.argv) > 2 else "0/1").split("/"))
    done = set()
    if file.exists():
        names = tuple(Training.__dataclass_fields__)
        for line in file.read_text("utf-8").splitlines():
            found = json.loads(line)
            done.add(Training(**{name: found[name] for name in names}).key)
    for grid in GRIDS:
        for number, training in enumerate(trainings(grid)):
            if number % of != share or training.key in done:
                continue
            found = outcome(grid, training)
            with file.open("a", encoding="utf-8") as out:
                out.write(json.dumps(found) + "\n")
            print(number, training.key, found.get("metric"), file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
