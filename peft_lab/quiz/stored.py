"""Trainings that settle a prediction, measured elsewhere and kept with the app: ``stored.json``, made by
``python -m tools.store_contests``. A learner may replay one instead of training for minutes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from peft_lab.quiz.predictions import Contest, Prediction
from peft_lab.runs.spec import RunRequest, RunSpec

FILE = "stored.json"


@dataclass(frozen=True)
class Stored:
    """``values``: one figure per run, as in its record. ``measured``: when, where and with what, for the reader.
    ``complete``: the runs' settings with every default as it was then."""

    values: tuple[float, ...]
    measured: str
    complete: tuple[RunSpec, ...]


def stored(prediction: Prediction) -> Stored | None:
    """The kept figures of a contest; ``None`` where there are none of exactly its runs."""
    if not isinstance(prediction.experiment, Contest):
        return None
    kept = _all().get(prediction.id)
    if kept is None or not same_runs(kept["runs"], prediction.experiment):
        return None
    complete = tuple(RunSpec.from_dict(spec) for spec in kept["complete"])
    return Stored(tuple(float(value) for value in kept["values"]), str(kept["measured"]), complete)


def same_runs(kept: list[dict[str, Any]], contest: Contest) -> bool:
    """Whether these specs, as they were kept, are those of the contest. Works without the model's weights."""
    return [RunRequest.from_dict(spec) for spec in kept] == list(contest.runs)


@cache
def _all() -> dict[str, dict[str, Any]]:
    file = resources.files("peft_lab.quiz") / FILE
    found: dict[str, dict[str, Any]] = json.loads(file.read_text("utf-8"))
    return found
