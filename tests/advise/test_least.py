"""What spares simulations changes no answer, and what a sentence says of a step that was not simulated is so."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from peft_lab.advise.flips import flips, longest
from peft_lab.advise.recommend import Recommendation, recommend
from peft_lab.advise.room import Room, room_of
from peft_lab.advise.simulating import Known, StepRun, request, simulating
from peft_lab.advise.situation import Situation
from peft_lab.advise.words import least
from peft_lab.core import units
from peft_lab.engine import simulate
from peft_lab.engine.simulate import memory_of
from peft_lab.engine.simulate import simulate as simulate_step
from peft_lab.models.catalogue import catalogue
from tests.advise import standin

DECODERS = [name for name, entry in catalogue().items() if entry.kind == "causal-lm"]
CARDS = ("t4", "rtx-3060", "rtx-4090", "a100-40", "l40s", "h100")


def drawn(seed: int) -> Situation:
    """A situation such as somebody types."""
    chance = random.Random(seed)
    model = chance.choice(DECODERS)
    most = catalogue()[model].shape.max_positions or 4096
    return Situation(
        model=model, device=chance.choice(CARDS), seq=min(most, chance.randint(100, 3000)),
        batch=chance.choice((1, 2, 4, 8)), rows=chance.choice((200, 5_000, 150_000)),
    )  # fmt: skip


def answered(found: Recommendation) -> tuple[Any, ...]:
    """All of it but the figures of sentences, which may be bounds."""
    return found.advice, found.plan, found.runner_up, [(step.question, step.value) for step in found.path]


def neighbours(situation: Situation, method: str, values: Mapping[str, Any], run: StepRun) -> Known:
    """What is known of a step with other rows and lengths, as of a simulation that ships."""
    found = {}
    for rows, seq in ((1, 512), (4, 512), (1, 1024), (2, 2048)):
        ask = standin.ask(replace(situation, seq=seq))
        found[rows, seq] = ask(method, values, replace(run, batch=rows))
    return found


@pytest.mark.parametrize("seed", range(120))
def test_what_is_known_changes_no_answer(seed: int) -> None:
    situation = drawn(seed)
    slow = recommend(situation, Room(situation, standin.ask))
    assert answered(recommend(situation, Room(situation, standin.ask, recall=neighbours))) == answered(slow)


@pytest.mark.slow
@pytest.mark.sampled(3)
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("seed", range(1000, 1008))
def test_what_ships_changes_no_answer(seed: int) -> None:
    """Held against a room that simulates all it asks for."""
    situation = drawn(seed)
    assert answered(recommend(situation, room_of(situation))) == answered(
        recommend(situation, Room(situation, simulating))
    )


@pytest.mark.parametrize("method", ["lora", "qlora"])
@pytest.mark.parametrize("seed", range(60))
def test_a_sentence_says_a_bound_only_of_what_it_holds_for(method: str, seed: int) -> None:
    situation = drawn(seed)
    room = Room(situation, standin.ask, recall=neighbours)
    real, said = room.least(method), least(room, method)
    low, high = room.least_between(method)
    assert low <= real * 1.001 and real <= high * 1.001
    kind = re.match("at least |at most ", said)
    if kind is None:
        assert said == units.size(real)
    elif kind[0] == "at least ":
        assert real > room.usable
    else:
        assert real <= room.usable


def test_some_sentences_are_bounds() -> None:
    said = [least(Room(drawn(seed), standin.ask, recall=neighbours), "lora") for seed in range(60)]
    assert any("at least" in text for text in said) and any("at most" in text for text in said)


@pytest.mark.filterwarnings("ignore")
def test_cards_whose_workspaces_are_equal_are_asked_for_one_simulation() -> None:
    """A T4's step is an RTX 4090's; a Hopper card's is its own."""
    situation = Situation(model="smollm2-135m", seq=32)
    asked = {card: request(replace(situation, device=card), "lora", {}, StepRun(1, False)) for card in CARDS}
    assert asked["t4"] == asked["rtx-4090"] == asked["a100-40"] != asked["h100"]
    one = asked["t4"]
    needs = {
        each: simulate.needed_bytes(simulate_step(one.at(capability=each)))
        for each in ((7, 5), (8, 9), (9, 0))
    }
    assert needs[7, 5] == needs[8, 9] < needs[9, 0]


@pytest.mark.filterwarnings("ignore")
def test_a_step_takes_the_same_whether_its_work_is_noted_or_not() -> None:
    one = request(Situation(model="smollm2-135m", seq=32), "lora", {}, StepRun(1, False))
    noted, bare = simulate_step(one), simulate_step(one, works=False)
    assert simulate.needed_bytes(noted) == simulate.needed_bytes(bare) and noted.points == bare.points
    assert noted.work and not bare.work and replace(memory_of(one), seconds=bare.seconds) == bare


def test_where_nothing_fits_the_rows_that_would_are_named() -> None:
    situation = Situation(model="llama-3.1-8b", device="8GB", seq=131_072, batch=1)
    room = Room(situation, standin.ask)
    found = recommend(situation, room)
    assert found.advice == "nothing"
    needs = room.least("qlora")
    said = (units.size(needs), units.size(needs - room.usable), units.size(room.usable))
    assert all(figure in found.why[0].text for figure in said)
    tokens = longest(situation, room)
    assert tokens is not None and 0 < tokens < situation.seq
    assert room.for_model(replace(situation, seq=tokens)).smallest("qlora", {}) is not None
    assert room.for_model(replace(situation, seq=tokens * 5 // 4)).smallest("qlora", {}) is None
    flip = next(flip for flip in flips(situation, room, found) if flip.changes == {"seq": tokens})
    assert f"{tokens:,} tokens" in flip.text and flip.method in ("lora", "qlora")


def test_no_rows_are_named_where_none_would_fit() -> None:
    situation = Situation(model="llama-3.1-70b", device="rtx-3060", seq=1024, batch=1)
    room = Room(situation, standin.ask)
    found = recommend(situation, room)
    assert found.advice == "nothing" and longest(situation, room) is None
    assert not any("seq" in flip.changes for flip in flips(situation, room, found))


@pytest.mark.parametrize(("device", "second"), [("l40s", False), ("rtx-4090", True), ("cpu", False)])
def test_four_bits_come_second_only_where_they_buy_something(device: str, second: bool) -> None:
    situation = Situation(
        model="llama-3.1-8b" if device != "cpu" else "smollm2-135m", device=device, batch=128
    )
    found = recommend(situation, Room(situation, standin.ask))
    assert found.method == "lora" and (found.runner_up == "qlora") == second
    assert found.plan is not None
