"""This machine, measured."""

from __future__ import annotations

from pathlib import Path

import pytest

from peft_lab.core.errors import BadInput
from peft_lab.engine.devices import THIS
from peft_lab.engine.timing import estimate, here
from peft_lab.models.assets import store as assets


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assets, "home", lambda: tmp_path)
    monkeypatch.setattr(here, "_PATIENCE", 0.02)


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
