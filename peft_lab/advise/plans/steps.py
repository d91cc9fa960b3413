"""Time a step of a plan, on one device or split; and write the plan as one script for torchrun."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from math import ceil
from typing import Any

from peft_lab.advise import room, simulating
from peft_lab.advise.plan import StepPlan
from peft_lab.advise.plans.wanted import NAME, ROWS, PlanFacts, needed, refusal_to_write
from peft_lab.advise.recipes.recipe import LAB, RecipeSetting, evidence
from peft_lab.advise.recipes.rules import CONTENT, OBJECTIVES, choose, job
from peft_lab.advise.room import Room
from peft_lab.advise.simulating import SPLIT, TENSOR, Step, StepRun, splits
from peft_lab.advise.situation import Situation
from peft_lab.core import units
from peft_lab.core.content import read_entry
from peft_lab.core.errors import PeftLabError, UnknownName, Unsupported
from peft_lab.core.units import told_rows, written_figure
from peft_lab.engine.loading import Loading
from peft_lab.engine.loading import loading as simulated_loading
from peft_lab.engine.request import StepRequest
from peft_lab.engine.sharding.simulate import ShardedResult
from peft_lab.engine.sharding.wrap import Sharding
from peft_lab.engine.simulate import work_of
from peft_lab.engine.step import OPTIMIZER_TITLES
from peft_lab.engine.timing import estimate
from peft_lab.engine.timing.estimate import Seconds
from peft_lab.engine.timing.kernels import Speed
from peft_lab.engine.work import Work
from peft_lab.methods import get_method
from peft_lab.models.heads import AUTO_CLASSES
from peft_lab.models.shapes import ModelShape
from peft_lab.takeaway.applied import Applied, applied
from peft_lab.takeaway.card import hub_id
from peft_lab.takeaway.generator import as_script, fill
from peft_lab.takeaway.ranks import HELD, PARTS


def split_step(
    situation: Situation, method: str, values: Mapping[str, Any], run: StepRun, sharding: str = SPLIT
) -> ShardedResult:
    """Return the whole simulation of the split step. Raises as
    :func:`peft_lab.engine.sharding.simulate.simulate_sharded`."""
    run = replace(run, batch=run.batch * situation.pairs, sharding=sharding)
    how = simulating.sharding(situation, run)
    assert how is not None
    return simulating.split(simulating.request(situation, method, values, run), how)


@dataclass(frozen=True)
class Pace:
    """How fast a plan runs.

    Attributes:
        update: seconds of one update with all its passes. passes: their number. sent: bytes a device sends in it.
        look: seconds of a forward pass over held-out rows.
    """

    update: Seconds
    passes: int
    sent: float
    look: Seconds


@lru_cache(maxsize=256)
def _work(request: StepRequest) -> Work:
    return work_of(request)


def split_seconds(
    work: Work, split: ShardedResult, gpu: str, link: str, speed: Speed | None = None
) -> Seconds:
    """Return one update's time on each device, from the work on one. Split parameters split the optimizer's work.
    Raises UnknownName if the speed of the GPU or link is unknown."""
    devices, passes = split.sharding.devices, split.sharding.accumulate
    sent, copied = split.sent_bytes / passes, split.copied_bytes / passes
    if split.work:  # matrices are split: this is one device's whole work
        one = estimate.seconds(split.work, gpu, devices, link, sent, waits=True, speed=speed)
        return one.times(passes) if passes > 1 else one
    passing, ending = parted(work)
    own = 1 / devices if split.sharding.runs == "fsdp2" else 1.0
    each = estimate.seconds(passing, gpu, devices, link, sent, copied=copied, speed=speed)
    last = estimate.seconds(ending, gpu, devices, link, speed=speed).times(own)
    return added([each.times(passes) if passes > 1 else each, last])


def parted(work: Work) -> tuple[Work, Work]:
    """Return the work of the passes, and that of the optimizer after them."""
    passing = tuple(piece for piece in work if piece.phase != "optimizer")
    return passing, tuple(piece for piece in work if piece.phase == "optimizer")


def step_pace(
    situation: Situation, method: str, values: Mapping[str, Any], step: Step, accumulate: int, trainable: int
) -> Pace | None:
    """Return the pace of one update on rows of average length; ``None`` if the device's speed is unknown. Raises
    SimulationError as :func:`peft_lab.engine.simulate.simulate`."""
    if step.sharding == TENSOR:
        return _by_matrices(situation, method, values, step, accumulate)
    passing, ending = parted(_traced(situation, method, values, step))
    apart = _traced(situation, method, values, replace(step, packed=False, offload=False))  # held-out rows
    looking = tuple(piece for piece in apart if piece.phase == "forward")
    share = (situation.devices - 1) / situation.devices
    each, once, own, ahead, copied = 0.0, 0.0, 1.0, 0.0, 0.0
    if step.split:
        one = split_step(situation, method, values, step.run(1), step.sharding)
        each, copied = one.sent_bytes, one.copied_bytes
        own = 1 / situation.devices  # each runs the optimizer on its own part
        # a layer is gathered twice in a pass, but once without a backward pass
        ahead = sum(sent.nbytes for sent in one.exchanges if sent.kind == "all-gather") * share / 2
    elif situation.devices > 1:
        once = 2 * share * room.trained_width(method, step) * trainable

    def timed(part: Work, sent: float = 0.0, copied: float = 0.0) -> Seconds:
        link = link_of(situation)
        return estimate.seconds(part, situation.device, situation.devices, link, sent, copied=copied)

    try:
        last = timed(passing, each + once, copied)
        parts = [timed(passing, each, copied).times(accumulate - 1), last] if accumulate > 1 else [last]
        found = added([*parts, timed(ending).times(own)])
        look = timed(looking, ahead, copied / 2)
    except UnknownName:
        return None
    return Pace(found, accumulate, each * accumulate + once, look)


def _traced(situation: Situation, method: str, values: Mapping[str, Any], step: Step) -> Work:
    """Return the work of a step on rows of average length, or on packed rows, which are full."""
    tokens = situation.seq if step.packed else min(situation.seq, situation.row_tokens or situation.seq)
    # products are made in 16 bits, unless a precision was asked for
    dtype = "bfloat16" if method == "full" and not step.precision else step.dtype
    run = replace(step.run(step.batch * situation.pairs), dtype=dtype)
    asked = simulating.request(replace(situation, seq=tokens), method, values, run)
    return _work(asked.on(situation.hardware))


def _by_matrices(
    situation: Situation, method: str, values: Mapping[str, Any], step: Step, accumulate: int
) -> Pace | None:
    """Return :func:`step_pace` if every matrix is split: one device's work of a step, and the sums that it waits
    for."""
    run = replace(step, dtype=step.dtype if step.precision else "bfloat16", packed=False).run(step.batch)
    average = replace(situation, seq=min(situation.seq, situation.row_tokens or situation.seq))
    apart = split_step(average, method, values, run, TENSOR)  # held-out rows too
    one = split_step(situation, method, values, replace(run, packed=True), TENSOR) if step.packed else apart
    passing, ending = parted(one.work)
    looking = tuple(piece for piece in apart.work if piece.phase == "forward")
    # the backward pass sums as much as the forward pass, and checkpointing repeats the forward pass
    ahead = apart.sent_bytes / (3 if step.checkpointing else 2)
    device, devices, link = situation.device, situation.devices, link_of(situation)
    try:
        made = estimate.seconds(passing, device, devices, link, one.sent_bytes, waits=True).times(accumulate)
        found = added([made, estimate.seconds(ending, device, devices, link)])
        look = estimate.seconds(looking, device, devices, link, ahead, waits=True)
    except UnknownName:
        return None
    return Pace(found, accumulate, one.sent_bytes * accumulate, look)


def link_of(situation: Situation) -> str:
    """Return what connects the devices, with its generation: Hopper's NVLink is the fourth."""
    newer = situation.device in ("h100", "h200")
    return "nvlink4" if situation.link == "nvlink" and newer else situation.link or "pcie"


