"""What a sweep says of a rule, on made-up sweeps whose truth is known."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peft_lab.advise.recipes.replications import (
    TRIALS,
    Replication,
    RuleVerdict,
    replicate,
    replicated,
    replications,
)
from peft_lab.advise.recipes.rules import GRAIN, TIMES_FULL, TIMES_FULL_SHORT, all_rules
from peft_lab.studies.shipped_sweep import Sweep
from tests.prose import says
from tests.studies import made_points as made
from tests.studies.made_points import Truth

TIMES, RANK, TARGETS, BATCH = (
    "ten-times-full",
    "alpha-fixed",
    "targets-with-feed-forward",
    "small-batches-for-lora",
)
LOW, HIGH = TIMES_FULL / GRAIN, TIMES_FULL_SHORT * GRAIN


def of(truth: Truth, rule: str, seed: int = 0) -> Replication:
    return replicate(made.sweep(truth, seed), rule)[rule]


@pytest.mark.parametrize(
    ("interval", "verdict"),
    [
        ((6.0, 9.0, 14.0), RuleVerdict.SEEN),
        ((5.0, 9.0, 20.0), RuleVerdict.SEEN),
        ((1.0, 2.0, 4.9), RuleVerdict.NOT_SEEN),
        ((20.1, 25.0, 30.0), RuleVerdict.NOT_SEEN),
        ((4.0, 9.0, 14.0), RuleVerdict.OPEN),
        ((9.0, 14.0, 21.0), RuleVerdict.OPEN),
        ((None, 9.0, None), RuleVerdict.NOT_TESTABLE),
    ],
)
def test_a_verdict_follows_from_the_interval(interval: tuple[Any, Any, Any], verdict: RuleVerdict) -> None:
    low, value, high = interval
    one = Replication(TIMES, "ratio", value=value, low=low, high=high, expected=(5, 20), unit="times")
    assert one.verdict is verdict and one.text.startswith(verdict)


@given(times=st.floats(1.5, 80))
@settings(max_examples=12, deadline=None)
def test_how_many_times_the_rate_of_full_fine_tuning(times: float) -> None:
    found = of(Truth(times=times, full=5e-5), TIMES)
    if found.value is None:  # LoRA's best lies at an end
        return
    assert found.value == pytest.approx(times, rel=1e-6)
    if min(abs(math.log(times / edge)) for edge in (LOW, HIGH)) > 1e-3:
        assert found.verdict is (RuleVerdict.SEEN if LOW < times < HIGH else RuleVerdict.NOT_SEEN)


@given(more=st.floats(0.8, 1.25))
@settings(max_examples=12, deadline=None)
def test_whether_attention_alone_and_large_batches_cost_loss(more: float) -> None:
    """At a rate that was tried, so that the lowest loss is the parabola's."""
    truth = Truth(full=made.RATES["full"][4], times=made.RATES["lora"][4] / made.RATES["full"][4])
    wanted = RuleVerdict.SEEN if more > 1 else RuleVerdict.NOT_SEEN
    attention, batch = of(replace(truth, attention=more), TARGETS), of(replace(truth, batch=more), BATCH)
    for found in (attention, batch):
        assert found.value == pytest.approx(100 * (more - 1), abs=1e-6)
        if abs(more - 1) > 1e-3:
            assert found.verdict is wanted


def test_noise_opens_a_verdict_and_more_groups_close_it() -> None:
    """With two groups and much between them an interval is wide; the same noise over many seeds is narrow."""
    few = of(Truth(shared=0.3, batches=(8,)), TIMES, seed=3)
    many = of(Truth(shared=0.3, batches=(8,), seeds=range(14)), TIMES, seed=3)
    assert few.verdict is RuleVerdict.OPEN and few.groups == 2
    assert many.verdict is RuleVerdict.SEEN and many.groups == 14
    assert few.low is not None and few.high is not None and many.low is not None and many.high is not None
    assert few.high / few.low > 2 * many.high / many.low


@pytest.mark.slow
def test_the_truth_lies_in_the_interval_as_often_as_it_says() -> None:
    """A hundred made-up sweeps, each with noise of its curves and of its groups."""
    held = 0
    for seed in range(100):
        found = of(Truth(times=12, noise=0.1, shared=0.2, ranks=(2, 16)), TIMES, seed)
        assert found.low is not None and found.high is not None
        held += found.low <= 12 <= found.high
    assert held >= 90


def test_a_best_rate_at_an_end_is_left_out_and_counted() -> None:
    inside = Truth(times=10)
    rows = made.rows(inside)
    low = [row for row in rows if not (row["method"] == "lora" and row["rank"] == 16)]
    beyond = [
        {**row, "loss": 1 - row["rate"], "metric": 0.5}
        for row in rows
        if row["method"] == "lora" and row["rank"] == 16
    ]
    found = replicate(Sweep.of(low + beyond), TIMES)[TIMES]
    assert found.value == pytest.approx(10, rel=1e-6)
    assert f"{2 * 2 * 3} left out" in found.note
    nothing = replicate(Sweep.of(made.rows(replace(inside, times=1e5))), TIMES)[TIMES]
    assert nothing.verdict is RuleVerdict.NOT_TESTABLE and "left out" in nothing.note


def test_one_seed_alone_gives_no_verdict() -> None:
    found = of(Truth(seeds=(0,), batches=(8,)), TIMES)
    assert found.verdict is RuleVerdict.NOT_TESTABLE and found.value == pytest.approx(10)
    assert "a single group" in found.note


@pytest.mark.parametrize("rows", [[], made.rows(Truth())[:3]])
def test_a_sweep_that_has_hardly_begun_says_so_of_every_rule(rows: list[Any]) -> None:
    found = replicate(Sweep.of(rows))
    assert set(found) == {rule.id for rule in all_rules()}
    assert {one.verdict for one in found.values()} == {RuleVerdict.NOT_TESTABLE}
    assert all(one.note for one in found.values())


def test_every_rule_has_a_verdict_or_a_reason_that_can_be_shown() -> None:
    assert set(TRIALS) <= {rule.id for rule in all_rules()}
    found = replications()
    assert set(found) == {rule.id for rule in all_rules()}
    for rule in all_rules():
        one = found[rule.id]
        assert replicated(rule.id).startswith(one.verdict) and one.note
        json.dumps(one.as_dict(), allow_nan=False)
        if rule.untestable:
            assert one.verdict is RuleVerdict.NOT_TESTABLE and one.note == rule.untestable
    assert says(replicated("qlora-rates"), "not testable here", "billions")
    assert {name for name in TRIALS if found[name].value is not None} >= {TIMES, RANK, BATCH, "small-ranks"}
