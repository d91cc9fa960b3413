"""The published rows, and what is kept of their simulation: the kept figures are what the code says."""

from __future__ import annotations

from importlib import resources

import pytest

from peft_lab.core.errors import SimulationError, UnknownName
from peft_lab.engine import published
from peft_lab.engine.published import NO_SIZE, RERUNS, lines
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
    assert not [name for name, outcome in outcomes.items() if outcome.reason]
    assert (found.rows, found.ran) == (63, 63)
    assert found.median <= 1
    assert found.largest <= 5


def test_the_row_that_todays_peft_runs_in_another_way_is_told_apart() -> None:
    """It was simulated with the layer of then, and says so; what PEFT does now is not set against it."""
    assert published.rows()[OSF].reserved == 38_545_653_760
    assert [name for name, outcome in published.simulated().items() if outcome.note] == [OSF]
    assert "0.20.0" in published.simulated()[OSF].note
    with pytest.raises(SimulationError, match=r"before 0\.21"):
        published.simulate(OSF)


@pytest.mark.parametrize(("benchmark", "count"), [(published.METAMATH, 63), (published.IMAGE, 31)])
def test_training_time_is_that_of_the_steps_alone(benchmark: str, count: int) -> None:
    """The published "train_time" contains the final test, which moved methods that answer slowly behind others."""
    raw = lines(published.BENCHMARKS[benchmark].file)
    assert len(raw) == len(published.rows(benchmark)) == count
    for row, given in zip(published.rows(benchmark).values(), raw, strict=True):
        assert row.seconds == pytest.approx(given["stepping_seconds"], abs=0.1)
        assert row.seconds + row.testing == pytest.approx(given["headline_seconds"], abs=0.1)
        assert row.evaluating == sum(given["eval_seconds_by_interval"])
        assert 0.45 < row.seconds / given["headline_seconds"] < 0.85
        whole = len(row.intervals) * published.BENCHMARKS[benchmark].interval
        assert whole <= row.steps < whole + published.BENCHMARKS[benchmark].interval
    lora, boft = (published.rows()[name] for name in (PLAIN, "boft--llama-3.2-3B-default"))
    assert boft.testing > boft.seconds and lora.testing < lora.seconds


def test_what_was_not_measured_is_absent() -> None:
    """The benchmark writes 99,999,999 bytes where saving failed, "not a number" for the drift without an adapter."""
    raw = lines(published.BENCHMARKS[published.IMAGE].file)
    lost = {row["experiment"].replace("/", "--") for row in raw if row["adapter_file_bytes"] == NO_SIZE}
    pictures = published.rows(published.IMAGE)
    assert {name for name, row in pictures.items() if row.stored is None} == lost == {
        "randlora--flux2-klein-default"
    }  # fmt: skip
    assert [name for name, row in pictures.items() if row.forgetting is None] == [
        "full-finetuning--flux2-klein-default"
    ]
    assert all(row.stored and row.forgetting is not None for row in published.rows().values())
    for benchmark in published.BENCHMARKS.values():
        text = (resources.files(published) / benchmark.file).read_text("utf-8")
        assert "NaN" not in text


def test_rows_say_how_they_were_made() -> None:
    for name in published.BENCHMARKS:
        for row in published.rows(name).values():
            assert row.learning_rate > 0 and row.created.startswith("2026-") and all(row.versions.values())
            assert (row.tokens_per_second is None) == (name == published.IMAGE)
            assert (row.config is None) == (row.kind == "full-finetuning")


def test_what_re_runs_moved() -> None:
    moved = published.moved()
    assert moved is not None
    differences = [
        abs(published.rows()[each["experiment"].replace("/", "--")].accuracy - each["test"])
        for each in lines(RERUNS)
        if each["benchmark"] == published.METAMATH
    ]
    assert moved.runs == len(differences) and moved.largest == max(differences)
    assert 0.02 < moved.median < moved.largest < 0.05  # two to five points
    assert published.moved(published.IMAGE) is None  # one row run twice shows no usual size
    again = [row for row in published.rows().values() if row.forgetting_again]
    assert [row.kind for row in again] == ["lora", "prefixtuning"]
    known = {row.experiment for name in published.BENCHMARKS for row in published.rows(name).values()}
    assert {each["experiment"].replace("/", "--") for each in lines(RERUNS)} <= known
    assert all(len(each["commit"]) == 40 for each in lines(RERUNS))


def test_an_unknown_benchmark_is_refused() -> None:
    with pytest.raises(UnknownName, match="no benchmark called"):
        published.rows("glue")


def test_an_outcome_without_figures_has_no_error() -> None:
    row = next(iter(published.rows().values()))
    assert published.error(row, published.PublishedOutcome(None, None, "why")) is None
    assert published.error(row, published.PublishedOutcome(row.reserved * 2, 0)) == pytest.approx(100)
    found = published.agreement([None, -3.0, 1.0])
    assert (found.rows, found.ran, found.median, found.largest) == (3, 2, 2.0, 3.0)


def recomputed(name: str) -> None:
    """Within a thousandth: other versions of the libraries may keep a scalar more, and a segment is 2 MB or more."""
    kept, now = published.simulated()[name], simulate_published.outcome(name)
    if name in published.SUPERSEDED:
        assert now == published.PublishedOutcome(None, None, published.SUPERSEDED[name])
        return
    assert now.tensors == pytest.approx(kept.tensors, rel=1e-3)
    assert now.reserved == pytest.approx(kept.reserved, rel=1e-3)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", QUICK)
def test_kept_figures_are_what_the_code_says(name: str) -> None:
    recomputed(name)


@pytest.mark.slow
@pytest.mark.sampled(7)
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", [name for name in published.rows() if name not in QUICK])
def test_all_kept_figures_are_what_the_code_says(name: str) -> None:
    recomputed(name)


def test_an_unknown_row_is_refused() -> None:
    with pytest.raises(UnknownName, match="published row"):
        published.simulate("lora--llama-3.2-3B-rank33000")
