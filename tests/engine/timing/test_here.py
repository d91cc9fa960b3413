"""Kernels measured here, and what spoils a measurement."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from peft_lab.core.errors import BadInput, RunError
from peft_lab.engine.devices import THIS
from peft_lab.engine.timing import estimate, here
from peft_lab.runs import waiting
from tests.waits import SECONDS

# -- This machine, measured.


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PEFT_LAB_HOME", str(tmp_path))
    monkeypatch.setattr(here, "_PATIENCE", 0.02)
    monkeypatch.setattr(waiting, "_asked", [])


def test_it_has_to_be_measured_first() -> None:
    assert here.known() is None
    with pytest.raises(BadInput, match="doctor --calibrate"):
        estimate.speed_named(THIS)


def test_what_is_measured_is_kept() -> None:
    found = here.measure()
    assert here.known() is None
    here.keep(found)
    speed, (low, high) = estimate.speed_named(THIS)
    assert speed.matmul32 == found["constants"]["matmul32"] > 0
    assert min(speed.cache, speed.memory, speed.start, speed.column) > 0 and low < 1 < high


@pytest.mark.parametrize("text", ["", "{", "[]", '{"constants": {}}', '{"constants": {"matmul16": "fast"}}'])
def test_a_damaged_measurement_is_none(text: str) -> None:
    here.place().write_text(text, "utf-8")
    assert here.known() is None


# -- The machine is measured in a process of its own, and never beside a training.


@pytest.mark.further
def test_what_another_process_measures_is_kept() -> None:
    asked = waiting.begin_calibrating()
    assert waiting.calibrating_under_way() is asked
    found = asked.result(timeout=SECONDS)
    assert here.known() == found and here.speed().matmul32 > 0


def test_not_beside_a_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "unfinished", lambda: [(0.0, object())])
    with pytest.raises(RunError, match="under way"):
        waiting.begin_calibrating().result(timeout=10)
    assert here.known() is None


@pytest.mark.slow
def test_a_training_that_starts_meanwhile_spoils_it(monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[list[Any]] = [[], [(0.0, object())]]
    monkeypatch.setattr(waiting, "unfinished", lambda: looks.pop(0))
    with pytest.raises(RunError, match="started during"):
        waiting.begin_calibrating().result(timeout=SECONDS)
    assert here.known() is None