def added(parts: list[Seconds]) -> Seconds:
    """Return the time of all parts in sequence. The bottleneck is what takes most time over all of them."""
    sums: dict[str, float] = {}
    for part in parts:
        for name, seconds in part.parts.items():
            sums[name] = sums.get(name, 0.0) + seconds
    low, value, high = (sum(getattr(part, name) for part in parts) for name in ("low", "value", "high"))
    return Seconds(low, value, high, max(sums, key=sums.__getitem__), sums)


# ----------------------------------------
# What a step waits for, and the cheapest change that relieves it.


_NOTES = read_entry(CONTENT / "notes.yaml", dict[str, str])
#: How plans are ordered, as the user reads it.
ORDER = _NOTES["order"]
#: What each bottleneck means, as a sentence.
MEANS = {name: _NOTES[name] for name in ("compute", "memory", "launch", "host", "link")}
#: This change is also a candidate of its own.
UNCHECKED = "No gradient checkpointing, if memory allows"
#: A change that saves a smaller share is not mentioned.
_LEAST = 0.03


@dataclass(frozen=True)
class Change:
    """One thing to change. ``text``: what. ``factor``: estimated new time over the present one."""

    text: str
    factor: float


def short(room: Room, situation: Situation, method: str, sharding: str, least: int) -> str:
    """Return why nothing fits if one row needs ``least`` bytes on each device: the memory there is and, in full
    fine-tuning, how the weights are kept, which differs when they are split."""
    split = splits(sharding)
    run = list(room.states(method, sharding))[-1]
    wide = (
        f" with {OPTIMIZER_TITLES[run.optimizer]} and weights kept in {run.dtype}" if method == "full" else ""
    )
    usable = room.usable_split if split else room.usable
    device = situation.hardware
    needed, there, taken = map(units.size, (least, device.total, usable))
    return f"Even one row needs at least {needed}{wide}; a plan may use {taken} of the {there} on each {device.called}."


