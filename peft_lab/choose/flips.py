"""What would flip the choice: one answer changed at a time, everything else as it is, and the tree walked again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from peft_lab import units
from peft_lab.choose.advice import ADVICE
from peft_lab.choose.answers import told
from peft_lab.choose.cited import ADAPTER_LATENCY, MANY_ROWS, PROMPT_SCALE
from peft_lab.choose.recommend import Recommendation, decide, lengthens, walk
from peft_lab.choose.room import Room
from peft_lab.choose.situation import Situation, lora_bytes, tight
from peft_lab.choose.tree import FEW_ROWS, QUESTIONS
from peft_lab.errors import BadInput

MODEL_QUESTIONS = ("kind", "biases", "scale")


@dataclass(frozen=True)
class Flip:
    """One change that leads elsewhere.

    Attributes:
        question, value: the answer that changes. text: the change in words, with the figure at which it happens.
        method, title: what is then recommended.
        told: fields of the situation that make the change; empty for another model, which is no single answer.
    """

    question: str
    value: str
    text: str
    method: str
    title: str
    told: dict[str, Any]


def flips(situation: Situation, room: Room, found: Recommendation) -> tuple[Flip, ...]:
    """Every single change that leads to another method. Raises as :func:`recommend`."""
    found_flips = (*_told(situation, room), *_memory(situation, room, found), *_model(situation, room, found))
    return tuple(flip for flip in found_flips if flip.method != found.method)


def _told(situation: Situation, room: Room) -> Iterator[Flip]:
    """Answers of the person: each of the others that there are."""
    few, many = FEW_ROWS, int(MANY_ROWS.value)
    lora = lora_bytes(situation.shape)
    changes: tuple[tuple[str, str, str, Any, str], ...] = (
        ("prompting", "yes", "prompting", "yes", "A prompt reaches the target"),
        ("prompting", "no", "prompting", "no", "The prompt is not enough"),
        ("tasks", "one", "tasks", 1, "One task only"),
        ("tasks", "many", "tasks", 2, "Two tasks or more from one base"),
        ("output", "classification", "output", "classification", "It has to choose a class"),
        ("output", "generation", "output", "generation", "It has to write text"),
        ("rows", "few", "rows", few - 1, f"Fewer than {few:,} rows"),
        ("rows", "some", "rows", few, f"{few:,} to {many:,} rows"),
        ("rows", "many", "rows", many, f"{many:,} rows or more"),
        ("latency", "strict", "latency", 0.0, f"Less than {ADAPTER_LATENCY} more time for a request"),
        ("latency", "relaxed", "latency", None, f"{ADAPTER_LATENCY} more time for a request, or no limit"),
        ("storage", "tight", "storage", tight(situation.shape), f"Less than {units.size(lora)} for a task"),
        ("storage", "roomy", "storage", None, f"{units.size(lora)} or more for a task"),
    )
    for question, value, name, setting, text in changes:
        if told(question, situation)[0] == value or getattr(situation, name) == setting:
            continue
        try:
            then = decide(replace(situation, **{name: setting}), room).advice
        except BadInput:  # this answer contradicts the others, such as text from an encoder
            continue
        yield Flip(question, value, text, then.method, then.title, {name: setting})


def _memory(situation: Situation, room: Room, found: Recommendation) -> Iterator[Flip]:
    """Devices with so much more or less memory that the tree turns: the figure is what the simulated step needs."""
    asked = {step.question: step.value for step in found.path}
    base = asked.get("base")
    if base is None:
        return
    edges: list[tuple[str, str, int, bool]] = []
    if base == "sixteen":
        edges.append(("base", "four", room.least("lora"), False))
    else:
        edges.append(("base", "sixteen", room.least("lora"), True))
        wider = base == "none"
        edges.append(("base", "four" if wider else "none", room.least("qlora"), wider))
    if "full" in asked:
        more = asked["full"] == "no"
        edges.append(("full", "yes" if more else "no", room.least("full"), more))
    for question, value, needs, more in edges:
        other = room.with_memory(needs if more else needs - 1)
        then = decide(situation, other).advice
        text = (
            f"A device with {units.size(needs)} or more"
            if more
            else f"A device with less than {units.size(needs)}"
        )
        yield Flip(question, value, text, then.method, then.title, {})


def _model(situation: Situation, room: Room, found: Recommendation) -> Iterator[Flip]:
    """Another kind of model, all else equal: where the tree would lead, not checked on a device."""
    texts = {
        "encoder": "If the model were an encoder",
        "causal-lm": "If the model were a decoder",
        "seq2seq": "If the model were an encoder-decoder",
        "biases.yes": "If the model's linear maps had biases",
        "biases.no": "If the model's linear maps had no biases",
        "scale.large": f"If the base had {units.short_count(PROMPT_SCALE.value)} parameters or more",
        "scale.small": f"If the base had fewer than {units.short_count(PROMPT_SCALE.value)} parameters",
    }
    for step in found.path:
        if step.question not in MODEL_QUESTIONS:
            continue
        for value in QUESTIONS[step.question].answers:
            if value == step.value or not _branches(step.node, value):
                continue
            _, leaf = walk(situation, room, {step.question: value})
            if lengthens(situation, leaf):  # overruled there as it is here
                continue
            text = texts.get(value) or texts[f"{step.question}.{value}"]
            yield Flip(step.question, value, text, leaf.method, ADVICE[leaf.id].title, {})


def _branches(node: str, value: str) -> bool:
    from peft_lab.choose.tree import NODES

    return any(value in branch.values for branch in NODES[node].branches)
