"""Find what would flip the choice: change one answer at a time and walk the tree again. Answer such questions, and
those for a recommendation, in a worker process.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from peft_lab.advise import words
from peft_lab.advise.recommend import Recommendation, decide, lengthens, recommend, unserved, walk
from peft_lab.advise.room import Room, room_of
from peft_lab.advise.situation import Situation, lora_bytes, stored_bytes
from peft_lab.advise.tree import (
    ADAPTER_LATENCY,
    ADVICE,
    FEW_ROWS,
    MANY_ROWS,
    NODES,
    PROMPT_SCALE,
    QUESTIONS,
    UNTRAINED,
    Advice,
)
from peft_lab.advise.words import found_answer
from peft_lab.core import units
from peft_lab.core.errors import BadInput
from peft_lab.engine.devices import GIB, card_size
from peft_lab.models.shapes import KIND_NAMES, a_model

#: The shortest rows that are tried are the requested length divided by this.
SHORTER = 16
MODEL_QUESTIONS = ("kind", "biases", "scale")


@dataclass(frozen=True)
class Flip:
    """One change that leads to another choice.

    Attributes:
        question, value: the answer that changes. text: the change as text, with the figure at which it happens.
        method, title: what is recommended then.
        changes: fields of the situation that make the change; empty for another model or amount of memory.
    """

    question: str
    value: str
    text: str
    method: str
    title: str
    changes: dict[str, Any]


def flips(situation: Situation, room: Room, found: Recommendation) -> tuple[Flip, ...]:
    """Return every single change that leads to another method or form of it. Raises as :func:`recommend`."""
    found_flips = (
        *_of_what_was_given(situation, room, found),
        *_storage(situation, room, found),
        *_memory(situation, room, found),
        *_length(situation, room, found),
        *_model(situation, room, found),
    )
    same = ADVICE[found.advice].short
    return tuple(flip for flip in found_flips if flip.method != found.method or flip.title != same)


def _of_what_was_given(situation: Situation, room: Room, found: Recommendation) -> Iterator[Flip]:
    """Yield the flips by the user's own answers: each of the other values."""
    few, many = FEW_ROWS, int(MANY_ROWS.value)
    changes: tuple[tuple[str, str, Any, str], ...] = (
        ("prompting", "yes", "yes", "A prompt reaches the target"),
        ("prompting", "retrieval", "retrieval", "The model lacks facts, which can be retrieved"),
        ("prompting", "no", "no", "Neither a prompt nor retrieval is enough"),
        ("tasks", "one", 1, "One task only"),
        ("tasks", "many", 2, "Two or more tasks from one base"),
        ("objective", "cpt", "cpt", "The model should learn raw text: continued pretraining"),
        ("objective", "sft", "sft", "The model should follow instructions"),
        ("forgetting", "ok", "ok", "The model's earlier skills may get worse"),
        ("forgetting", "matters", "matters", "The model's earlier skills must not get worse"),
        ("serving", "plain", "plain", "Your own code serves the model"),
        ("serving", "vllm", "vllm", "vLLM or a similar server serves the model"),
        ("rows", "few", few - 1, f"Fewer than {few:,} rows"),
        ("rows", "some", few, f"{few:,} to {many:,} rows"),
        ("rows", "many", many, f"{many:,} rows or more"),
        ("latency", "strict", 0.0, f"Less than {ADAPTER_LATENCY} more time per request"),
        ("latency", "relaxed", None, f"{ADAPTER_LATENCY} more time per request, or no limit"),
    )
    for question, value, setting, text in changes:
        if found_answer(question, situation)[0] == value or getattr(situation, question) == setting:
            continue
        changed = replace(situation, **{question: setting})
        # other goals are trained on other rows
        there = room.for_model(changed) if question == "objective" else room
        try:
            then = decide(changed, there, quick=True).advice
        except BadInput:  # contradicts the other answers, such as text from an encoder
            continue
        title = then.short if then.method == found.method else then.title
        yield Flip(question, value, text, then.method, title, {question: setting})


def _storage(situation: Situation, room: Room, found: Recommendation) -> Iterator[Flip]:
    """Yield the storage limits per task at which the method changes: the nearest below and above the present one.

    A limit changes the advice only where something that could be advised just fits, or just does not.
    """
    sizes = sorted({lora_bytes(situation.shape), *words.stored_sizes(situation.shape)})
    allowed = situation.storage
    below = [size for size in reversed(sizes) if allowed is None or size <= allowed]
    above = [size for size in sizes if allowed is not None and size > allowed]
    for candidates, step, text in (
        (below, -1, "Less than {} per task"),
        (above, 0, "{} or more per task"),
    ):
        for size in candidates:
            other = replace(situation, storage=size + step)
            then = decide(other, room, quick=True).advice
            if then.method != found.method:
                told = units.said(size, up=step == 0)  # the displayed figure must be true despite rounding
                same = (
                    decide(replace(situation, storage=told + step), room, quick=True).advice.method
                    == then.method
                )
                said = text.format(units.size(told) if same else units.several(size, "byte"))
                setting = {"storage": size + step}
                yield Flip(
                    "storage", found_answer("storage", other)[0], said, then.method, then.title, setting
                )
                break