def unmeasured(shape: ModelShape, gpu: str) -> str:
    """Return a caveat if no published step backs the estimated time of this model or on this GPU; else empty."""
    experts = _NOTES["unmeasured"].format(shape.mixtures[0].chosen) if shape.mixtures else ""
    return " ".join(filter(None, (experts, estimate.told_unseen(gpu))))


def loading(shape: ModelShape, method: str, plan: StepPlan) -> Loading:
    """Return what loading the base takes as the plan's script does it."""
    kind, _, offload = plan.sharding.partition("+")
    how = Sharding(kind, plan.devices, offload=bool(offload))
    return simulated_loading(
        shape, plan.remembered, own=get_method(method).quantization(plan.values), how=how
    )


def told_adapters(gpu: str) -> str:
    """Return in which precision adapters are by default, as a sentence, with what backs the time on this GPU."""
    return _NOTES["adapters"] if gpu == estimate.FITTED_ON else f"{_NOTES['adapters']} {_NOTES['backed']}"


def uncounted(situation: Situation) -> str:
    """Return which work of a training its plans' figures omit; empty if none."""
    said = _NOTES.get(situation.purpose, "")
    if situation.purpose != "rl":
        return said
    return said.format(choose(evidence(job("full", situation.shape, "rl"), "group")))


def change(situation: Situation, method: str, plan: StepPlan, step: Step, pace: Pace) -> Change | None:
    """Return the change that saves most time; ``None`` if none saves enough. More cards are tried only if nothing
    cheaper applies."""
    tried: list[Change] = []

    def again(text: str, other: Situation, changed: Step, accumulate: int) -> None:
        try:
            found = step_pace(other, method, plan.values, changed, accumulate, plan.trainable)
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
            "Twice the cards with DDP, each with half the rows per update", more,
            replace(step, sharding="ddp"), (plan.accumulate + 1) // 2,
        )  # fmt: skip
    worth = [one for one in tried if one.factor < 1 - _LEAST]
    return min(worth, key=lambda one: one.factor, default=None)


SEED = 0
#: As in the simulated step.
CLIP = 1.0


def script(facts: PlanFacts) -> str:
    """Return the script's text. Raises Unsupported if :func:`refusal` has a reason."""
    reason = refusal_to_write(facts)
    if reason:
        raise Unsupported(reason, "method")
    plan = facts.plan
    how = applied(facts.method, facts.entry, facts.values, facts.call, facts.task_type)
    settings = {name: facts.said(name) for name in ("epochs", "warmup", "schedule")}
    text = fill(
        "plan.py.j2",
        facts=facts,
        plan=plan,
        how=how,
        run_spec=_run_spec(facts),
        alone=facts.loads_alone,
        auto=AUTO_CLASSES[facts.task_type],
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


def _run_spec(facts: PlanFacts) -> dict[str, Any]:
    """Return the spec by which the lab shows the script's training among its runs."""
    plan = facts.plan
    return {
        "model": facts.entry.name, "method": facts.method.slug, "task": "own", "values": dict(plan.values),
        "batch": plan.batch * plan.readers * plan.accumulate, "seed": SEED, "learning_rate": plan.learning_rate,
        "max_length": plan.seq, "warmup": facts.said("warmup"), "clip": CLIP, "eval_rows": 0,
        "schedule": facts.said("schedule"),
    }  # fmt: skip


def _stored(facts: PlanFacts, how: Applied) -> str:
    """Return how the base is quantised; in a split base, packed numbers have the precision of the other weights."""
    text = how.stored.replace("torch.bfloat16", "DTYPE")
    storage = "    bnb_4bit_quant_storage=DTYPE,  # stored in the precision of all other weights\n"
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
        f"{rows}, {units.several(written_figure(plan.settings['epochs'].value), 'time')}, {each:,} per step. "
        f"{made.held:,} are held out."
    )
    settings = {**plan.settings, "steps": replace(steps, value=made.updates, why=why)}
    padded = "Rows are padded to the longest in their batch, because it is unknown how many rows fill a packed row."
    if packs and asked is not None and asked.value is True:
        settings["packing"] = asked
    else:
        told = "Your setting." if packs else padded
        settings["packing"] = RecipeSetting("packing", packs, None, (), (), LAB, told, "")
    return replace(plan, settings=settings, packed=packs)
