"""Answers to the tree's questions in a situation, each with the figure behind it."""

from __future__ import annotations

from peft_lab.advise import leaves
from peft_lab.advise.cited import ADAPTER_LATENCY, BITS_A_PARAMETER, BITS_A_TOKEN, MANY_ROWS
from peft_lab.advise.room import Room
from peft_lab.advise.simulating import MARGIN
from peft_lab.advise.situation import Situation, lora_bytes
from peft_lab.advise.tree import FEW_ROWS, QUESTIONS
from peft_lab.core import units
from peft_lab.core.errors import UnknownName
from peft_lab.methods import get_method

# ----------------------------------------
# What the smallest step of a method needs, as text: the figure, or a bound that already decides whether it fits.
#
# If simulations of shorter or longer rows decide it, the text says "at least" or "at most", and the step itself
# is not simulated.


def least(room: Room, method: str) -> str:
    """Return as text what one row needs.

    Raises:
        BadInput, SimulationError: as the simulation.
    """
    low, high = room.least_between(method)
    if low < high:
        if low / MARGIN > room.usable:
            return f"at least {units.size(int(low / MARGIN))}"
        if high * MARGIN <= room.usable:
            return f"at most {units.size(int(high * MARGIN))}"
    return units.size(room.least(method))


GIVEN = "told"  # ``how`` of an answer that the user gave
ASKED = tuple(key for key, question in QUESTIONS.items() if question.by == "you")
OWN_LIMIT = "a limit that this lab chose"  # from no paper, so it has no badge


def answer(key: str, situation: Situation, room: Room) -> tuple[str, str]:
    """Return the answer to a question in this situation, and the figure behind it.

    Raises:
        UnknownName: no question of the tree has this key.
    """
    if key not in QUESTIONS:
        raise UnknownName("question", key, QUESTIONS, "answer")
    if key in ("kind", "biases", "scale"):
        return leaves.counted_answers(situation.shape)[key], leaves.phrase(key, situation.shape)
    if key == "amount":
        return amount(situation)
    if key == "base":
        return _base(situation, room)
    if key == "full":
        return room.full(), _step_said(situation, room, "full")
    return found_answer(key, situation)


def value(key: str, situation: Situation, room: Room) -> str:
    """Return the answer of :func:`answer` alone: its figure may need more simulations. Raises as there."""
    if key == "base":
        return room.base()
    return room.full() if key == "full" else answer(key, situation, room)[0]


def found_answer(key: str, situation: Situation) -> tuple[str, str]:
    """Return the same as :func:`answer`, for the questions that only the user can answer.

    Raises:
        UnknownName: none of those questions has this key.
    """
    if key not in ASKED:
        raise UnknownName("question to you", key, ASKED, "answer")
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
        return ("strict" if strict else "relaxed"), f"{said}; adapters took {ADAPTER_LATENCY} longer or more"
    if key == "storage":
        room_for_one, lora = situation.storage, lora_bytes(situation.shape)
        said = "no limit" if room_for_one is None else units.size(room_for_one)
        tight = room_for_one is not None and room_for_one < lora
        return (
            "tight" if tight else "roomy"
        ), f"{said} per task; LoRA at its defaults stores {units.size(lora)}"
    if key == "objective":
        said = (
            "as you say"
            if situation.objective or situation.output
            else "what models of this kind are used for"
        )
        return situation.purpose, said
    if key == "serving":
        return situation.serving, "as you say" if situation.serving != "plain" else "nothing else was said"
    if key == "forgetting":
        may = "may" if situation.forgetting == "ok" else "may not"
        return situation.forgetting, f"what the model could do before {may} get worse"
    reaches = {"yes": "a prompt reaches the target", "retrieval": "looking things up reaches the target"}
    return situation.prompting, reaches.get(situation.prompting, "a prompt does not reach the target")


def held(situation: Situation) -> int:
    """Return the parameters of large-rank LoRA on every linear map: the capacity to learn with."""
    from peft_lab.advise.leaves import ADVICE

    spec = get_method("lora")
    values = ADVICE["lora-large"].knobs(situation.shape)
    return spec.formula(situation.shape, spec.require(situation.shape, values)).trainable


def amount(situation: Situation) -> tuple[str, str]:
    """Return whether there is more to learn than LoRA can hold, and the figures behind it."""
    tokens, parameters = situation.tokens, held(situation)
    more = BITS_A_TOKEN.value * tokens > BITS_A_PARAMETER.value * parameters
    return (
        ("exceeds" if more else "holds"),
        f"{units.short_count(tokens)} tokens; LoRA of a large rank has {units.short_count(parameters)} parameters",
    )


def _base(situation: Situation, room: Room) -> tuple[str, str]:
    value = room.base()
    return value, _step_said(situation, room, "lora" if value == "sixteen" else "qlora")


def _step_said(situation: Situation, room: Room, method: str) -> str:
    """Return as text what a step of a method needs, compared with the usable memory."""
    step = room.smallest(method, room.usual(method))
    title = get_method(method).title
    if step is None:
        needs = f"{title} row by row, {situation.seq:,} tokens each, needs {least(room, method)}"
        return f"{needs}; on each device {units.size(room.usable)} may be used"
    how = f", split over {room.devices:,} devices" if step.split else ""
    rows = f"{step.batch} × {situation.seq:,} tokens{' and checkpointing' if step.checkpointing else ''}"
    most = "at most " if step.bound else ""
    needed, usable = units.unlike(step.needed, room.usable_split if step.split else room.usable)
    return f"{title} with {rows}{how} needs {most}{needed}; on each device {usable} may be used"
