"""Rank feasible plans: what each needs, takes and costs, its bottleneck and quality; and what each rank stores in
each phase.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from peft_lab.advise import plan as plans
from peft_lab.advise.plan import StepPlan
from peft_lab.advise.plans import steps
from peft_lab.advise.plans.steps import UNCHECKED, Change, Course, change, course, settled, short
from peft_lab.advise.plans.wanted import Wanted
from peft_lab.advise.recommend import RANKED, decide, walk
from peft_lab.advise.room import Room, negatives, room_of
from peft_lab.advise.simulating import TENSOR, Step
from peft_lab.advise.situation import HOUR, Situation
from peft_lab.advise.tree import ADVICE, Advice
from peft_lab.advise.words import PUBLISHED
from peft_lab.core import units
from peft_lab.core.errors import PeftLabError
from peft_lab.engine import published
from peft_lab.engine.devices import HEADROOM, HEADROOM_SPLIT
from peft_lab.engine.request import StepRequest, StepSetting
from peft_lab.engine.sharding import tensor
from peft_lab.engine.sharding.simulate import ShardedResult, simulate_sharded
from peft_lab.engine.sharding.wrap import Sharding
from peft_lab.engine.timing.estimate import Seconds
from peft_lab.methods import get_method

# ----------------------------------------
# What is known of a trained model's quality: from published runs only.


@dataclass(frozen=True)
class Quality:
    """What is known of a trained model's quality. ``accuracy`` is ``None`` if nothing is."""

    accuracy: float | None
    text: str
    source: str = ""


UNKNOWN = Quality(None, "")


def quality(wanted: Wanted, method: str) -> Quality:
    """Return the quality from published runs of the same model and kind of task; others are not extrapolated."""
    same = wanted.model == published.MODEL and wanted.situation().purpose == "sft"
    if not same or method not in PUBLISHED:
        return Quality(None, "Unknown: we know of no published training of this model with this method.")
    row = published.rows()[PUBLISHED[method]]
    return Quality(
        row.accuracy, f"{units.percent(100 * row.accuracy)} right on MetaMathQA's test", published.SOURCE
    )


#: The planned methods, most capable first: those with published runs on several GPUs.
METHODS = RANKED
SHARDINGS = {
    "none": "one GPU", "ddp": "DDP", "fsdp2": "FSDP2", "fsdp2+offload": "FSDP2, offloaded", TENSOR: "tensor parallel",
}  # fmt: skip


@dataclass(frozen=True)
class Candidate:
    """A combination of method, sharding and checkpointing to try."""

    method: str
    sharding: str
    checkpointing: bool

    @property
    def title(self) -> str:
        """Return the method, the sharding and whether activations are checkpointed, as one phrase."""
        more = ", checkpointed" if self.checkpointing else ""
        return f"{get_method(self.method).title}, {SHARDINGS[self.sharding]}{more}"


