"""Answer the tree's questions for a situation, and compute the figures that templates of reasons name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from peft_lab.advise import tree
from peft_lab.advise.room import Room
from peft_lab.advise.simulating import MARGIN
from peft_lab.advise.situation import Situation, lora_bytes, stored_bytes
from peft_lab.advise.tree import (
    ADAPTER_LATENCY,
    ADVICE,
    BITS_A_PARAMETER,
    BITS_A_TOKEN,
    FEW_ROWS,
    MANY_ROWS,
    NOTHING,
    QUESTIONS,
    UNTRAINED,
)
from peft_lab.core import units
from peft_lab.core.errors import BadInput, SimulationError, UnknownName
from peft_lab.engine import published
from peft_lab.engine.devices import Device, gpus
from peft_lab.methods import get_method
from peft_lab.models.catalogue import catalogue, get_model
from peft_lab.models.shapes import ModelEntry, ModelShape

if TYPE_CHECKING:
    from peft_lab.advise.plan import StepPlan
    from peft_lab.advise.tree import Advice

# ----------------------------------------
# What the smallest step of a method needs, as text: the figure, or a bound that already decides whether it fits.
#
# If simulations of shorter or longer rows decide it, the text says "at least" or "at most", and the step itself
# is not simulated.


def least(room: Room, method: str) -> str:
    """Return as text what one row needs. Raises BadInput, SimulationError as the simulation."""
    low, high = room.least_between(method)
    if low < high:
        if low / MARGIN > room.usable:
            return f"at least {units.size(int(low / MARGIN))}"
        if high * MARGIN <= room.usable:
            return f"at most {units.size(int(high * MARGIN))}"
    return units.size(room.least(method))


GIVEN = "told"  # ``how`` of an answer that the user gave
ASKED = tuple(key for key, question in QUESTIONS.items() if question.by == "you")
OWN_LIMIT = "a limit chosen by this lab"  # from no paper, so it has no badge


def answer(key: str, situation: Situation, room: Room) -> tuple[str, str]:
    """Return the answer to a question in this situation, and the figure behind it. Raises UnknownName if no question of
    the tree has this key."""
    if key not in QUESTIONS:
        raise UnknownName("question", key, QUESTIONS, "answer")
    if key in ("kind", "biases", "scale"):
        return tree.counted_answers(situation.shape)[key], tree.phrase(key, situation.shape)
    if key == "amount":
        return amount(situation)
    if key == "base":
        base = room.base()
        return base, _step_text(situation, room, "lora" if base == "sixteen" else "qlora")
    if key == "full":
        return room.full(), _step_text(situation, room, "full")
    return found_answer(key, situation)


def value(key: str, situation: Situation, room: Room) -> str:
    """Return the answer of :func:`answer` alone: its figure may need more simulations. Raises as there."""
    if key == "base":
        return room.base()
    return room.full() if key == "full" else answer(key, situation, room)[0]


def found_answer(key: str, situation: Situation) -> tuple[str, str]:
    """Return the same as :func:`answer`, for the questions that only the user can answer. Raises UnknownName if none of
    those questions has this key."""
    if key not in ASKED:
        raise UnknownName("your answer", key, ASKED, "answer")
    if key == "tasks":
        served = f"{units.several(situation.tasks, 'task')} served from one base"
        return ("one" if situation.tasks == 1 else "many"), served
    if key == "rows":
        few, many = FEW_ROWS, MANY_ROWS.value
        value = "few" if situation.rows < few else "many" if situation.rows >= many else "some"
        own = f"{few:,} rows ({OWN_LIMIT})"
        limit = f"fewer than {own}" if value == "few" else f"{many:,.0f} rows or more"
        between = f"{own} up to {many:,.0f}"
        rows = units.several(situation.rows, "row")
        return value, f"{rows}; this answer means {between if value == 'some' else limit}"
    if key == "latency":
        longer = situation.latency
        strict = longer is not None and longer < ADAPTER_LATENCY.value
        said = "no limit" if longer is None else f"at most {units.percent(longer)} longer"
        return ("strict" if strict else "relaxed"), f"{said}; adapters added {ADAPTER_LATENCY} or more"
    if key == "storage":
        room_for_one, lora = situation.storage, lora_bytes(situation.shape)
        said = "no limit" if room_for_one is None else units.size(room_for_one)
        tight = room_for_one is not None and room_for_one < lora
        return (
            "tight" if tight else "roomy"
        ), f"{said} per task; LoRA with its default settings stores {units.size(lora)}"
    if key == "objective":
        said = (
            "your answer"
            if situation.objective or situation.output
            else "what models of this kind are used for"
        )
        return situation.purpose, said
    if key == "serving":
        return situation.serving, "your answer" if situation.serving != "plain" else "nothing else was given"
    if key == "forgetting":
        may = "may" if situation.forgetting == "ok" else "must not"
        return situation.forgetting, f"earlier skills {may} get worse"
    reaches = {"yes": "a prompt reaches the target", "retrieval": "retrieval reaches the target"}
    return situation.prompting, reaches.get(situation.prompting, "a prompt does not reach the target")


def held(situation: Situation) -> int:
    """Return the parameters of large-rank LoRA on every linear map: the capacity to learn with."""
    from peft_lab.advise.tree import ADVICE

    spec = get_method("lora")
    values = ADVICE["lora-large"].knobs(situation.shape)
    return spec.formula(situation.shape, spec.require(situation.shape, values)).trainable


def amount(situation: Situation) -> tuple[str, str]:
    """Return whether there is more to learn than LoRA can hold, and the figures behind it."""
    tokens, parameters = situation.tokens, held(situation)
    more = BITS_A_TOKEN.value * tokens > BITS_A_PARAMETER.value * parameters
    return (
        ("exceeds" if more else "holds"),
        f"{units.short_count(tokens)} tokens; LoRA with a large rank has {units.short_count(parameters)} parameters",
    )


def _step_text(situation: Situation, room: Room, method: str) -> str:
    """Return as text what a step of a method needs, compared with the usable memory."""
    step = room.smallest(method, room.usual(method))
    title = get_method(method).title
    if step is None:
        needs = f"{title} with single rows of {situation.seq:,} tokens needs {least(room, method)}"
        return f"{needs}; {units.size(room.usable)} may be used on each device"
    how = f", sharded over {room.devices:,} devices" if step.split else ""
    rows = f"{step.batch} × {situation.seq:,} tokens{' and checkpointing' if step.checkpointing else ''}"
    most = "at most " if step.bound else ""
    needed, usable = units.unlike(step.needed, room.usable_split if step.split else room.usable)
    return f"{title} with {rows}{how} needs {most}{needed}; {usable} may be used on each device"


#: The published row that stands for each method.
PUBLISHED = {
    "full": "full-finetuning--llama-3.2-3B-lr_0.00001",
    "lora": "lora--llama-3.2-3B-rank32",
    "ia3": "ia3--llama-3.2-3B-default",
    "prefix": "prefixtuning--llama-3.2-3B-lr_0.001",
    "prompt": "prompt_tuning--llama-3.2-3B-default",
    "ptuning": "ptuning--llama-3.2-3B-default",
}


#: What full fine-tuning loses when everything is kept in 16 bits.
_STEPS = 2**8  # bfloat16 has 2**7 numbers per power of two; an update below half a step is rounded away
LOST = (
    f"All weights are kept in bfloat16: an update smaller than a {_STEPS}th of its weight is rounded away, and at "
    "usual rates most updates are that small. Stochastic rounding avoids this. A float32 copy of the weights would "
    "also avoid it, but does not fit here."
)


class TemplateWords(dict[str, str]):
    """Values for a template: ``text.format_map(TemplateWords(...))``. A name that is none is a KeyError: a bug."""

    def __init__(self, situation: Situation, room: Room, advice: Advice, plan: StepPlan | None) -> None:
        super().__init__()
        self.situation, self.room, self.advice, self._plan = situation, room, advice, plan

    def __missing__(self, name: str) -> str:
        return _WORDS[name](self)

    @property
    def plan(self) -> StepPlan:
        """Return the plan. Raises KeyError without one."""
        if self._plan is None:
            raise KeyError("plan")
        return self._plan


def _too_much(words: TemplateWords) -> str:
    """Return what the smallest QLoRA step needs, and by how much that exceeds the usable memory."""
    needs = words.room.least_of_all("qlora")
    more = needs - words.room.usable
    # several devices also hold gradient buckets, so a step within ``usable`` may still not fit
    beyond = (
        f"{units.size(more)} too much" if more > 0 else "plus the buffers in which gradients are averaged"
    )
    return f"{units.size(needs)}, {beyond}"


def _smaller(words: TemplateWords) -> str:
    """Return sentences naming the largest smaller model that fits here and a device that fits this one."""
    fitting = smaller_model(words.situation, words.room, "qlora")
    larger = larger_device(words.situation, words.room)
    return " ".join(
        (
            f"With QLoRA, {fitting} would fit here."
            if fitting
            else "No smaller model of this type fits either.",
            f"{larger.holding} would have room for this model."
            if larger
            else "No single device in the list has room for it.",
        )
    )


def _share(words: TemplateWords) -> str:
    shape, plan = words.situation.shape, words.plan
    added = get_method(words.advice.method).formula(shape, plan.values).added
    return units.percent(100 * plan.trainable / (shape.total + added))


def _stored(words: TemplateWords) -> str:
    return units.size(stored_bytes(words.situation.shape, words.advice.method, words.plan.values))


#: What stands for each name in a template: of the situation, then simulated, counted and cited figures.
_WORDS: Mapping[str, Callable[[TemplateWords], str]] = {
    "model": lambda words: words.situation.shape.title,
    "total": lambda words: units.short_count(words.situation.shape.total),
    "allowance": lambda words: allowance(words.situation, words.room),
    "tokens_to_learn": lambda words: units.short_count(words.situation.tokens),
    "held": lambda words: units.short_count(held(words.situation)),
    "needed": lambda words: units.size(words.plan.needed_bytes),
    "lora_least": lambda words: least(words.room, "lora"),
    "qlora_least": lambda words: least(words.room, "qlora"),
    "full_least": lambda words: least(words.room, "full"),
    "too_much": _too_much,
    "smaller": _smaller,
    "trained": lambda words: units.count(words.plan.trainable),
    "share": _share,
    "stored": _stored,
    "r": lambda words: str(words.plan.values["r"]),
    "virtual": lambda words: str(words.plan.values["num_virtual_tokens"]),
    "name": lambda words: get_method(words.advice.method).title,
    "accuracy": lambda words: accuracy(words.advice.method),
    "lora_accuracy": lambda _: accuracy("lora"),
    "full_accuracy": lambda _: accuracy("full"),
    "bench_base": lambda _: get_model(published.MODEL).title,
    "many": lambda _: f"{tree.MANY_ROWS.value:,.0f}",
    "scale": lambda _: units.short_count(tree.PROMPT_SCALE.value),
    "vllm_rank": lambda _: f"{tree.VLLM_RANK.value:g}",
    "high_rank": lambda _: f"{tree.HIGH_RANK.value:g}",
    "token_bits": lambda _: units.several(f"{tree.BITS_A_TOKEN.value:g}", "bit"),
    "parameter_bits": lambda _: units.several(f"{tree.BITS_A_PARAMETER.value:g}", "bit"),
    "adapter_latency": lambda _: str(tree.ADAPTER_LATENCY),
    "adapter_latency_most": lambda _: str(tree.ADAPTER_LATENCY_MOST),
}


def allowance(situation: Situation, room: Room) -> str:
    """Return, as sentences, what each device holds and how much of that a plan may use."""
    device = situation.hardware
    several = situation.devices > 1
    name = f"Each {device.called}" if several else device.called
    split = f", or {units.size(room.usable_split)} if a step is sharded" if several else ""
    total, usable = units.size(device.total), units.size(room.usable)
    return f"{name[:1].upper()}{name[1:]} has {total}; {usable} of it may be used{split}."


def accuracy(method: str) -> str:
    """Return a method's share of right answers in the published comparison, as text in percent."""
    return units.percent(100 * published.rows()[PUBLISHED[method]].accuracy)


