"""What is said at the end of a comparison or a sweep of what its trackers were told."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest

from peft_lab.runs import owners, store
from peft_lab.runs.store import Run
from peft_lab.runs.tracking import start
from peft_lab.runs.tracking.start import TrackerState
from tests.prose import says
from tests.runs.tracking.test_told import SPEC

THERE = TrackerState("mlflow", "a notebook", "page-7", complete=True)


@pytest.fixture
def runs(own_home: Path) -> list[Run]:
    made = [store.create(SPEC, owners.myself()) for _ in range(3)]
    for run in made:
        start.write_tracking(run.folder, THERE)
    return made


def _said(runs: list[Run]) -> list[str]:
    return [one.sentence() for one in start.trackers_summed(runs)]


def test_where_all_went_well_it_says_where_they_are(runs: list[Run]) -> None:
    assert len(_said(runs)) == 1 and says(_said(runs)[0], "MLflow", "all", 3, "notebook")
    assert _said(runs[:1]) == [THERE.sentence()] and _said([]) == []


def test_what_failed_is_counted_with_the_reason_that_most_have(runs: list[Run]) -> None:
    start.failed_trackers(runs[1].folder, "mlflow", "The network is gone.")
    start.failed_trackers(runs[2].folder, "trackio", "The disk is full.")
    mlflow, trackio = _said(runs)
    assert says(mlflow, "MLflow", "1 of these 3", "network is gone")
    assert says(trackio, "trackio", "this run", "disk is full")
    start.failed_trackers(runs[2].folder, "mlflow", "The network is gone.")
    start.failed_trackers(runs[0].folder, "mlflow", "Another reason.")
    assert says(_said(runs)[0], "MLflow", "3 of these 3", "network is gone")


def test_it_waits_for_what_is_still_told_and_not_for_ever(runs: list[Run]) -> None:
    start.write_tracking(runs[0].folder, replace(THERE, complete=False))
    began = time.monotonic()
    (said,) = (one.sentence() for one in start.trackers_waited_for(runs, 0.3))
    assert says(said, "MLflow", "2 of these 3", "so far")
    assert time.monotonic() - began >= 0.3
    start.write_tracking(runs[0].folder, THERE)
    assert start.trackers_waited_for(runs, 60.0) == start.trackers_summed(runs)
