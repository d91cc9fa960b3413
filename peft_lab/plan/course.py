"""How many updates a plan's script makes, of which rows, and how often it reads the rows that it holds out.

The same arithmetic as the script's (:mod:`peft_lab.plan.loop`); a test runs both.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil

from peft_lab import units
from peft_lab.choose.plan import StepPlan
from peft_lab.plan.keeping import HELD, PARTS
from peft_lab.recipes.advice import figure, told_rows
from peft_lab.recipes.recipe import LAB, Setting


@dataclass(frozen=True)
class Course:
    """Of a whole training.

    Attributes:
        learned, held: rows that are trained on, and rows that are held out.
        packed: rows of the step that ``learned`` fill: one for each, or for each answer to it, where none share one.
        updates: optimizer steps. looks: how often the held-out rows are read, in ``passes`` passes of a device each.
    """

    learned: int
    held: int
    packed: int
    updates: int
    looks: int
    passes: int


def course(
    rows: int, epochs: float, batch: int, devices: int, accumulate: int, packed: int = 0, group: int = 1
) -> Course:
    """Of ``rows`` rows, ``batch`` of a device at once and ``accumulate`` passes before an update.

    Args:
        devices: those that read rows of their own. packed: rows of the step that all rows fill; 0: each is one.
        group: answers to each row, all of which are trained on.

    >>> course(1000, 2, batch=2, devices=4, accumulate=2)
    Course(learned=950, held=50, packed=950, updates=119, looks=11, passes=7)
    """
    held = max(1, round(rows * HELD)) if rows > 1 else 0
    learned = rows - held
    made = ceil(packed * learned / rows) if packed else learned * group
    updates = max(1, ceil(epochs * made / (batch * devices * accumulate)))
    looks = ceil(updates / max(1, updates // PARTS)) if held else 0
    return Course(learned, held, made, updates, looks, ceil(held / (batch * devices)))


def settled(plan: StepPlan, made: Course, packs: bool) -> StepPlan:
    """The plan with its steps counted as they are made, and packing as it is done."""
    steps, asked = plan.settings["steps"], plan.settings.get("packing")
    rows = told_rows(made.learned, plan.group)
    if packs:
        rows += f", packed into {made.packed:,}"
    each = plan.batch * plan.readers * plan.accumulate
    why = (
        f"{rows}, {units.several(figure(plan.settings['epochs'].value), 'time')}, {each:,} a step. "
        f"{made.held:,} are held out."
    )
    settings = {**plan.settings, "steps": replace(steps, value=made.updates, why=why)}
    padded = "Rows are padded to the longest of their batch: how many fill a row together is not known here."
    if packs and asked is not None and asked.value is True:
        settings["packing"] = asked
    else:
        told = "As you set it." if packs else padded
        settings["packing"] = Setting("packing", packs, None, (), (), LAB, told, "")
    return replace(plan, settings=settings, packed=packs)
