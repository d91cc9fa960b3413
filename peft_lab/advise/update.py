"""How many rows an update reads, and the maximum that one device takes at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import ceil
from typing import Any

from peft_lab.advise.recipes.job import OBJECTIVES, OF_ENCODERS, Job, job
from peft_lab.advise.recipes.recipe import Setting, recipe
from peft_lab.advise.simulating import TENSOR
from peft_lab.advise.situation import Situation

#: Minimum updates per epoch if there are enough rows: the lab's own choice.
UPDATES = 10


def readers(sharding: str, devices: int) -> int:
    """Return how many of the devices read rows of their own: all, or one where matrices are split."""
    return 1 if sharding == TENSOR else devices


def job_of(situation: Situation, method: str, values: Mapping[str, Any], **step: Any) -> Job:
    """Return the job to look up a recipe for. All knobs are fixed, as the step is simulated with them.

    ``step``: precision and checkpointing, if there is a step.
    """
    shape, objective = situation.shape, situation.purpose
    if (shape.kind == "encoder" and objective not in OF_ENCODERS) or objective not in OBJECTIVES:
        objective = "classification"
    tokens = situation.row_tokens or situation.seq
    return job(
        method, shape, objective, situation.rows, tokens, devices=situation.devices, values=values, **step
    )


def answers(settings: Mapping[str, Setting]) -> int:
    """Return the number of answers per prompt that a recipe trains on; 1 where a row has its own."""
    return int(settings["group"].value) if "group" in settings else 1


def most_rows(
    situation: Situation, method: str, values: Mapping[str, Any], sharding: str, packed: int = 0
) -> int:
    """Return the maximum rows of a step on a device at once: its share of an update, or fewer if an epoch would
    hardly have an update. An update reads as many rows as the sources use, or more if the situation asks for more.

    ``packed``: rows of the step that all data rows fill together; 0: each data row is one.

    Raises:
        BadInput: the method cannot be applied to the model with these values.
    """
    reading = readers(sharding, situation.devices)
    found = recipe(job_of(replace(situation, devices=reading), method, values))
    wanted = max(int(found["batch"].value), situation.batch or 1)
    share = int(wanted * packed / (situation.rows * reading)) if packed else ceil(wanted / reading)
    rows = packed or situation.rows * answers(found.settings)
    return max(1, min(share, rows // (UPDATES * reading)))
