"""What a step waits for, and the cheapest thing that moves it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from peft_lab import units
from peft_lab.choose import states
from peft_lab.choose.plan import StepPlan
from peft_lab.choose.room import Room
from peft_lab.choose.situation import Situation
from peft_lab.choose.step import SPLIT, TENSOR, Run, Step
from peft_lab.errors import PeftLabError
from peft_lab.memory.optimizers import OPTIMIZER_TITLES
from peft_lab.methods import get_method
from peft_lab.models.shapes import ModelShape
from peft_lab.plan import steps
from peft_lab.plan.facts import loads_alone
from peft_lab.plan.steps import Pace
from peft_lab.recipes.job import job
from peft_lab.recipes.recipe import evidence
from peft_lab.recipes.rules import choose

#: How plans stand, for their reader.
ORDER = (
    "Plans that meet the deadline come first, and of them those with the method that Choose recommends: which method "
    "learns more is no matter of time. Then come plans that no other plan of the same method beats in time, room and "
    "cost at once. Of embeddings those with more rows at once come before quicker ones: the others of its pass are a "
    "row's negatives."
)
#: What each bottleneck means, as a sentence.
MEANS: Mapping[str, str] = {
    "compute": "The GPU multiplies most of the time.",
    "memory": "The GPU waits for its own memory: weights and activations are read faster than they are used.",
    "launch": "The GPU waits for the host to start its kernels: the step is small for this card.",
    "host": "The GPU waits for copies from main memory.",
    "link": "The GPUs wait for each other: what they exchange takes longer than what it hides behind.",
}
#: Also a way that is tried for itself.
UNCHECKED = "No gradient checkpointing, if there is room"
#: A change that saves less is not worth the words.
_LEAST = 0.03


@dataclass(frozen=True)
class Change:
    """One thing to change. ``factor``: of the time that is left, as estimated; ``text`` says what."""

    text: str
    factor: float


def short(room: Room, situation: Situation, method: str, sharding: str, least: int) -> str:
    """Why nothing fits where one row needs ``least`` bytes on each device: how much there is, and in full fine-tuning
    how wide the weights are kept, as that differs where they are split."""
    split = sharding.startswith((SPLIT, TENSOR))
    run = list(room.states(method, sharding))[-1]
    wide = (
        f" with {OPTIMIZER_TITLES[run.optimizer]} and weights kept in {run.dtype}" if method == "full" else ""
    )
    usable = room.usable_split if split else room.usable
    device = situation.hardware
    needed, there, taken = map(units.size, (least, device.total, usable))
    return f"Even one row needs at least {needed}{wide}; a plan may use {taken} of the {there} of each {device.called}."


def unmeasured(shape: ModelShape) -> str:
    """What of a model's seconds no published step stands behind; empty where they are as sure as any."""
    if not shape.mixtures:
        return ""
    return (
        f"Time is that of the experts which a token uses ({shape.mixtures[0].chosen}). No step of such a model is "
        "among those that the band comes from: what a card's kernel for many experts loses is not known, so the real "
        "time may lie above the band."
    )


def loading(shape: ModelShape, method: str, plan: StepPlan) -> int:
    """Bytes of main memory that a process takes that loads what is split: the whole model, as scripts of plans load it;
    0 where nothing is split."""
    if not plan.split:
        return 0
    if method == "full":
        return shape.total * states.BYTES[plan.remembered]
    return states.weights(shape, method, Run(1, plan.checkpointing))


#: safetensors maps files, and a tensor that is not cast stays a part of the file, which the system keeps once.
_MAPPED = " Less where its file is in that precision: it is mapped then, not copied."


def told_loading(shape: ModelShape, method: str, plan: StepPlan) -> str:
    """That, in a sentence; empty where nothing is split."""
    each = loading(shape, method, plan)
    if not each:
        return ""
    mapped = "" if method == "qlora" else _MAPPED  # packing copies
    if loads_alone(get_method(method), plan):
        return (
            f"While the script loads, the first of the {plan.devices:,} processes holds the whole model in main "
            f"memory, {units.size(each)}, and sends the others their shares.{mapped}"
        )
    return (
        f"While the script loads, each of the {plan.devices:,} processes holds the whole model in main memory: "
        f"{units.size(each)} each, {units.size(each * plan.devices)} together.{mapped}"
    )


#: What a training does beside the steps that are simulated and timed, by what is trained. A reference's forward pass is
#: two products for each weight and token where a step has four to eight.
_BESIDE: Mapping[str, str] = {
    "preference": "Time and memory are of the passes with gradients, over both answers of a row. The reference's pass "
    "over them is in neither: a quarter to a half more multiplying. Where all weights learn, the reference is a second "
    "copy of them, unless its log-probabilities are computed before.",
    "rl": "Time and memory are of the training steps alone, on {} answers to each prompt. Writing the answers and "
    "judging them is in neither, and comes on top.",
}


def uncounted(situation: Situation) -> str:
    """What of a training is in no figure of its plans; empty where all is."""
    said = _BESIDE.get(situation.purpose, "")
    if situation.purpose != "rl":
        return said
    return said.format(choose(evidence(job("full", situation.shape, "rl"), "group")))


def change(situation: Situation, method: str, plan: StepPlan, step: Step, pace: Pace) -> Change | None:
    """What saves most of the changes that cost nothing, or else little; ``None`` where nothing that we can estimate
    saves any."""
    tried: list[Change] = []

    def again(text: str, other: Situation, changed: Step, accumulate: int) -> None:
        try:
            found = steps.pace(other, method, plan.values, changed, accumulate, plan.trainable)
        except PeftLabError:
            return
        if found is not None:
            tried.append(Change(text, found.update.value / pace.update.value))

    bottleneck = pace.update.bottleneck
    if bottleneck == "link" and situation.link != "nvlink":
        again("Connect the cards with NVLink", replace(situation, link="nvlink"), step, plan.accumulate)
    if bottleneck in ("compute", "memory") and step.checkpointing:
        again(
            UNCHECKED,
            situation,
            replace(step, checkpointing=False),
            plan.accumulate,
        )
    if situation.hardware.kind == "cuda" and bottleneck == "compute" and not step.split and not tried:
        more = replace(situation, devices=2 * situation.devices)
        again(
            "Twice the cards with DDP, each with half the rows of an update", more,
            replace(step, sharding="ddp"), (plan.accumulate + 1) // 2,
        )  # fmt: skip
    worth = [one for one in tried if one.factor < 1 - _LEAST]
    return min(worth, key=lambda one: one.factor, default=None)
