"""The published rows, and what is kept of their simulation: the kept figures are what the code says."""

from __future__ import annotations

import json
from importlib import resources

import pytest

from peft_lab import published
from peft_lab.errors import SimulationError, UnknownName
from peft_lab.models.catalogue import get_model
from tools import simulate_published

PLAIN = "lora--llama-3.2-3B-rank32"
OSF = "osf--llama-3.2-3B-rank128"
QUICK = (OSF, "prompt_tuning--llama-3.2-3B-default", "ln_tuning--llama-3.2-3B-default")


def test_every_row_has_an_outcome() -> None:
    assert list(published.simulated()) == list(published.rows())
    for row in published.rows().values():
        assert row.reserved > get_model(published.MODEL).parameters * 2
        assert "llama" not in row.title and row.title


def test_the_simulation_agrees_with_what_was_published() -> None:
    rows, outcomes = published.rows(), published.simulated()
    found = published.agreement(published.error(row, outcomes[name]) for name, row in rows.items())
    assert [name for name, outcome in outcomes.items() if outcome.reason] == [OSF]
    assert (found.rows, found.ran) == (63, 62)
    assert found.median <= 2
    assert found.largest <= 5


def test_the_row_that_todays_peft_runs_in_another_way_is_told_apart() -> None:
    """Its figures are shown; a simulation of what PEFT does now would be set against what it did then."""
    assert published.rows()[OSF].reserved == 38_545_653_760
    assert published.simulated()[OSF].reason == published.SUPERSEDED[OSF]
    with pytest.raises(SimulationError, match=r"before 0\.21"):
        published.simulate(OSF)


def test_training_time_is_that_of_the_steps_alone() -> None:
    """The published "train_time" contains the final test, which moved methods that answer slowly behind others."""
    text = (resources.files(published) / published.DATA).read_text("utf-8")
    raw = [json.loads(line) for line in text.splitlines()]
    assert len(raw) == len(published.rows()) == 63
    for row, given in zip(published.rows().values(), raw, strict=True):
        assert row.seconds == pytest.approx(sum(given["stepping_seconds_by_interval"]), abs=0.1)
        assert row.seconds + row.testing == pytest.approx(given["headline_seconds"])
        assert row.evaluating == sum(given["eval_seconds_by_interval"])
        assert 0.45 < row.seconds / given["headline_seconds"] < 0.85
    lora, boft = (published.rows()[name] for name in (PLAIN, "boft--llama-3.2-3B-default"))
    assert boft.testing > boft.seconds and lora.testing < lora.seconds


def test_an_outcome_without_figures_has_no_error() -> None:
    row = next(iter(published.rows().values()))
    assert published.error(row, published.PublishedOutcome(None, None, "why")) is None
    assert published.error(row, published.PublishedOutcome(row.reserved * 2, 0)) == pytest.approx(100)
    found = published.agreement([None, -3.0, 1.0])
    assert (found.rows, found.ran, found.median, found.largest) == (3, 2, 2.0, 3.0)


def recomputed(name: str) -> None:
    """Within a thousandth: other versions of the libraries may keep a scalar more, and a segment is 2 MB or more."""
    kept, now = published.simulated()[name], simulate_published.outcome(name)
    if kept.reason:
        assert now == kept
        return
    assert now.tensors == pytest.approx(kept.tensors, rel=1e-3)
    assert now.reserved == pytest.approx(kept.reserved, rel=1e-3)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", QUICK)
def test_kept_figures_are_what_the_code_says(name: str) -> None:
    recomputed(name)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", [name for name in published.rows() if name not in QUICK])
def test_all_kept_figures_are_what_the_code_says(name: str) -> None:
    recomputed(name)


def test_an_unknown_row_is_refused() -> None:
    with pytest.raises(UnknownName, match="no published row called"):
        published.simulate("lora--llama-3.2-3B-rank33000")
