"""The methods on one model and task: zero steps against trained, over seeds.

``python -m bench.several_seeds --model flan-t5-small --task fields --steps 60 --seeds 3 --rows 64 --keep FILE.jsonl``
trains what FILE lacks and prints the table of all that it holds. One thread and no trajectory: what is compared are
scores, not times.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

from peft_lab.methods import all_methods, get_method
from peft_lab.models.catalogue import get_model
from peft_lab.runs.spec import RunRequest
from peft_lab.training.tasks import get_task

Key = tuple[str, int, int, int]


def methods(model: str) -> list[str]:
    """Those that run on the model at their defaults."""
    shape = get_model(model).shape
    return [
        slug
        for slug, method in all_methods().items()
        if not any(problem.level == "error" for problem in method.problems(shape, {}))
    ]


def score(model: str, task: str, slug: str, seed: int, steps: int, rows: int) -> dict[str, Any]:
    """One training, or the base alone for ``base``: held-out metrics and loss."""
    import torch

    from peft_lab.runs import course
    from peft_lab.training.step import Masters

    torch.set_num_threads(1)
    trains = slug != "base"
    spec = RunRequest(
        model, slug if trains else "full", task, steps=steps or 1, seed=seed, eval_rows=rows
    ).complete()
    ready = course.prepare(spec)
    if trains:
        masters = Masters(ready.model)
        for _ in course.steps(ready, masters, course.optimizer_of(ready, masters)):
            pass
        course.settle(ready, masters)
    found = course.examiner(ready).evaluate(ready.model, ready.test)
    trained = sum(p.numel() for p in ready.model.parameters() if p.requires_grad)
    return {
        "method": slug, "seed": seed, "steps": steps, "rows": rows, "rate": spec.learning_rate, "trained": trained,
        "loss": found.loss, **found.metrics,
    }  # fmt: skip


def key(row: dict[str, Any]) -> Key:
    return row["method"], row["seed"], row["steps"], row["rows"]


def table(found: dict[Key, dict[str, Any]], steps: int, rows: int) -> str:
    """Mean and standard deviation over the seeds, a method a line."""
    about = {"method", "seed", "steps", "rows", "rate", "trained", "loss"}
    metrics = [name for name in next(iter(found.values())) if name not in about]
    lines = [
        "| method | rate | trained | " + " | ".join(metrics) + " | loss |",
        "|---" * (4 + len(metrics)) + "|",
    ]
    for slug in dict.fromkeys(name for name, *_ in found):
        runs = [row for row in found.values() if row["method"] == slug and row["rows"] == rows]
        runs = [row for row in runs if slug == "base" or row["steps"] == steps]
        if not runs:
            continue
        told = []
        for name in (*metrics, "loss"):
            values = [row[name] for row in runs]
            spread = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
            told.append(f"{statistics.mean(values):.3f}{spread}")
        base = slug == "base"
        title = "zero steps" if base else f"{get_method(slug).title} ({len(runs)} seeds)"
        rate, trained = ("", "") if base else (f"{runs[0]['rate']:g}", f"{runs[0]['trained']:,}")
        lines.append(f"| {title} | {rate} | {trained} | {' | '.join(told)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="flan-t5-small")
    parser.add_argument("--task", default="fields")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--keep", type=Path, required=True)
    parser.add_argument("--methods", nargs="*", default=None)
    asked = parser.parse_args()
    found: dict[Key, dict[str, Any]] = {}
    if asked.keep.exists():
        kept = [json.loads(line) for line in asked.keep.read_text("utf-8").splitlines()]
        found = {key(row): row for row in kept}
    # a head starts at random, so that zero steps are another score with every seed
    heads = asked.seeds if get_task(asked.task).kind == "classification" else 1
    wanted = [("base", seed, 0) for seed in range(heads)] + [
        (slug, seed, asked.steps)
        for seed in range(asked.seeds)
        for slug in asked.methods or methods(asked.model)
    ]
    for slug, seed, steps in wanted:
        if (slug, seed, steps, asked.rows) in found:
            continue
        row = score(asked.model, asked.task, slug, seed, steps, asked.rows)
        found[key(row)] = row
        with asked.keep.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        print(json.dumps(row), flush=True)
    print(table(found, asked.steps, asked.rows))


if __name__ == "__main__":
    main()
