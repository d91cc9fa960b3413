"""Bounds hold for every step of the form they assume, and for simulated ones; they spare simulations, not answers."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from dataclasses import replace
from itertools import product
from math import inf
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peft_lab.advise.flips import flips, longest
from peft_lab.advise.plans.steps import split_step
from peft_lab.advise.recommend import Recommendation, recommend
from peft_lab.advise.room import Room
from peft_lab.advise.simulating import (
    MARGIN,
    Known,
    StepRun,
    bounds,
    decided,
    largest_rows,
    recalling,
    request,
    simulating,
)
from peft_lab.advise.situation import Situation
from peft_lab.advise.tree import ADVICE
from peft_lab.advise.words import least
from peft_lab.core import units
from peft_lab.engine import simulate
from peft_lab.engine.simulate import memory_of
from peft_lab.engine.simulate import simulate as simulate_step
from peft_lab.models.catalogue import catalogue
from tests.advise import standin

_coefficients = st.tuples(st.integers(0, 10**9), st.integers(0, 10**6), st.integers(0, 10**3))
_sizes = st.lists(st.tuples(st.integers(1, 64), st.integers(1, 8192)), min_size=1, max_size=4, unique=True)


def step(of: tuple[int, int, int], rows: int, seq: int) -> int:
    fixed, tokens, scores = of
    return fixed + tokens * rows * seq + scores * rows * seq**2


@given(_coefficients, _sizes, st.integers(1, 64), st.integers(1, 8192), st.floats(0, 1))
def test_a_step_is_between_its_bounds(
    of: tuple[int, int, int], known: list[tuple[int, int]], rows: int, seq: int, counted: float
) -> None:
    weights = int(of[0] * counted)
    low, high = bounds({size: step(of, *size) for size in known}, weights, rows, seq)
    real = step(of, rows, seq)
    assert low <= real * (1 + 1e-9) and real <= high * (1 + 1e-9)


def test_bounds_that_cross_are_no_figure() -> None:
    """The allocator may hold less for longer rows; what lies between was not simulated all the same."""
    low, high = bounds({(1, 512): 6870, (1, 1024): 6868}, 5500, 1, 700)
    assert (low, high) == (6868, 6870)
    low, high = bounds({(1, 512): 6870, (1, 1024): 6870}, 5500, 1, 700)
    assert low == 6870 < high


def test_nothing_known_decides_nothing() -> None:
    assert bounds({}, 16, 1, 512) == (16, inf)
    assert decided((16, inf), 20) is None
    assert decided((16, inf), 15) is False
    assert decided((10, 16), 16 * MARGIN) is True and decided((10, 16), 16.1) is None
    assert decided((16, 16), 16) is True and decided((16, 16), 15) is False


@given(st.integers(1, 40), st.integers(1, 12), st.integers(1, 9), st.integers(1, 100), st.booleans())
def test_bounds_spare_questions_and_change_no_answer(
    fixed: int, each: int, most: int, limit: int, tight: bool
) -> None:
    def needs(rows: int) -> int:
        return fixed + each * rows

    asked: list[int] = []

    def counting(rows: int) -> int:
        asked.append(rows)
        return needs(rows)

    def exact(rows: int) -> tuple[float, float]:
        return needs(rows) - 1, needs(rows) + 1

    plain = largest_rows(needs, most, limit, tight)
    assert largest_rows(counting, most, limit, tight, exact) == plain
    if plain is not None:
        assert plain[1] == needs(plain[0]) <= limit and plain[0] in asked


def test_another_length_takes_few_simulations() -> None:
    """Of Llama 3.1 8B on an RTX 4090, of which rows of 512 tokens ship: those of the ways that may be advised."""
    asked: list[tuple[str, StepRun]] = []

    def ask(situation: Situation) -> Any:
        real = simulating(situation)

        def needed(method: str, values: Any, run: StepRun) -> int:
            low, high = room.between(method, values, run)
            if low < high:
                asked.append((method, run))
                return int(low * 1.001)
            return real(method, values, run)

        return needed

    situation = Situation(model="llama-3.1-8b", device="rtx-4090", seq=777)
    room = Room(situation, ask, recall=recalling)
    found = recommend(situation, room)
    assert found.method == "qlora" and found.plan is not None
    once = list(dict.fromkeys(asked))
    assert {method for method, _ in once} == {"lora", "qlora"} and len(once) <= 12, (
        "the two bases that are compared"
    )
    assert any(run.batch == found.plan.batch for _, run in once)


@pytest.mark.slow
@pytest.mark.sampled(9)
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("model", ["llama-3.2-1b", "gpt2", "bert-base", "t5-base", "qwen2.5-0.5b"])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_simulated_steps_are_between_their_bounds(model: str, checkpointing: bool) -> None:
    """Each against the others, over rows and lengths: off by less than the margin."""
    sizes = [*product((1, 4), (96, 300, 512)), (2, 300), (2, 500), (8, 128)]
    values = ADVICE["lora"].knobs(Situation(model=model).shape)
    run = StepRun(1, checkpointing)
    real = {
        (rows, seq): simulating(Situation(model=model, seq=seq))(
            "lora", values, StepRun(rows, run.checkpointing)
        )
        for rows, seq in sizes
    }
    weights = 2 * Situation(model=model).shape.total
    for size, needed in real.items():
        for other in real:
            known = {one: real[one] for one in real if one != size and one[1] == other[1]}
            low, high = bounds(known, weights, *size)
            assert low / MARGIN <= needed <= high * MARGIN


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("method", "sharding"), [("lora", "fsdp2"), ("full", "fsdp2"), ("lora", "fsdp2+offload")]
)
def test_a_split_step_is_simulated_as_it_is_split(method: str, sharding: str) -> None:
    situation = Situation(model="smollm2-135m", device="t4", seq=64, devices=2, batch=2)
    values = ADVICE["lora"].knobs(situation.shape) if method == "lora" else {}
    room = Room(situation, simulating, recall=recalling)
    chosen, _ = room.fit(method, values, sharding, True, 1)
    assert chosen is not None and chosen.batch == 1
    real = split_step(situation, method, values, chosen.run(1), sharding)
    assert (chosen.needed, chosen.host) == (simulate.needed_bytes(real), real.host_bytes)
    assert (chosen.host > 0) == StepRun(1, True, sharding=sharding).offloads


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
