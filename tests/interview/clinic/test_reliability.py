"""What is said beside a suspicion's weight: counts from runs with known faults, nothing where there were too few."""

from __future__ import annotations

import random

import pytest

from bench import clinic as bench
from peft_lab.interview.clinic import diagnose
from peft_lab.interview.clinic.diagnose import FEW, LISTED, MOST, Reliability, in_words
from tools.clinic_made.setup import ENCODER, TINY, WRITER


def test_the_kept_counts_are_counts() -> None:
    known = diagnose.reliability()
    assert known.mutants > 0 and known.healthy > 0
    for at, (right, of) in known.tenths.items():
        assert 0 <= at < diagnose.TENTHS and 0 <= right <= of
    assert sum(right for right, _ in known.tenths.values()) <= known.mutants


def test_few_suspicions_give_no_share(monkeypatch: pytest.MonkeyPatch) -> None:
    known = Reliability(7, 8, {9: (5, FEW), 3: (1, FEW - 1)})
    monkeypatch.setattr(diagnose, "reliability", lambda: known)
    assert in_words(MOST) == (
        f"5 of {FEW} diagnoses with evidence from 0.9 to 1.0 were right, on 7 runs with a known fault and 8 healthy "
        "runs."
    )
    for figure in (0.35, LISTED):
        assert in_words(figure).startswith(f"The test runs had fewer than {FEW} diagnoses")


@pytest.mark.parametrize(("right", "of", "low", "high"), [(0, 64, 0.0, 0.057), (83, 85, 0.918, 0.994)])
def test_the_interval_is_wilsons(right: int, of: int, low: float, high: float) -> None:
    assert bench.interval(right, of) == pytest.approx((low, high), abs=1e-3)


def test_live_runs_are_on_the_whole_models_and_others_as_they_were() -> None:
    live = [bench.healthy_setup(random.Random(seed), live=True) for seed in range(40)]
    assert {each.model for each in live} == {ENCODER, WRITER}
    assert {each.layers for each in live} == {0}
    small = [bench.healthy_setup(random.Random(seed)) for seed in range(40)]
    assert {each.model for each in small} == {ENCODER, TINY}
    assert {each.layers for each in small if each.model == ENCODER} == {2}
