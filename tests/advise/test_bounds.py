"""Bounds hold for every step of the form they assume, and for simulated ones; they spare simulations, not answers."""

from __future__ import annotations

from itertools import product
from math import inf
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peft_lab.advise.plans.steps import split_step
from peft_lab.advise.recommend import recommend
from peft_lab.advise.room import Room
from peft_lab.advise.simulating import MARGIN, StepRun, bounds, decided, largest_rows, recalling, simulating
from peft_lab.advise.situation import Situation
from peft_lab.advise.tree import ADVICE
from peft_lab.engine import simulate

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