@dataclass(frozen=True)
class Planned:
    """A candidate and its result.

    Attributes:
        plan: settings and memory; ``None`` if even one row does not fit or it cannot run, with the ``reason``.
        least: bytes on each device: of the plan's step, or the least that one row needs if none fits.
        course: updates and rows of the whole training.
        update: time of an update. looking: of all passes over held-out rows. Both ``None`` if no speed is known.
        saved: share of the time of padded rows that packing saves, with as many rows of the step at once.
        change: the cheapest change that relieves the bottleneck.
        advised: whether Choose recommends its method in this situation. negatives: a row's in-batch negatives.
    """

    candidate: Candidate
    plan: StepPlan | None
    least: int = 0
    reason: str = ""
    course: Course | None = None
    update: Seconds | None = None
    looking: Seconds | None = None
    saved: float | None = None
    price: float | None = None
    quality: Quality = UNKNOWN
    change: Change | None = None
    advised: bool = False
    negatives: int = 0

    @property
    def title(self) -> str:
        """Return the candidate's title, with what it takes to fit."""
        away = self.plan is not None and self.plan.offload
        more = [", weights in bfloat16"] * self.rounds + [", activations in main memory"] * away
        return self.candidate.title + "".join(more)

    @property
    def rounds(self) -> bool:
        """Return whether small updates are lost: in full fine-tuning with weights stored in 16 bits."""
        return self.candidate.method == "full" and self.plan is not None and self.plan.remembered != "float32"

    @property
    def peak(self) -> tuple[int, int]:
        """Return bounds on the bytes of each device, from the share of memory that plans keep free: twice as wide
        for a split step."""
        assert self.plan is not None
        off = HEADROOM_SPLIT if self.plan.split else HEADROOM
        return int(self.plan.needed_bytes * (1 - off)), int(self.plan.needed_bytes * (1 + off))

    @property
    def updates(self) -> int:
        """Return the optimizer steps of the whole training."""
        return self.course.updates if self.course else 0

    @property
    def seconds(self) -> Seconds | None:
        """Return the time of the whole training, evaluations included; ``None`` if no speed is known."""
        if self.update is None or self.looking is None:
            return None
        return steps.added([self.update.times(self.updates), self.looking])

    @property
    def hours(self) -> tuple[float, float] | None:
        """Return lower and upper hours of the whole training."""
        return None if self.seconds is None else (self.seconds.low / HOUR, self.seconds.high / HOUR)

    @property
    def cost(self) -> tuple[float, float] | None:
        """Return the lower and upper cost of all devices, in the price's currency."""
        if self.hours is None or self.price is None or self.plan is None:
            return None
        return tuple(each * self.price * self.plan.devices for each in self.hours)  # type: ignore[return-value]

    def as_dict(self) -> dict[str, Any]:
        """Return the plan as the command line's JSON, without its files."""
        plan = self.plan
        assert plan is not None

        def span(pair: tuple[float, float] | None) -> dict[str, float] | None:
            return None if pair is None else {"low": pair[0], "high": pair[1]}

        return {
            "method": self.candidate.method,
            "plan": {name: setting.as_dict() for name, setting in plan.settings.items()},
            "config": dict(plan.values),
            "sharding": plan.sharding,
            "batch": plan.batch,
            "accumulation": plan.accumulate,
            "checkpointing": plan.checkpointing,
            "rounds_updates_away": self.rounds,
            "peak_bytes_per_device": plan.needed_bytes,
            "peak_band": list(self.peak),
            "reserved_over_run": None if plan.over is None else asdict(plan.over),
            "device_bytes": plan.memory_bytes,
            "host_bytes_per_device": plan.host_bytes,
            "activations_in_main_memory": plan.offload,
            "headroom": plan.headroom,
            "updates": self.updates,
            "rows_held_out": self.course.held if self.course else 0,
            "rows_packed_into": self.course.packed if self.course and plan.packed else None,
            "saved_by_packing": self.saved,
            "looking_seconds": span(None if self.looking is None else (self.looking.low, self.looking.high)),
            "step_seconds": span(None if self.update is None else (self.update.low, self.update.high)),
            "hours": span(self.hours),
            "cost": span(self.cost),
            "bottleneck": None if self.update is None else self.update.bottleneck,
            "change": None if self.change is None else asdict(self.change),
            "quality": asdict(self.quality),
            "advised_by_choose": self.advised,
            "in_batch_negatives": self.negatives,
        }


def methods(wanted: Wanted) -> tuple[str, ...]:
    """Return the methods to plan: the usual ones and the requested others."""
    return (*METHODS, *wanted.further)


def candidates(wanted: Wanted) -> tuple[Candidate, ...]:
    """Return the candidates worth trying, quickest to simulate first. Simulation shows whether they fit."""
    ways = ("none",) if wanted.devices == 1 else ("ddp", "fsdp2")
    refused = get_refusals(wanted)
    asked = [method for method in methods(wanted) if method not in refused]
    found = [
        Candidate(method, way, checkpointing)
        for way in ways
        for checkpointing in (True, False)
        for method in asked
    ]
    if wanted.devices > 1:
        found += [Candidate(method, "fsdp2+offload", True) for method in asked if method != "full"]
        for method in asked:  # of tensor parallelism that does not work one candidate, to give the reason
            works = not tensor.why_not(wanted.situation().shape, get_method(method), {}, wanted.devices)
            found += [Candidate(method, TENSOR, again) for again in ((True, False) if works else (True,))]
    return tuple(found)


