"""Best rates and intervals on made-up sweeps whose truth is known."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peft_lab.studies.shipped_sweep import Sweep, curves, interval
from tests.studies.shipped_sweep import made
from tests.studies.shipped_sweep.made import Truth
from tools.ship_sweep import best_rate, rate_table

UNEVEN = {"lora": [1e-4, 4e-4, 5e-4, 2e-3, 3e-3, 1e-2], "full": [1e-5, 4e-5, 5e-5, 2e-4, 3e-4, 1e-3]}


@pytest.mark.slow
@given(times=st.floats(2, 60), full=st.floats(3e-5, 3e-4), uneven=st.booleans())
@settings(max_examples=40, deadline=None)
def test_the_best_rate_of_a_parabola_is_found_between_the_rates_that_were_tried(
    times: float, full: float, uneven: bool
) -> None:
    rates = UNEVEN if uneven else made.RATES
    for curve in curves(made.sweep(Truth(full=full, times=times, rates=rates))):
        true = full * (times if curve.at.method == "lora" else 1)
        tried = rates[curve.at.method]
        assert curve.best is not None
        if curve.best.rate in (tried[0], tried[-1]):
            assert curve.rate is None
        else:
            assert curve.rate == pytest.approx(true, rel=1e-6)


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_a_best_rate_lies_within_half_a_step_of_the_best_that_was_tried(data: st.DataObject) -> None:
    rows = [
        row for row in made.rows(Truth(seeds=(0,), batches=(8,), ranks=(2, 4))) if row["method"] == "full"
    ]
    losses = data.draw(st.lists(st.floats(0.1, 2.0), min_size=len(rows), max_size=len(rows)))
    (curve,) = curves(Sweep.of([{**row, "loss": loss} for row, loss in zip(rows, losses, strict=True)]))
    assert curve.best is not None
    if curve.rate is not None:
        assert abs(math.log2(curve.rate / curve.best.rate)) <= 0.5 + 1e-9


def test_a_curve_that_is_not_whole_is_left_out() -> None:
    rows = made.rows(Truth())
    whole = len(curves(Sweep.of(rows)))
    assert len(curves(Sweep.of(rows[1:]))) == whole - 1


def test_beside_a_diverged_training_the_best_rate_is_the_one_that_was_tried() -> None:
    truth = Truth(full=1e-4, rates=made.RATES, diverging=1.5e-4)
    (curve,) = [each for each in curves(made.sweep(truth)) if each.at.method == "full"][:1]
    assert curve.best is not None and curve.rate == curve.best.rate == made.RATES["full"][3]
    lost = [curve for curve in curves(made.sweep(replace(truth, diverging=1e-9))) if curve.best is None]
    assert len(lost) == len(curves(made.sweep(truth))) and all(curve.rate is None for curve in lost)


@pytest.mark.parametrize("groups", [2, 4, 6])
def test_an_interval_holds_the_truth_as_often_as_it_says(groups: int) -> None:
    """Groups that vary unequally, with many correlated differences in each; taken as independent they would promise
    far too much."""
    draw, held, naive, tries = random.Random(7), 0, 0, 1500
    for _ in range(tries):
        differences = [
            (group, 2.0 + shared + draw.gauss(0, 0.1))
            for group in range(groups)
            for shared in [draw.gauss(0, 0.3 * (1 + group % 3))]
            for _ in range(12)
        ]
        found, loose = interval(differences), interval(enumerate(value for _, value in differences))
        assert found and loose and found.low is not None and loose.low is not None
        assert found.high is not None and loose.high is not None
        held += found.low <= 2.0 <= found.high
        naive += loose.low <= 2.0 <= loose.high
    assert held / tries >= 0.94
    assert naive / tries < 0.75


def test_a_single_group_has_no_interval_and_none_no_mean() -> None:
    found = interval([("a", 1.0), ("a", 3.0)])
    assert found is not None and (found.value, found.low, found.high) == (2.0, None, None)
    assert interval([]) is None
    both = interval([("a", 1.0), ("a", 1.0), ("a", 1.0), ("b", 3.0)])
    assert both is not None and both.value == 2.0 and (both.groups, both.pairs) == (2, 4)


def test_the_table_of_best_rates() -> None:
    sweep = made.sweep(Truth(times=10, by_rank=4, batch=1.1))
    found = {(each.method, each.batch, each.rank): each for each in best_rate(sweep)}
    assert list(found)[:2] == [("full", 8, 0), ("full", 32, 0)] and len(found) == 6
    large, small = found["lora", 8, 16], found["lora", 8, 2]
    assert large.rate and small.rate
    assert large.rate[0] / small.rate[0] == pytest.approx(4) and (large.curves, large.seeds) == (6, 2)
    ratio = found["lora", 32, 2].loss[0] / small.loss[0]
    assert ratio == pytest.approx(1.1, abs=0.02)
    table = rate_table(sweep)
    assert len(table.splitlines()) == 8 and "at an end" not in table
    beyond = made.sweep(Truth(times=10_000))
    assert "at an end" in rate_table(beyond)
