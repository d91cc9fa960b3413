"""Every exercise: its solution passes, its stub fails, each mistake is recognised as itself, its questions exist."""

from __future__ import annotations

import pytest

from peft_lab.interview.write.exercises import PATHS, exercises
from tools.check_exercises import LONGEST, faults


def test_there_are_forty_with_three_mistakes_each() -> None:
    if not exercises():
        pytest.skip("no exercise has been written yet")
    assert len(exercises()) >= 40 and {one.path for one in exercises().values()} == set(PATHS)
    assert sum(len(one.mistakes) for one in exercises().values()) >= 120


@pytest.mark.slow
@pytest.mark.sampled(3)
@pytest.mark.parametrize("name", list(exercises()))
def test_an_exercise_judges_rightly(name: str) -> None:
    found = [each for each in faults(exercises()[name]) if not each.startswith("note: ")]
    assert not [each for each in found if f"more than {LONGEST} s" not in each], (
        found
    )  # seconds are the machine's
