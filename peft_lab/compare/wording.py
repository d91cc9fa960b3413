"""A comparison as the command that makes it."""

from __future__ import annotations

import shlex

from peft_lab.compare.plan import Wish


def command_of(wish: Wish) -> str:
    """The command line that repeats, or goes on with, a comparison; settings of knobs apply to every method that has
    them, as they were given."""
    parts = ["python", "-m", "peft_lab", "compare", "--model", wish.model, "--task", wish.task]
    parts += ["--methods", ",".join(wish.methods)]
    parts += ["--steps", str(wish.steps), "--batch", str(wish.batch)]
    parts += ["--seeds", ",".join(map(str, wish.seeds)), "--eval-rows", str(wish.eval_rows)]
    given = {name: value for values in wish.values.values() for name, value in values.items()}
    for name, value in given.items():
        text = ",".join(map(str, value)) if isinstance(value, tuple | list) else str(value)
        parts += ["--set", f"{name}={text}"]
    return shlex.join(parts)
