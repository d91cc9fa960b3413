"""Sweeps on disk and how they stand: what was varied, which setting is best, what its seeds say."""

from __future__ import annotations

import math
import os
import statistics
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from peft_lab.core.errors import RunError
from peft_lab.runs import owners
from peft_lab.runs import store as runs
from peft_lab.studies.landscape import LOSS, METRIC
from peft_lab.studies.sweeps import picture, plan, store
from peft_lab.ui.runs import shown
from tests.conftest import link
from tests.studies.sweeps import made
from tests.studies.sweeps.made import EXAMPLE

pytestmark = pytest.mark.weights


@pytest.fixture(autouse=True)
def home(own_home: Path) -> Path:
    link(own_home)
    return own_home


def test_the_same_runs_are_one_sweep_and_come_back_as_they_were_asked_for() -> None:
    specs = plan.sweep_of(EXAMPLE).specs
    assert store.sweeps() == []
    kept = store.keep(specs)
    assert store.keep(specs) == kept == store.get(kept.id) and kept.specs == specs
    other = store.keep(plan.sweep_of({**EXAMPLE, "steps": 31}).specs)
    assert {one.id for one in store.sweeps()} == {kept.id, other.id}


def test_what_is_no_sweep_is_refused_by_its_name() -> None:
    for name in ("..", "nothing", "a/b", "x" * 300):
        with pytest.raises(RunError, match="There is no sweep called"):
            store.get(name)
    kept = store.keep(plan.sweep_of(EXAMPLE).specs)
    (kept.folder / "sweep.json").write_text('{"specs": [{"model": 1}]}')
    store._specs.cache_clear()
    with pytest.raises(RunError, match="cannot be read"):
        _ = kept.specs


def test_what_differs_within_a_method_is_varied_and_its_defaults_are_not() -> None:
    assert store.varied(plan.sweep_of(made.EXAMPLE).specs) == ["learning_rate", "r"]
    two = plan.sweep_of({**made.EXAMPLE, "methods": ["lora", "bitfit"], "grid": {"r": [2, 8]}}).specs
    assert store.varied(two) == ["method", "r"]
    assert store.varied(plan.sweep_of({**made.EXAMPLE, "grid": {}}).specs) == []


def test_runs_are_told_apart_by_what_became_of_them() -> None:
    fates = ["done", "running", "failed", ""]
    kept = made.kept(fate=lambda number, _: fates[number] if number < 4 else "")
    found = store.trials(kept.specs)
    assert [trial.status for trial in found[:5]] == ["done", "running", "failed", "to come", "to come"]
    assert [trial.under_way for trial in found[:4]] == [False, True, False, False]
    assert found[2].message == "as the test wanted" and found[2].figures == {}
    assert found[0].figure(METRIC) == pytest.approx(made.accuracy(kept.specs[0])) and found[1].step == 3
    (runs.get(found[0].run).folder / "events.jsonl").unlink()
    assert store.trials(kept.specs)[0].status != "done", "what was kept of it holds no more"


def test_a_run_that_was_silent_for_a_moment_is_not_lost_for_ever() -> None:
    (spec, *_) = plan.sweep_of(made.EXAMPLE).specs
    run = runs.create(spec, owners.myself())
    owners.touch(run.folder)
    before = time.time() - 2 * owners.SILENT
    os.utime(run.folder / owners.BEAT, (before, before))
    assert [trial.status for trial in store.trials([spec])] == ["lost"]
    assert [line.status for line in shown.summaries()] == ["lost"]
    owners.touch(run.folder)
    assert [trial.status for trial in store.trials([spec])] == ["queued"]
    assert [line.status for line in shown.summaries()] == ["queued"]


def test_the_best_has_the_best_mean_of_those_with_the_most_seeds() -> None:
    kept = made.kept(fate=lambda _, spec: "" if (spec.values["r"], spec.seed) == (8, 1) else "done")
    settings = store.settings_of(store.trials(kept.specs), store.varied(kept.specs))
    assert [len(each.trials) for each in settings] == [2] * 6
    best = store.best_setting(settings, METRIC)
    assert best is not None and best.values == {"learning_rate": 0.003, "r": 2}
    lowest = store.best_setting(settings, LOSS)
    assert lowest is not None and lowest.values == best.values
    assert best.found(METRIC) == [pytest.approx(0.81), pytest.approx(0.83)]
    assert store.best_setting([], METRIC) is None


def test_runs_that_were_not_scored_are_judged_by_their_training_loss_and_only_they() -> None:
    unscored = store.trials(made.kept({"eval_rows": 0}).specs)
    assert store.measured_figure(unscored) == [store.TRAINING]
    assert store.measured_figure(store.trials(made.kept().specs)) == [METRIC, LOSS]


@given(st.lists(st.floats(0, 1), min_size=2, max_size=8))
def test_the_interval_is_students_t(values: list[float]) -> None:
    found = store.interval(values)
    assert found is not None
    mean, error = statistics.fmean(values), statistics.stdev(values) / math.sqrt(len(values))
    expected = stats.t.interval(0.95, len(values) - 1, mean, error) if error > 0 else (mean, mean)
    assert list(found) == pytest.approx(list(expected), abs=1e-9)


def test_lines_hold_what_they_do_not_differ_in() -> None:
    kept = made.kept({"grid": {**made.EXAMPLE["grid"], "lora_alpha": [8, 16]}})
    settings = store.settings_of(store.trials(kept.specs), store.varied(kept.specs))
    found = picture.lines(settings, "learning_rate", "r", METRIC, {"lora_alpha": 16})
    assert [line.label for line in found] == ["r 2", "r 8"]
    for line, rank in zip(found, (2, 8), strict=True):
        assert [(spot.rate, spot.seeds) for spot in line.spots] == [(0.001, 2), (0.003, 2), (0.01, 2)]
        assert line.best is not None and line.best.rate == 0.003
        assert line.best.low == pytest.approx(0.8 + 0.005 * rank)
    (alone,) = picture.lines(settings, "r", "", METRIC, {"learning_rate": 0.01, "lora_alpha": 8})
    assert alone.label == "all" and [spot.rate for spot in alone.spots] == [2, 8]
