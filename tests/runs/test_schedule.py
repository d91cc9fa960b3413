"""The learning rate over a run: it rises from its first step on, is whole once, and falls towards zero."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peft_lab.runs.spec import RunRequest, Schedule
from peft_lab.training.step import rate_at


def spec(steps: int, warmup: float, schedule: Schedule = "linear") -> RunRequest:
    return RunRequest("minilm-l6", "lora", "sentiment", steps=steps, warmup=warmup, schedule=schedule)


def factor(spec: RunRequest, step: int) -> float:
    return rate_at(step, spec.steps or 0, spec.warmup, spec.schedule)


def test_a_linear_schedule_by_hand() -> None:
    """Ten steps, three of them rising: 1/4, 2/4, 3/4, then 1 and seven steps of a seventh down."""
    found = [factor(spec(10, 0.3), step) for step in range(10)]
    assert found == pytest.approx([0.25, 0.5, 0.75, *(1 - step / 7 for step in range(7))])


def test_a_cosine_schedule_by_hand() -> None:
    found = [factor(spec(6, 1 / 3, "cosine"), step) for step in range(6)]
    assert found == pytest.approx(
        [1 / 3, 2 / 3, *(0.5 * (1 + math.cos(math.pi * step / 4)) for step in range(4))]
    )


def test_without_warm_up_the_first_step_is_whole() -> None:
    assert [factor(spec(4, 0.0), step) for step in range(4)] == pytest.approx([1, 0.75, 0.5, 0.25])


@given(st.integers(1, 300), st.floats(0, 0.9), st.sampled_from(["linear", "cosine"]))
def test_no_step_is_wasted(steps: int, warmup: float, schedule: Schedule) -> None:
    """A rate of zero trains nothing: no step has it, the first least of all; exactly one has the whole rate."""
    found = [factor(spec(steps, warmup, schedule), step) for step in range(steps)]
    peak = min(round(steps * warmup), steps - 1)
    assert min(found) > 0 and max(found) == found[peak] == 1
    assert found[: peak + 1] == sorted(found[: peak + 1])
    assert found[peak:] == sorted(found[peak:], reverse=True)
    assert found.count(1.0) == 1
