"""In a class what is simulated and trained has the processor after the pages; elsewhere nothing gives way."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from peft_lab.core import asking, inspector, processes
from peft_lab.core.inspector import Inspector
from peft_lab.runs import child
from peft_lab.runs.record import niceness_of
from tests.classroom.conftest import CODE
from tests.waits import SECONDS


def _trains(told: str, of_class: bool) -> None:
    """In a process as trainings have: what its niceness is where a training would begin."""
    with pytest.MonkeyPatch.context() as patch:
        given = ("a folder", "a home", 1.0)
        patch.setattr(
            child,
            "main",
            lambda *args: Path(told).write_text(json.dumps([args == given, processes.niceness()])),
        )
        child._main(*given, processes.TRAINS_AFTER if of_class else 0, CODE if of_class else "")


@pytest.mark.parametrize("of_class", [True, False])
def test_a_training_gives_way_in_a_class_only(tmp_path: Path, of_class: bool) -> None:
    told = tmp_path / "told"
    making = processes.context()
    process = making.Process(target=_trains, args=(str(told), of_class))  # type: ignore[attr-defined]
    process.start()
    process.join(SECONDS)
    asked_for_the_same, found = json.loads(told.read_text())
    own = processes.niceness()
    assert asked_for_the_same
    assert found == (min(19, own + processes.TRAINS_AFTER) if of_class else own)


@pytest.mark.parametrize("of_class", [True, False])
def test_who_simulates_gives_way_less_and_who_counts_not_at_all(
    own_home: Path, monkeypatch: pytest.MonkeyPatch, of_class: bool
) -> None:
    if of_class:
        monkeypatch.setenv(asking.CLASS_VARIABLE, CODE)
    else:
        monkeypatch.delenv(asking.CLASS_VARIABLE, raising=False)
    counting, simulating = Inspector(), inspector.get_pool.__wrapped__()
    own = processes.niceness()
    try:
        found = [
            simulating.submit(0, processes.niceness).result(SECONDS),
            counting.submit(processes.niceness).result(SECONDS),
        ]
    finally:
        counting.close()
        simulating.close()
    assert found == [own + processes.SIMULATES_AFTER if of_class else own, own]


def test_a_record_tells_of_the_process_that_trained_last() -> None:
    assert niceness_of([{"type": "worker"}]) is None
    assert (
        niceness_of([{"type": "worker", "niceness": 0}, {"type": "worker", "niceness": 10}, {"type": "done"}])
        == 10
    )
