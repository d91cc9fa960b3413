"""A comparison as the command that makes it."""

from __future__ import annotations

import shlex

from peft_lab.compare.plan import ComparisonRequest


def command_of(request: ComparisonRequest) -> str:
    """The command line that repeats, or goes on with, a comparison; settings of knobs apply to every method that has
    them, as they were given."""
    parts = ["python", "-m", "peft_lab", "compare", "--model", request.model, "--task", request.task]
    parts += ["--methods", ",".join(request.methods)]
    parts += ["--steps", str(request.steps), "--batch", str(request.batch)]
    parts += ["--seeds", ",".join(map(str, request.seeds)), "--eval-rows", str(request.eval_rows)]
    given = {name: value for values in request.values.values() for name, value in values.items()}
    for name, value in given.items():
        text = ",".join(map(str, value)) if isinstance(value, tuple | list) else str(value)
        parts += ["--set", f"{name}={text}"]
    return shlex.join(parts)
