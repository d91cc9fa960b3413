"""How many rows an update reads, and the most of them that one device takes at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import ceil
from typing import Any

from peft_lab.choose.situation import Situation
from peft_lab.choose.step import TENSOR
from peft_lab.recipes.job import OBJECTIVES, OF_ENCODERS, Job, job
from peft_lab.recipes.recipe import recipe

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


def update_rows(situation: Situation, method: str, values: Mapping[str, Any]) -> int:
    """Return the rows that an update reads over all devices: as many as the sources use, or more where that is asked.

    Raises:
        BadInput: a method that cannot be applied so.
    """
    advised = int(recipe(job_of(situation, method, values))["batch"].value)
    return max(advised, situation.batch or 1)


def most_rows(
    situation: Situation, method: str, values: Mapping[str, Any], sharding: str, packed: int = 0
) -> int:
    """Return the most rows of a step that a device takes at once: its share of an update, and fewer where an epoch
    would have hardly an update.

    ``packed``: rows of the step that all rows of the data fill together; 0: each is one.
    """
    reading = readers(sharding, situation.devices)
    wanted = update_rows(replace(situation, devices=reading), method, values)
    share = int(wanted * packed / (situation.rows * reading)) if packed else ceil(wanted / reading)
    return max(1, min(share, (packed or situation.rows) // (UPDATES * reading)))
