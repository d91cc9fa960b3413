"""The machine is measured in a process of its own, and never beside a training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from peft_lab.core.errors import RunError
from peft_lab.engine.timing import here
from peft_lab.runs import waiting
from tests.waits import SECONDS


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PEFT_LAB_HOME", str(tmp_path))
    monkeypatch.setattr(waiting, "_asked", [])


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


def test_a_training_that_starts_meanwhile_spoils_it(monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[list[Any]] = [[], [(0.0, object())]]
    monkeypatch.setattr(waiting, "unfinished", lambda: looks.pop(0))
    with pytest.raises(RunError, match="started during"):
        waiting.begin_calibrating().result(timeout=SECONDS)
    assert here.known() is None
