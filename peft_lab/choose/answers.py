"""The answers to the tree's questions in a situation, each with the figure behind it."""

from __future__ import annotations

from peft_lab import units
from peft_lab.choose import counted
from peft_lab.choose.cited import ADAPTER_LATENCY, MANY_ROWS
from peft_lab.choose.room import Room
from peft_lab.choose.situation import Situation, lora_bytes
from peft_lab.choose.tree import FEW_ROWS, QUESTIONS
from peft_lab.errors import UnknownName
from peft_lab.methods import get_method

TOLD = "told"  # how an answer was had that the person gave
ASKED = tuple(key for key, question in QUESTIONS.items() if question.by == "you")
OWN_LIMIT = "a limit that this lab chose"  # no paper gives it, so it has no badge


def answer(key: str, situation: Situation, room: Room) -> tuple[str, str]:
    """A question's answer in this situation, and the figure behind it.

    Raises:
        UnknownName: no question of the tree has this key.
    """
    if key not in QUESTIONS:
        raise UnknownName("question", key, QUESTIONS, "answer")
    if key in ("kind", "biases", "scale"):
        return counted.answers(situation.shape)[key], counted.phrase(key, situation.shape)
    if key == "base":
        return _base(situation, room)
    if key == "full":
        least = units.size(room.least("full"))
        return (
            room.full(),
            f"one row of full fine-tuning needs {least}; {units.size(room.memory)} are usable",
        )
    return found_answer(key, situation)


def found_answer(key: str, situation: Situation) -> tuple[str, str]:
    """As :func:`answer`, for the questions that only the person can answer.

    Raises:
        UnknownName: none of those questions has this key.
    """
    if key not in ASKED:
        raise UnknownName("question to you", key, ASKED, "answer")
    if key == "tasks":
        served = f"{situation.tasks:,} task{'' if situation.tasks == 1 else 's'} served from one base"
        return ("one" if situation.tasks == 1 else "many"), served
    if key == "rows":
        few, many = FEW_ROWS, MANY_ROWS.value
        value = "few" if situation.rows < few else "many" if situation.rows >= many else "some"
        own = f"{few:,} rows ({OWN_LIMIT})"
        limit = f"fewer than {own}" if value == "few" else f"{many:,.0f} rows or more"
        between = f"{own} up to {many:,.0f}"
        return value, f"{situation.rows:,} rows; this answer means {between if value == 'some' else limit}"
    if key == "latency":
        longer = situation.latency
        strict = longer is not None and longer < ADAPTER_LATENCY.value
        said = "no limit" if longer is None else f"at most {units.percent(longer)} longer"
        return ("strict" if strict else "relaxed"), f"{said}; adapters took {ADAPTER_LATENCY} longer or more"
    if key == "storage":
        room_for_one, lora = situation.storage, lora_bytes(situation.shape)
        said = "no limit" if room_for_one is None else units.size(room_for_one)
        tight = room_for_one is not None and room_for_one < lora
        return (
            "tight" if tight else "roomy"
        ), f"{said} per task; LoRA at its defaults stores {units.size(lora)}"
    if key == "output":
        return (
            situation.comes_out,
            "as you say" if situation.output else "what models of this kind are used for",
        )
    reached = "reaches" if situation.prompting == "yes" else "does not reach"
    return situation.prompting, f"a prompt {reached} the target"


def _base(situation: Situation, room: Room) -> tuple[str, str]:
    value = room.base()
    least = {"sixteen": "lora", "four": "qlora", "none": "qlora"}[value]
    step = room.step(least, {})
    needs = units.size(step.needed if step else room.least(least))
    rows = f"{step.batch if step else 1} × {situation.seq:,} tokens"
    title = get_method(least).title
    return value, f"{title} at its defaults with {rows} needs {needs}; {units.size(room.memory)} are usable"