def get_refusals(wanted: Wanted) -> dict[str, str]:
    """Return the reasons why methods cannot run on the model, by method."""
    shape = wanted.situation().shape
    problems = {slug: get_method(slug).problems(shape, {}) for slug in methods(wanted)}
    refused = {
        slug: next(one.message for one in found if one.level == "error")
        for slug, found in problems.items()
        if any(one.level == "error" for one in found)
    }
    if wanted.packed:
        specs = map(get_method, methods(wanted))
        virtual = {spec.slug: spec.title for spec in specs if spec.virtual_tokens(spec.defaults(shape))}
        because = (
            "adds virtual tokens before a row, and only the first of several packed rows would have them"
        )
        refused |= {slug: f"{title} {because}." for slug, title in virtual.items() if slug not in refused}
    return refused


def evaluate(fields: Mapping[str, Any], asked: Mapping[str, Any]) -> Planned:
    """Return the plan of one candidate. Imports torch; pages and commands call it in another process. Raises BadInput
    if the request is invalid."""
    wanted, candidate = Wanted(**fields).check(), Candidate(**asked)
    situation = wanted.situation()
    room = room_for(wanted)
    try:
        return _planned(wanted, candidate, situation, room)
    except PeftLabError as error:
        return Planned(candidate, None, 0, str(error))


def _planned(wanted: Wanted, candidate: Candidate, situation: Situation, room: Room) -> Planned:
    advice = advice_for(situation, room, candidate.method)
    shape, spec = situation.shape, get_method(candidate.method)
    values = spec.require(shape, advice.knobs(shape))
    step, least = room.fit(candidate.method, values, candidate.sharding, candidate.checkpointing)
    if step is None:
        why = short(room, situation, candidate.method, candidate.sharding, least)
        return Planned(candidate, None, least, why)
    plan = plans.make(situation, room, advice, step)
    step = replace(step, batch=plan.batch)
    epochs = float(plan.settings["epochs"].value)
    made = course(wanted.rows, epochs, plan.batch, plan.readers, plan.accumulate, wanted.packed, plan.group)
    plan = settled(plan, made, bool(wanted.packed))

    def pace_of(step: Step, accumulate: int) -> steps.Pace | None:
        return steps.step_pace(situation, candidate.method, plan.values, step, accumulate, plan.trainable)

    pace = pace_of(step, plan.accumulate)
    saved: float | None = None
    if pace is not None and step.packed:  # the same update with rows padded instead
        passes = plan.accumulate * wanted.rows / wanted.packed
        padded = pace_of(replace(step, packed=False), max(1, round(passes)))
        if padded is not None:
            saved = 1 - pace.update.value / padded.update.value * padded.passes / passes
    return Planned(
        candidate, plan, least, course=made, update=None if pace is None else pace.update,
        looking=None if pace is None else pace.look.times(made.looks * made.passes), saved=saved, price=wanted.price,
        quality=quality(wanted, candidate.method), negatives=negatives(situation, plan.batch),
        advised=candidate.method == decide(situation, room, quick=True).advice.method,
        change=None if pace is None else change(situation, candidate.method, plan, step, pace),
    )  # fmt: skip


def room_for(wanted: Wanted) -> Room:
    """Return the room on the requested devices, with rows as requested."""
    return room_of(
        wanted.situation(), optimizer=wanted.optimizer, packed=wanted.packed, precision=wanted.precision,
        adapter_dtype=wanted.adapter_dtype,
    )  # fmt: skip


