"""When a queued run starts, from what the runs before it have measured."""

from __future__ import annotations

from typing import Any

import pytest

from peft_lab.runs.spec import RunSpec
from peft_lab.runs.turns import Left, Pace, all_left, left, pace
from peft_lab.runs.view import view

from .test_view import event, step

SPEC = RunSpec("minilm-l6", "lora", "sentiment", steps=10, eval_rows=100)
KNOWN, UNKNOWN = Pace(step=2.0, row=0.1), Pace()
START = [event("queued"), event("starting"), event("ready")]


def of(*events: dict[str, Any], known: Pace = UNKNOWN) -> Left:
    return left(view([*START, *events], SPEC.steps), SPEC, known)


def evaluated(which: str, seconds: float) -> dict[str, Any]:
    return event("evaluated", which=which, metrics={}, loss=0.0, rows=100, seconds=seconds)


def test_a_run_that_has_not_begun_takes_what_one_like_it_took() -> None:
    assert of(known=KNOWN) == Left(10 * 2.0 + 2 * 100 * 0.1)


def test_what_a_run_measured_of_itself_goes_first() -> None:
    steps = [step(number, float(number), seconds=0.5) for number in range(1, 5)]
    assert of(*steps, known=KNOWN) == Left(6 * 0.5 + 2 * 100 * 0.1)


def test_without_a_speed_only_the_rest_is_told_and_said_to_be_a_part() -> None:
    steps = [step(1, 1.0, seconds=0.5)]
    assert of(*steps) == Left(9 * 0.5, whole=False)
    assert of() == Left(0.0, whole=False)


def test_an_evaluation_counts_down_and_its_own_speed_serves_for_the_second_model() -> None:
    steps = [step(number, float(number)) for number in range(1, 11)]
    half = event("evaluating", which="tuned", done=50, total=100)
    assert of(*steps, half, known=KNOWN) == Left(pytest.approx((50 + 100) * 0.1))
    both = [*steps, half, evaluated("tuned", 20.0), event("evaluating", which="base", done=25, total=100)]
    assert of(*both, known=KNOWN) == Left(pytest.approx(75 * 0.2))


def test_a_run_that_ended_and_one_without_held_out_rows() -> None:
    assert of(event("done"), known=KNOWN) == Left(0.0)
    bare = RunSpec("minilm-l6", "lora", "sentiment", steps=10, eval_rows=0)
    assert left(view(START, 10), bare, Pace(step=1.0)) == Left(10.0)


def test_several_runs_follow_each_other() -> None:
    assert all_left([Left(3.0), Left(4.0)]) == Left(7.0)
    assert all_left([Left(3.0), Left(4.0, whole=False)]) == Left(7.0, whole=False)


def test_the_slower_tracked_step_is_left_out() -> None:
    rows = [step(1, 1.0, seconds=1.0), step(2, 9.0, seconds=8.0, tracked=True), evaluated("tuned", 50.0)]
    assert pace(view([*START, *rows], 10)) == Pace(step=1.0, row=0.5)
