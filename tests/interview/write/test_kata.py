"""The command ``kata``: its JSON, its exit statuses, a watched folder; and what is kept of tries and passes."""

from __future__ import annotations

import json
import os
import queue
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from peft_lab.cli import kata
from peft_lab.cli.application import app
from peft_lab.interview.learners.schedule import Learners, export_profile, import_profile
from peft_lab.interview.write import compare, exercises, judge, progress
from peft_lab.interview.write.exercises import exercise
from peft_lab.interview.write.judge import Verdict

pytestmark = pytest.mark.usefixtures("sample")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PEFT_LAB_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def judged(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Programs that were judged, by a judge that passes those with ``len(a)``."""
    programs: list[str] = []

    def check(one: Any, program: str) -> Verdict:
        programs.append(program)
        passed = "len(a)" in program
        test = compare.Test("Rank one", True) if passed else compare.Test("Rank one", False, "+1", "+2")
        return Verdict(one.id, passed, (test,), None if passed else "unscaled", "", None, "", 0.1)

    monkeypatch.setattr(judge, "check", check)
    return programs


def run(*words: str) -> Result:
    return CliRunner().invoke(app, ["kata", *words])


def document(*words: str, status: int = 0) -> Any:
    result = run(*words, "--json")
    assert result.exit_code == status, result.output
    return json.loads(result.stdout)


def test_from_start_to_pass(judged: list[str]) -> None:
    assert document("start", "lora-merge") == {"id": "lora-merge", "file": "lora_merge.py"}
    file = Path("lora_merge.py")
    text = file.read_text("utf-8")
    assert text.startswith("# kata: lora-merge\n") and text.endswith(exercise("lora-merge").stub)
    compile(text, "file", "exec")
    assert run("start", "lora-merge").exit_code == 2 and file.read_text("utf-8") == text
    failed = document("check", "lora_merge.py", status=1)
    assert failed == {
        "id": "lora-merge", "passed": False, "failed": [{"test": "Rank one", "expected": "+1", "got": "+2"}],
        "mistake": "unscaled", "message": "", "seconds": 0.1,
    }  # fmt: skip
    assert judged == [text]
    assert document("show", "lora-merge", "--hint", "1")["hint"] == exercise("lora-merge").hints[0]
    assert "Hint 1 of 3" in run("show", "lora-merge", "--hint", "1").stdout
    assert "tried" in run("list").stdout
    file.write_text(text.replace("...", "return len(a)"), "utf-8")
    assert document("check", "lora_merge.py")["passed"] is True
    assert "passed" in run("list").stdout
    file_of = Learners()
    [result] = file_of.results(file_of.names()[0], "exercise")
    assert (result.content["tries"], result.content["hints"]) == (2, 1)


@pytest.mark.parametrize("text", ["", "import torch\n", "# kata: lora-mrge\n", "# kata: lora-merge\n\xff"])
def test_what_cannot_be_judged(text: str) -> None:
    Path("file.py").write_bytes(text.encode("latin-1"))
    result = run("check", "file.py")
    assert result.exit_code == 2 and "error: " in result.stderr and not result.stdout
    assert run("check", "missing.py").exit_code == 2


def test_show() -> None:
    one = exercise("lora-merge")
    assert document("show", "lora-merge", "--solution")["solution"] == one.solution
    assert document("show", "lora-merge", "--stub") == {"id": "lora-merge", "stub": one.stub}
    assert document("show", "lora-merge")["task"] == one.task
    for wrong in (["--hint", "4"], ["--stub", "--solution"]):
        assert run("show", "lora-merge", *wrong).exit_code == 2


def test_watch(
    judged: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file is checked when it is saved; a line entered shows the next hint; q ends it."""
    run("start", "lora-merge")
    file = Path("lora_merge.py").absolute()
    Path("other.py").write_text("print('no exercise')", "utf-8")
    entered: queue.SimpleQueue[str] = queue.SimpleQueue()
    keys: list[Callable[[], object]] = [partial(entered.put, key) for key in "\n\nq"]
    looks = iter([lambda: os.utime(file, ns=(1, 1)), Path("other.py").touch, *keys])
    monkeypatch.setattr(kata, "_wait", lambda: next(looks)())
    monkeypatch.setattr(kata, "_entered", lambda: entered)
    monkeypatch.setattr(judge, "warm", lambda: None)
    result = run("watch")
    assert result.exit_code == 0 and len(judged) == 1
    assert [line[:6] for line in result.stdout.splitlines() if line.startswith("Hint")] == [
        "Hint 1",
        "Hint 2",
    ]


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