def advice_for(situation: Situation, room: Room, method: str) -> Advice:
    """Return Choose's advice for this situation if it is of this method, else the tree's leaf or one of its
    fallbacks of this method, or the method's plainest advice.
    """
    _, leaf = walk(situation, room)
    named = [decide(situation, room, quick=True).advice, leaf, *(ADVICE[name] for name in leaf.others)]
    plainest = {"full": "full-text"}.get(method, method)
    return next((one for one in named if one.method == method), ADVICE[plainest])


def front(found: Sequence[Planned]) -> list[Planned]:
    """Return the plans that no other beats.

    A plan beats another if it is at least as good in hours, free memory, cost, lost small updates and negatives, and
    better in one of them. Of another method, it must be at least as accurate too; if either accuracy is unknown,
    neither beats the other.
    """

    def figures(one: Planned) -> tuple[float, ...]:
        assert one.plan is not None
        hours = one.hours[1] if one.hours else 0.0
        cost = one.cost[1] if one.cost else 0.0
        return (hours, -one.plan.headroom, cost)

    def beaten(one: Planned, by: Planned) -> bool:
        first, second = one.quality.accuracy, by.quality.accuracy
        mine = [float(one.rounds), -float(one.negatives), *figures(one)]
        other = [float(by.rounds), -float(by.negatives), *figures(by)]
        if one.candidate.method != by.candidate.method:
            if first is None or second is None:
                return False  # which method learns more is unknown: neither beats the other
            mine.append(-first)
            other.append(-second)
        return all(b <= a for a, b in zip(mine, other, strict=True)) and other != mine

    return [one for one in found if not any(beaten(one, by) for by in found if by is not one)]


def rank(wanted: Wanted, found: Sequence[Planned]) -> list[Planned]:
    """Return the plans that fit, as :data:`peft_lab.advise.plans.steps.ORDER` says."""
    full = [one.candidate for one in found if one.plan is None]
    fits = [one for one in found if one.plan is not None]
    for at, one in enumerate(fits):  # what was tried and does not fit is not proposed
        if (
            one.change
            and one.change.text == UNCHECKED
            and replace(one.candidate, checkpointing=False) in full
        ):
            fits[at] = replace(one, change=None)
    ahead = {id(one) for one in front(fits)}
    left = wanted.hours()

    def order(one: Planned) -> tuple[Any, ...]:
        hours = one.hours[1] if one.hours else float("inf")
        late = left is not None and hours > left
        middle = one.cost or one.hours or (0.0, 0.0)
        room = one.plan.headroom if one.plan else 0.0
        return late, one.rounds, -one.negatives, id(one) not in ahead, sum(middle), -room

    ranked = sorted(fits, key=order)
    return sorted(ranked, key=lambda one: one is not next((best for best in ranked if best.advised), one))


def refusing(found: Iterable[Planned]) -> list[tuple[str, str]]:
    """Return the candidates that do not work, with the reasons."""
    return [(one.candidate.title, one.reason) for one in found if one.plan is None]


#: The drawn ways to share a step.
MOMENT_KINDS = {
    "ddp": "DDP", "ddp+away": "DDP, activations in main memory", "zero1": "ZeRO-1", "zero2": "ZeRO-2",
    "zero3": "ZeRO-3", "fsdp2": "FSDP2", "fsdp2+offload": "FSDP2, offloaded", "tp": "tensor parallelism",
}  # fmt: skip
#: The drawn parts from the bottom up, with their names.
PARTS = {
    "weights": "weights", "adapter": "adapter", "optimizer": "optimizer states", "gradients": "gradients",
    "activations": "activations", "gathered": "gathered layers", "rest": "all else",
}  # fmt: skip
#: Phases of a step, with their names.
PHASES = {
    "zero_grad": "Between steps", "forward": "Forward", "backward": "Backward", "optimizer": "Update",
}  # fmt: skip
_INTO = {"quantisation": "weights", "unreduced": "gradients", "logits": "activations"}