def _memory(situation: Situation, room: Room, found: Recommendation) -> Iterator[Flip]:
    """Yield the memory sizes at which the method changes: the figure is what the simulated step needs."""
    asked = {step.question: step.value for step in found.path}
    base = asked.get("base")
    edges: list[tuple[str, str, int, bool]] = []
    if situation.devices > 1:  # with several, the link and the split matter too
        return
    wide = found.method != "qlora"
    if (
        base is not None
        and found.method in ("lora", "qlora")
        and (base == "four" or "quicker" in asked or wide)
    ):
        # where LoRA stops computing twice, a base in 4 bits saves no time any more
        edges.append(("quicker", "yes" if wide else "no", room.least("lora", checkpointing=False), not wide))
    if base == "sixteen":
        edges.append(("base", "four", room.least("lora"), False))
    elif base is not None:
        edges.append(("base", "sixteen", room.least("lora"), True))
        wider = base == "none"
        edges.append(("base", "four" if wider else "none", room.least_of_all("qlora"), wider))
    if "full" in asked:
        more = asked["full"] == "no"
        edges.append(("full", "yes" if more else "no", room.least_of_all("full"), more))
    turned = set[str]()
    for question, value, needs, more in edges:
        least = room.memory_for(needs)
        other = room.with_memory(least if more else least - 1)
        then = decide(situation, other, quick=True).advice
        card = situation.hardware.kind == "cuda"
        hundredth = -(-GIB // 100)  # card sizes are shown to this precision, rounded up
        size = card_size(least - (not more) * hundredth) if card else units.size(units.said(least, up=more))
        what = "A card sold as" if card else "A machine with"
        text = f"{what} {size} or more" if more else f"{what} less than {size}"
        if then.method == found.method or then.method in turned:
            continue
        back = room.with_memory(least - 1 if more else least)
        if question == "quicker" and decide(situation, back, quick=True).advice.method != found.method:
            continue
        turned.add(then.method)
        yield Flip(question, value, text, then.method, then.title, {})


def _length(situation: Situation, room: Room, found: Recommendation) -> Iterator[Flip]:
    """Yield the flip by shorter rows with which a step fits, if none does."""
    if found.advice != "nothing" or situation.devices > 1:
        return
    tokens = longest(situation, room)
    if tokens is None:
        return
    shorter = replace(situation, seq=tokens)
    then = decide(shorter, room.for_model(shorter), quick=True).advice
    text = f"Rows cut to {tokens:,} tokens"
    yield Flip("base", "four", text, then.method, then.title, {"seq": tokens})


def longest(situation: Situation, room: Room) -> int | None:
    """Return a row length in tokens, close to the longest, with which a QLoRA step fits; ``None`` if a
    :data:`SHORTER`-th of the requested length is too much."""
    long, short = situation.seq, max(1, situation.seq // SHORTER)
    above = room.least_of_all("qlora")
    below = room.for_model(replace(situation, seq=short)).least_of_all("qlora")
    if below > room.usable or long == short:
        return None
    fitting = short
    tokens = short + (room.usable - below) * (long - short) // max(1, above - below)
    for _ in range(4):  # memory is not quite linear in tokens, and the allocator rounds
        tokens = max(fitting, tokens - tokens % max(1, tokens // 32))
        if tokens == fitting:
            break
        if room.for_model(replace(situation, seq=tokens)).smallest("qlora", {}) is not None:
            return tokens
        tokens -= max(1, tokens // 32)
    return fitting


def _model(situation: Situation, room: Room, found: Recommendation) -> Iterator[Flip]:
    """Yield the flips by another kind of model, all else equal: as the tree leads, not checked on a device."""
    texts = {
        **{kind: f"If the model were {a_model(kind)}" for kind in KIND_NAMES},
        "biases.yes": "If the model's linear maps had biases",
        "biases.no": "If the model's linear maps had no biases",
        "scale.large": f"If the base had {units.short_count(PROMPT_SCALE.value)} parameters or more",
        "scale.small": f"If the base had fewer than {units.short_count(PROMPT_SCALE.value)} parameters",
    }
    for step in found.path:
        if step.question not in MODEL_QUESTIONS:
            continue
        for value in QUESTIONS[step.question].answers:
            if value == step.value or not any(value in branch.values for branch in NODES[step.node].branches):
                continue
            _, leaf = walk(situation, room, {step.question: value})
            if (
                lengthens(situation, leaf) or _too_large(situation, leaf) or unserved(situation, leaf)
            ):  # would be overruled
                continue
            text = texts.get(value) or texts[f"{step.question}.{value}"]
            yield Flip(step.question, value, text, leaf.method, ADVICE[leaf.id].title, {})


def _too_large(situation: Situation, leaf: Advice) -> bool:
    """Return whether advice stores more than is allowed, or may if this model cannot take it."""
    if situation.storage is None or leaf.method in UNTRAINED:
        return False
    with suppress(BadInput):
        return stored_bytes(situation.shape, leaf.method, leaf.knobs(situation.shape)) > situation.storage
    return True


def ask_recommendation(fields: Mapping[str, Any]) -> Recommendation:
    """Return :func:`peft_lab.advise.recommend.recommend` for the fields of a situation, with the real simulation.
    Raises BadInput, SimulationError as there."""
    situation = Situation(**fields)
    return recommend(situation, room_of(situation))


def ask_flips(fields: Mapping[str, Any]) -> tuple[Flip, ...]:
    """Return :func:`peft_lab.advise.flips.flips` for a situation's fields. Raises as :func:`ask_recommendation`."""
    situation = Situation(**fields)
    return flips(situation, room_of(situation), ask_recommendation(fields))
