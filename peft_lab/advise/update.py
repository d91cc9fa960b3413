"""How many rows an update reads, and the most of them that one device takes at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import ceil
from typing import Any

from peft_lab.advise.recipes.job import OBJECTIVES, OF_ENCODERS, Job, job
from peft_lab.advise.recipes.recipe import Setting, recipe
from peft_lab.advise.simulating import TENSOR
from peft_lab.advise.situation import Situation

#: Updates that an epoch has at least, where there are rows enough: the lab's own choice.
UPDATES = 10


def readers(sharding: str, devices: int) -> int:
    """Return how many of so many devices read rows of their own: where matrices are split all read the same."""
    return 1 if sharding == TENSOR else devices


def job_of(situation: Situation, method: str, values: Mapping[str, Any], **step: Any) -> Job:
    """Return what the recipe is asked for. All knobs are settled, as the step is simulated with them.

    ``step``: precision and checkpointing, where there is a step.
    """
    shape, objective = situation.shape, situation.purpose
    if (shape.kind == "encoder" and objective not in OF_ENCODERS) or objective not in OBJECTIVES:
        objective = "classification"
    tokens = situation.row_tokens or situation.seq
    return job(
        method, shape, objective, situation.rows, tokens, devices=situation.devices, values=values, **step
    )


def answers(settings: Mapping[str, Setting]) -> int:
    """Return how many answers to a prompt are trained on, as a recipe has them; 1 where a row has its own."""
    return int(settings["group"].value) if "group" in settings else 1


def most_rows(
    situation: Situation, method: str, values: Mapping[str, Any], sharding: str, packed: int = 0
) -> int:
    """Return the most rows of a step that a device takes at once: its share of an update, and fewer where an epoch
    would have hardly an update. An update reads as many as the sources use, or more where that is asked.

    ``packed``: rows of the step that all rows of the data fill together; 0: each is one.

    Raises:
        BadInput: a method that cannot be applied so.
    """
    reading = readers(sharding, situation.devices)
    found = recipe(job_of(replace(situation, devices=reading), method, values))
    wanted = max(int(found["batch"].value), situation.batch or 1)
    share = int(wanted * packed / (situation.rows * reading)) if packed else ceil(wanted / reading)
    rows = packed or situation.rows * answers(found.settings)
    return max(1, min(share, rows // (UPDATES * reading)))