#: Kinds with something in main memory: parameters, or what the backward pass needs.
OFFLOADED, AWAY = "fsdp2+offload", "ddp+away"


@dataclass(frozen=True)
class Moment:
    """A phase's fullest moment on each rank; between steps, the emptiest.

    Attributes:
        parts: bytes of each of :data:`PARTS`. host: maximum bytes of each part in main memory.
        brought: bytes copied to the rank in this phase. taken: bytes copied to main memory. layers: bytes of the
            copied activations that belong to layers.
    """

    phase: str
    parts: Mapping[str, int]
    host: Mapping[str, int] = field(default_factory=dict)
    brought: int = 0
    taken: int = 0
    layers: int = 0

    @property
    def total(self) -> int:
        """Return the bytes of all parts on the rank together."""
        return sum(self.parts.values())

    @property
    def waiting(self) -> int:
        """Return the bytes in main memory."""
        return sum(self.host.values())


#: The dtype of weights in every kind, so that kinds can be compared.
KEPT = "bfloat16"


@dataclass(frozen=True)
class Drawn:
    """A step as its ranks share it. ``depth``: the number of its layers."""

    kind: str
    method: str
    devices: int
    moments: tuple[Moment, ...]
    checkpointing: bool = False
    depth: int = 0

    @property
    def waits(self) -> bool:
        """Return whether anything of it waits in main memory."""
        return any(moment.waiting for moment in self.moments)


def kind_of(planned: Planned | None) -> str:
    """Return the kind to draw first: that of a plan that offloads or splits matrices, else FSDP2."""
    if planned is None or planned.plan is None:
        return "fsdp2"
    if planned.plan.offload:
        return AWAY
    return planned.candidate.sharding if planned.candidate.sharding in (OFFLOADED, TENSOR) else "fsdp2"


def moments(fields: Mapping[str, Any], method: str, kind: str, checkpointing: bool = False) -> Drawn:
    """Return the drawn step of a method at its recipe's knobs, one row per rank. Imports torch.

    If the backward pass's data wait in main memory, the step is checkpointed, as in plans.

    Raises:
        BadInput, SimulationError: the request is invalid, or the step cannot be simulated.
    """
    wanted = Wanted(**fields)
    wanted = replace(wanted, devices=max(2, wanted.devices)).check()
    situation = wanted.situation()
    advice = advice_for(situation, room_for(wanted), method)
    spec = get_method(method)
    values = spec.require(situation.shape, advice.knobs(situation.shape))
    away = kind == AWAY
    setting = StepSetting(
        1, wanted.seq, optimizer=wanted.optimizer or "adamw", packed=bool(wanted.packed), offload=away,
        precision=wanted.precision, adapter_dtype=wanted.adapter_dtype,
    )  # fmt: skip
    again = checkpointing or away
    asked = StepRequest(wanted.model, method, values, setting, KEPT, again)
    how = Sharding(kind.partition("+")[0], wanted.devices, offload=kind == OFFLOADED)
    result = simulate_sharded(asked.on(situation.hardware), how)
    drawn = tuple(_moment(result, phase) for phase in PHASES)
    return Drawn(kind, method, wanted.devices, drawn, again, situation.shape.num_layers)


def _moment(result: ShardedResult, phase: str) -> Moment:
    aside = next((one for one in result.aside if one.phase == phase), None)
    points = [point for point in result.points if point.phase == phase]
    if points:
        parts = _parts((min if phase == "zero_grad" else max)(points, key=lambda point: point.nbytes).parts)
    else:
        parts = _parts({} if aside is None else aside.here)
    if aside is None:
        return Moment(phase, parts)
    return Moment(phase, parts, _parts(aside.held), aside.brought, aside.taken, aside.layers)


def _parts(sizes: Mapping[str, int]) -> dict[str, int]:
    """Return the sizes of the parts that are drawn."""
    parts = dict.fromkeys(PARTS, 0)
    for name, size in sizes.items():
        at = _INTO.get(name, name)
        parts[at if at in parts else "rest"] += size
    return parts
