"""A training of the sweep as the run that repeats it."""

from __future__ import annotations

import shlex
from typing import Any

from peft_lab.runs.spec import RunRequest
from peft_lab.sweep.points import LORA, Point, Sweep


def request(sweep: Sweep, point: Point) -> RunRequest:
    """The run that repeats a training."""
    setting = sweep.settings[point.model]
    return RunRequest(
        model=point.model,
        method=point.method,
        task=point.task,
        values=knobs(sweep, point),
        steps=point.steps,
        batch=point.batch,
        seed=point.seed,
        learning_rate=point.rate,
        eval_rows=setting.eval_rows,
    )


def knobs(sweep: Sweep, point: Point) -> dict[str, Any]:
    """What a training sets of its method's knobs; the others are at their defaults."""
    if point.method != LORA:
        return {}
    setting = sweep.settings[point.model]
    alpha = setting.specs[LORA]["values"]["lora_alpha"]
    return {"r": point.rank, "lora_alpha": alpha, "target_modules": tuple(setting.targets[point.targets])}


def command_of(sweep: Sweep, point: Point) -> str:
    """The same as a command line."""
    asked = request(sweep, point)
    parts = ["python", "-m", "peft_lab", "train", "--model", asked.model, "--method", asked.method]
    parts += ["--task", asked.task, "--steps", str(asked.steps), "--batch", str(asked.batch)]
    parts += ["--lr", f"{point.rate:g}", "--seed", str(asked.seed), "--eval-rows", str(asked.eval_rows)]
    for name, value in asked.values.items():
        parts += ["--set", f"{name}={','.join(value) if isinstance(value, tuple) else value}"]
    return shlex.join(parts)
