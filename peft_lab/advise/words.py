"""Figures for the templates of reasons, each computed when a template names it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from peft_lab.advise import cited
from peft_lab.advise.answers import least
from peft_lab.advise.leaves import ADVICE, NOTHING, UNTRAINED
from peft_lab.advise.situation import stored_bytes
from peft_lab.core import units
from peft_lab.core.errors import BadInput, SimulationError
from peft_lab.engine import published
from peft_lab.engine.devices import Device, gpus
from peft_lab.methods import get_method
from peft_lab.models.catalogue import ModelEntry, catalogue, get_model
from peft_lab.models.shapes import ModelShape

if TYPE_CHECKING:
    from peft_lab.advise.leaves import Advice
    from peft_lab.advise.plan import StepPlan
    from peft_lab.advise.room import Room
    from peft_lab.advise.situation import Situation

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
    f"All of it is kept in bfloat16: an update smaller than a {_STEPS}th of a weight is rounded away, which at usual "
    "rates is most of them. Stochastic rounding or a float32 copy of the weights, for which there is no room here, "
    "keeps them."
)


class Words(dict[str, str]):
    """Values for a template: ``text.format_map(Words(...))``. A name without a method is a KeyError: a bug."""

    def __init__(self, situation: Situation, room: Room, advice: Advice, plan: StepPlan | None) -> None:
        super().__init__()
        self._situation, self._room, self._advice, self._plan = situation, room, advice, plan

    def __missing__(self, name: str) -> str:
        found: Callable[[], str] | None = getattr(self, f"_{name}", None)
        if found is None or not callable(found):
            raise KeyError(name)
        return found()

    # -- the situation -------------------------------------------------------------------------------------------

    def _model(self) -> str:
        return self._situation.shape.title

    def _total(self) -> str:
        return units.short_count(self._situation.shape.total)

    def _allowance(self) -> str:
        return allowance(self._situation, self._room)

    def _tokens_to_learn(self) -> str:
        return units.short_count(self._situation.tokens)

    def _held(self) -> str:
        from peft_lab.advise.answers import held

        return units.short_count(held(self._situation))

    # -- simulated -----------------------------------------------------------------------------------------------

    def _needed(self) -> str:
        return units.size(self._planned().needed_bytes)

    def _lora_least(self) -> str:
        return least(self._room, "lora")

    def _qlora_least(self) -> str:
        return least(self._room, "qlora")

    def _full_least(self) -> str:
        return least(self._room, "full")

    def _too_much(self) -> str:
        """Return what the smallest QLoRA step needs, and by how much that exceeds the usable memory."""
        needs = self._room.least_of_all("qlora")
        more = needs - self._room.usable
        # several devices also hold gradient buckets, so a step within ``usable`` may still not fit
        beyond = (
            f"{units.size(more)} too much" if more > 0 else "and beside it what gradients are averaged in"
        )
        return f"{units.size(needs)}, {beyond}"

    def _smaller(self) -> str:
        """Return sentences naming the largest smaller model that fits here and a device that fits this one."""
        fitting = smaller_model(self._situation, self._room, "qlora")
        parts = [
            f"{fitting} with QLoRA would fit here."
            if fitting
            else "No smaller model of this kind fits either."
        ]
        larger = larger_device(self._situation, self._room)
        parts.append(
            f"{larger.holding} would have room for this model."
            if larger
            else "No device in the list has room for it alone."
        )
        return " ".join(parts)

    # -- counted -------------------------------------------------------------------------------------------------

    def _trained(self) -> str:
        return units.count(self._planned().trainable)

    def _share(self) -> str:
        shape, plan = self._situation.shape, self._planned()
        added = get_method(self._advice.method).formula(shape, plan.values).added
        return units.percent(100 * plan.trainable / (shape.total + added))

    def _stored(self) -> str:
        return units.size(stored_bytes(self._situation.shape, self._advice.method, self._planned().values))

    def _r(self) -> str:
        return str(self._planned().values["r"])

    def _virtual(self) -> str:
        return str(self._planned().values["num_virtual_tokens"])

    # -- cited ---------------------------------------------------------------------------------------------------

    def _name(self) -> str:
        return get_method(self._advice.method).title

    def _accuracy(self) -> str:
        return accuracy(self._advice.method)

    def _lora_accuracy(self) -> str:
        return accuracy("lora")

    def _full_accuracy(self) -> str:
        return accuracy("full")

    def _bench_base(self) -> str:
        return get_model(published.MODEL).title

    def _many(self) -> str:
        return f"{cited.MANY_ROWS.value:,.0f}"

    def _scale(self) -> str:
        return units.short_count(cited.PROMPT_SCALE.value)

    def _vllm_rank(self) -> str:
        return f"{cited.VLLM_RANK.value:g}"

    def _high_rank(self) -> str:
        return f"{cited.HIGH_RANK.value:g}"

    def _token_bits(self) -> str:
        return _bits(cited.BITS_A_TOKEN.value)

    def _parameter_bits(self) -> str:
        return _bits(cited.BITS_A_PARAMETER.value)

    def _adapter_latency(self) -> str:
        return str(cited.ADAPTER_LATENCY)

    def _adapter_latency_most(self) -> str:
        return str(cited.ADAPTER_LATENCY_MOST)

    def _planned(self) -> Any:
        if self._plan is None:
            raise KeyError("plan")
        return self._plan


def allowance(situation: Situation, room: Room) -> str:
    """Return, as sentences, what each device holds and how much of that a plan may use."""
    device = situation.hardware
    several = situation.devices > 1
    name = f"Each {device.called}" if several else device.called
    split = f", {units.size(room.usable_split)} where a step is split" if several else ""
    total, usable = units.size(device.total), units.size(room.usable)
    return f"{name[:1].upper()}{name[1:]} has {total}; {usable} of it may be used{split}."


def _bits(count: float) -> str:
    return f"{count:g} bit{'' if count == 1 else 's'}"


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
    """Return ways out when nothing can be done here: another device, another model, more storage per task.

    Args:
        decided: returns the tree's decision for a situation. Under a storage limit, a device or a larger limit is
            named only if this decision finds something to do with it.
    """

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
