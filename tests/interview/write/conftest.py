"""The sample exercise in place of the exercises that are shipped."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from peft_lab.interview.write import exercises


@pytest.fixture
def sample(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let the sample be the only exercise."""
    monkeypatch.setattr(exercises, "FOLDER", Path(__file__).with_name("sample"))
    exercises.exercises.cache_clear()
    yield
    exercises.exercises.cache_clear()