def smaller_model(situation: Situation, room: Room, method: str) -> str | None:
    """Return the title of the largest smaller catalogue model of this kind that ``method`` at its defaults can
    train on the device within the storage per task; ``None`` if there is none."""
    return next((entry.title for entry in _smaller_models(situation, room, method)), None)


def _smaller_models(situation: Situation, room: Room, method: str) -> Iterator[ModelEntry]:
    shape = situation.shape
    same = [
        entry for entry in catalogue().values() if entry.kind == shape.kind and entry.parameters < shape.total
    ]
    for entry in sorted(same, key=lambda entry: -entry.parameters):
        limit = entry.shape.max_positions
        if limit is not None and situation.seq > limit:
            continue
        stored = stored_bytes(entry.shape, method, {})
        if situation.storage is not None and stored > situation.storage:
            continue
        if room.for_model(replace(situation, model=entry.name)).smallest(method, {}) is not None:
            yield entry


def larger_device(situation: Situation, room: Room) -> Device | None:
    """Return the first listed GPU with room for a QLoRA step: this machine's, else the smallest."""
    return next(_larger_devices(situation, room), None)


def _larger_devices(situation: Situation, room: Room) -> Iterator[Device]:
    least = room.memory_for(room.least_of_all("qlora"))
    for each in gpus().values():
        if each.memory >= least:
            there = replace(situation, device=each.name, devices=1)
            # kernels differ, and with them what it needs
            if _asking(room, situation, there).smallest("qlora", {}) is not None:
                yield each


