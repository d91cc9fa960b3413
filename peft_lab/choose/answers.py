"""The answers to the tree's questions in a situation, each with the figure behind it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from peft_lab import units
from peft_lab.choose import counted
from peft_lab.choose.cited import ADAPTER_LATENCY, MANY_ROWS
from peft_lab.choose.room import Room
from peft_lab.choose.situation import Situation, lora_bytes
from peft_lab.choose.tree import FEW_ROWS, QUESTIONS
from peft_lab.errors import UnknownName
from peft_lab.methods import get_method

GIVEN = "told"  # how an answer was had that the person gave
ASKED = tuple(key for key, question in QUESTIONS.items() if question.by == "you")
OWN_LIMIT = "a limit that this lab chose"  # no paper gives it, so it has no badge


def answer(key: str, situation: Situation, room: Room) -> tuple[str, str]:
    """A question's answer in this situation, and the figure behind it.

    Raises:
        UnknownName: no question of the tree has this key.
    """
    if key not in QUESTIONS:
        raise UnknownName("question", key, QUESTIONS, "answer")
    if key in ASKED:
        return found_answer(key, situation)
    if key == "base":
        return _base(situation, room)
    if key == "full":
        least = units.size(room.least("full"))
        usable = units.size(room.memory)
        return room.full(), f"one row of full fine-tuning needs {least}; {usable} are usable"
    return counted.answers(situation.shape)[key], counted.phrase(key, situation.shape)


def found_answer(key: str, situation: Situation) -> tuple[str, str]:
    """As :func:`answer`, for the questions that only the person can answer.

    Raises:
        UnknownName: none of those questions has this key.
    """
    if key not in ASKED:
        raise UnknownName("question to you", key, ASKED, "answer")
    return _READERS[key](situation)


def _tasks(situation: Situation) -> tuple[str, str]:
    one = situation.tasks == 1
    return "one" if one else "many", f"{situation.tasks:,} task{'' if one else 's'} served from one base"


def _rows(situation: Situation) -> tuple[str, str]:
    few, many = FEW_ROWS, MANY_ROWS.value
    own = f"{few:,} rows ({OWN_LIMIT})"
    if situation.rows < few:
        value, meaning = "few", f"fewer than {own}"
    elif situation.rows >= many:
        value, meaning = "many", f"{many:,.0f} rows or more"
    else:
        value, meaning = "some", f"{own} up to {many:,.0f}"
    return value, f"{situation.rows:,} rows; this answer means {meaning}"


def _latency(situation: Situation) -> tuple[str, str]:
    longer = situation.latency
    strict = longer is not None and longer < ADAPTER_LATENCY.value
    limit = "no limit" if longer is None else f"at most {units.percent(longer)} longer"
    return "strict" if strict else "relaxed", f"{limit}; adapters took {ADAPTER_LATENCY} longer or more"


def _storage(situation: Situation) -> tuple[str, str]:
    most, lora = situation.storage, lora_bytes(situation.shape)
    limit = "no limit" if most is None else units.size(most)
    tight = most is not None and most < lora
    return "tight" if tight else "roomy", f"{limit} per task; LoRA at its defaults stores {units.size(lora)}"


def _prompting(situation: Situation) -> tuple[str, str]:
    reached = "reaches" if situation.prompting == "yes" else "does not reach"
    return situation.prompting, f"a prompt {reached} the target"


_READERS: Mapping[str, Callable[[Situation], tuple[str, str]]] = {
    "tasks": _tasks,
    "rows": _rows,
    "latency": _latency,
    "storage": _storage,
    "output": lambda asked: (
        asked.comes_out,
        "as you say" if asked.output else "what models of this kind are used for",
    ),
    "prompting": _prompting,
}


def _base(situation: Situation, room: Room) -> tuple[str, str]:
    value = room.base()
    least = {"sixteen": "lora", "four": "qlora", "none": "qlora"}[value]
    step = room.step(least, {})
    needs = units.size(step.needed if step else room.least(least))
    rows = f"{step.batch if step else 1} × {situation.seq:,} tokens"
    title = get_method(least).title
    return value, f"{title} at its defaults with {rows} needs {needs}; {units.size(room.memory)} are usable"
