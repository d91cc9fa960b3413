"""A plan as one script for torchrun: plain libraries, and the functions that the lab trains and shards with."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil
from typing import Any

from peft_lab.advise.plan import StepPlan
from peft_lab.advise.plans.facts import NAME, ROWS, Facts, loads_alone, needed, refusal
from peft_lab.advise.recipes.job import OBJECTIVES
from peft_lab.advise.recipes.recipe import LAB, Setting
from peft_lab.core import units
from peft_lab.core.errors import Unsupported
from peft_lab.core.setting_words import told_rows, written_figure
from peft_lab.takeaway.applied import Applied, applied
from peft_lab.takeaway.generator import as_script, fill
from peft_lab.takeaway.ranks import HELD, PARTS
from peft_lab.takeaway.snippet import hub_id

SEED = 0
#: As in the simulated step.
CLIP = 1.0
_CLASSES = {
    "causal-lm": "AutoModelForCausalLM",
    "encoder": "AutoModelForSequenceClassification",
    "seq2seq": "AutoModelForSeq2SeqLM",
}


def script(facts: Facts) -> str:
    """Return the script's text. Raises Unsupported if :func:`refusal` has a reason."""
    reason = refusal(facts)
    if reason:
        raise Unsupported(reason, "method")
    plan, how = facts.plan, applied(facts)
    settings = {name: facts.said(name) for name in ("epochs", "warmup", "schedule")}
    text = fill(
        "plan.py.j2",
        facts=facts,
        plan=plan,
        how=how,
        run_spec=_run_spec(facts),
        alone=loads_alone(facts.method, plan),
        auto=_CLASSES[facts.entry.kind],
        stored=_stored(facts, how) if how.quantization else "",
        hub_id=hub_id(facts.entry),
        needed=[*needed(facts), *how.libraries],
        objective=OBJECTIVES[facts.objective],
        ranks=units.several(plan.devices, "rank"),
        rows_at_once=units.several(plan.batch, "packed row" if plan.packed else "row"),
        NAME=NAME,
        ROWS=ROWS,
        **settings,
    )
    return as_script(text)


def _run_spec(facts: Facts) -> dict[str, Any]:
    """Return the spec by which the lab shows the script's training among its runs."""
    plan = facts.plan
    return {
        "model": facts.entry.name, "method": facts.method.slug, "task": "own", "values": dict(plan.values),
        "batch": plan.batch * plan.readers * plan.accumulate, "seed": SEED, "learning_rate": plan.learning_rate,
        "max_length": plan.seq, "warmup": facts.said("warmup"), "clip": CLIP, "eval_rows": 0,
        "schedule": facts.said("schedule"),
    }  # fmt: skip


def _stored(facts: Facts, how: Applied) -> str:
    """Return how the base is quantised; where it is split, packed in numbers of the precision of all other weights."""
    text = how.stored.replace("torch.bfloat16", "DTYPE")
    storage = "    bnb_4bit_quant_storage=DTYPE,  # packed in numbers of the precision of all other weights\n"
    return text.replace("(\n", f"(\n{storage}", 1) if facts.sharded else text


# ----------------------------------------
# How many updates a plan's script makes, on which rows, and how often it evaluates on held-out rows.
#
# The same arithmetic as the script's (``takeaway/templates/plan.py.j2``); a test runs both.


@dataclass(frozen=True)
class Course:
    """The counts of a whole training.

    Attributes:
        learned, held: rows that are trained on, and held-out rows.
        packed: rows of the step that ``learned`` fill; without packing, one per row, or per answer to it.
        updates: optimizer steps. looks: evaluations on the held-out rows, each of ``passes`` passes per device.
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
    """Return the counts for ``rows`` rows, ``batch`` on a device at once and ``accumulate`` passes per update.

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
    """Return the plan with the number of steps and the packing that its script really has."""
    steps, asked = plan.settings["steps"], plan.settings.get("packing")
    rows = told_rows(made.learned, plan.group)
    if packs:
        rows += f", packed into {made.packed:,}"
    each = plan.batch * plan.readers * plan.accumulate
    why = (
        f"{rows}, {units.several(written_figure(plan.settings['epochs'].value), 'time')}, {each:,} a step. "
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