def _asking(room: Room, here: Situation, there: Situation) -> Room:
    """Return the room for another situation; if its device is another one, with that one's memory."""
    moved = room.for_model(there)
    return moved if there.device == here.device else moved.with_memory(there.hardware.memory)


@dataclass(frozen=True)
class Near:
    """A way out when nothing can be done: the fields of the situation to change, and a text that says so."""

    text: str
    changes: Mapping[str, Any]


def nearest(
    situation: Situation, room: Room, decided: Callable[[Situation, Room], Advice]
) -> dict[str, Near]:
    """Return ways out when nothing can be done here: another device, another model, more storage per task. ``decided``:
    returns the tree's decision for a situation. Under a storage limit, a device or a larger limit is named only if this
    decision finds something to do with it."""

    def advised(there: Situation) -> Advice | None:
        with suppress(BadInput, SimulationError):  # another model may not be trained for this
            advice = decided(there, _asking(room, situation, there))
            return None if advice.method == NOTHING else advice
        return None

    def roomier(there: Situation) -> int | None:
        """Return the smallest storage per task, rounded up as displayed, with which something can be done."""
        if there.storage is None:
            return None
        sizes = sorted(
            {units.said(size, up=True) for size in stored_sizes(there.shape) if size > there.storage}
        )
        tried = ((size, replace(there, storage=size)) for size in sizes)
        return next((size for size, other in tried if advised(other) is not None), None)

    if room.base() != "none" and (size := roomier(situation)) is not None:
        return {"storage": Near(f"{units.size(size)} for each task", {"storage": size})}
    found = dict[str, Near]()
    qlora = get_method("qlora").title
    for card in _larger_devices(situation, room):
        changes: dict[str, Any] = {"device": card.name, "devices": 1}
        there, text = replace(situation, **changes), card.title
        if situation.storage is not None and advised(there) is None:
            size = roomier(there)
            if size is None:
                continue
            changes["storage"], text = size, f"{text} and {units.size(size)} for each task"
        found["device"] = Near(text if "storage" in changes else f"{text}: {qlora}", changes)
        break
    entry = next(_smaller_models(situation, room, "qlora"), None)
    if entry is not None:
        found["model"] = Near(f"{entry.title}: {qlora}", {"model": entry.name})
    return found


def stored_sizes(shape: ModelShape) -> Iterator[int]:
    """Yield the bytes that each piece of advice stores on a model, skipping what cannot be applied to it."""
    for advice in ADVICE.values():
        if advice.method not in UNTRAINED:
            with suppress(BadInput):
                yield stored_bytes(shape, advice.method, advice.knobs(shape))


def sentence(text: str) -> str:
    """Return the text with a capital first letter and a full stop."""
    return f"{text[:1].upper()}{text[1:]}."
