"""Progress in the exercises: what is kept of tries and passes, and when an exercise is due again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from peft_lab.interview.learners.schedule import Learners, export_profile, import_profile
from peft_lab.interview.write import exercises, progress
from peft_lab.interview.write.judge import Verdict

NOON = datetime(2026, 11, 30, 12, tzinfo=UTC)


@pytest.fixture
def learners(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sample: None) -> Learners:
    now = [NOON]
    monkeypatch.setattr(Learners, "clock_of_test", now, raising=False)
    made = Learners(tmp_path / "learners.db", lambda: now[0])
    made.create("Ann")
    return made


def verdict(passed: bool) -> Verdict:
    return Verdict("lora-merge", passed, (), None, "", None, "", 0.2)


def at(learners: Learners, moment: datetime) -> None:
    learners.clock_of_test[0] = moment  # type: ignore[attr-defined]


def test_a_pass_is_due_again(learners: Learners) -> None:
    assert progress.standing(learners, "Ann") == {"lora-merge": progress.Standing()}
    progress.record(learners, "Ann", verdict(False), 1, 0, 60)
    assert progress.standing(learners, "Ann")["lora-merge"].tries == 1
    progress.record(learners, "Ann", verdict(True), 2, 1, 300)
    one = progress.standing(learners, "Ann")["lora-merge"]
    assert (one.passed, one.tries, one.hints, one.seconds, one.due) == (True, 2, 1, 300, False)
    assert one.due_at is not None and one.due_at > NOON
    at(learners, one.due_at)
    assert progress.standing(learners, "Ann")["lora-merge"].due
    at(learners, NOON + timedelta(days=3))
    progress.record(learners, "Ann", verdict(True), 1, 0, 100)
    again = progress.standing(learners, "Ann")["lora-merge"]
    assert again.due_at is not None and again.due_at - learners.now() > one.due_at - NOON and not again.due


def test_another_pass_at_once_is_no_repetition(learners: Learners) -> None:
    progress.record(learners, "Ann", verdict(True), 1, 0, 100)
    first = progress.standing(learners, "Ann")
    progress.record(learners, "Ann", verdict(True), 2, 3, 900)
    assert progress.standing(learners, "Ann") == first
    assert len(learners.results("Ann", progress.KIND)) == 1


def test_progress_is_exported_with_the_learner(learners: Learners) -> None:
    progress.record(learners, "Ann", verdict(True), 1, 0, 100)
    import_profile(learners, export_profile(learners, "Ann"), "Eve")
    assert progress.standing(learners, "Eve") == progress.standing(learners, "Ann")


@pytest.mark.parametrize(
    ("tries", "hints", "seconds", "rating"),
    [
        (1, 0, 200, "easy"), (1, 0, 400, "good"), (2, 0, 100, "good"), (4, 0, 100, "hard"), (1, 1, 100, "hard"),
        (1, 3, 9, "again"),
    ],
)  # fmt: skip
def test_the_rating_of_a_pass(tries: int, hints: int, seconds: float, rating: str, sample: None) -> None:
    assert progress.rating(exercises.exercise("lora-merge"), tries, hints, seconds) == rating
