"""A base that was scored before is not scored again, and its kept score is the fresh one to the digit."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from peft_lab.runs import child, course, kept, store, training
from peft_lab.runs.spec import RunRequest
from peft_lab.runs.store import Run
from peft_lab.training.evaluation import Examiner

pytestmark = pytest.mark.weights
SMALL = RunRequest(
    "minilm-l6", "bitfit", "sentiment", steps=2, batch=4, eval_rows=12, probes=("A dull film.",)
)


def carry_out(spec: RunRequest) -> Run:
    run = store.create(spec.complete())
    run.log.emit("queued")
    child.end_run(run, *training.train(run))
    return run


@pytest.fixture
def home(assets_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A lab folder without any score."""
    for part in ("models", "data"):
        (tmp_path / part).symlink_to(assets_home / part, target_is_directory=True)
    monkeypatch.setenv("PEFT_LAB_HOME", str(tmp_path))
    return tmp_path


def bases(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Counts the models that are scored."""
    scored: list[int] = []
    plain = Examiner.evaluate

    def counted(self: Examiner, *args: Any, **options: Any) -> Any:
        scored.append(1)
        return plain(self, *args, **options)

    monkeypatch.setattr(Examiner, "evaluate", counted)
    return scored


def told(run: Run) -> dict[str, Any]:
    seen = run.view()
    assert seen.before is not None and seen.status == "done"
    return asdict(seen.before)


@pytest.mark.slow
def test_the_second_run_knows_the_base_before_its_first_step(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scored = bases(monkeypatch)
    first = carry_out(SMALL)
    assert len(scored) == 2
    second = carry_out(replace(SMALL, method="lora"))
    assert len(scored) == 3  # its tuned model alone
    assert told(first) == told(second)
    assert first.view().probes_before == second.view().probes_before != ()
    kinds = [event["type"] for event in second.events() if event.get("which") != "tuned"]
    assert max(kinds.index("evaluated"), kinds.index("probe")) < kinds.index("ready") < kinds.index("step")
    assert next(e for e in second.events() if e["type"] == "evaluated")["scored_by"] == first.id


@pytest.mark.slow
def test_a_kept_score_is_the_fresh_one_to_the_digit(home: Path) -> None:
    kept = told(carry_out(SMALL))
    for file in (home / "scores").iterdir():
        file.unlink()
    fresh = told(carry_out(SMALL))
    for name in ("metrics", "loss", "rows"):
        assert kept[name] == fresh[name]


@pytest.mark.further
def test_what_cannot_be_read_is_scored_again(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = carry_out(SMALL)
    (file,) = (home / "scores").iterdir()
    whole = json.loads(file.read_text("utf-8"))
    for content in (
        "",
        "[]",
        '{"key": {}}',
        json.dumps({**whole, "key": {**whole["key"], "task": "tweets"}}),
    ):
        file.write_text(content, "utf-8")
        assert course.find_base_score(whole["key"]).evaluation is None
    scored = bases(monkeypatch)
    assert told(carry_out(SMALL))["metrics"] == told(first)["metrics"] and len(scored) == 2
    assert json.loads(file.read_text("utf-8"))["evaluation"]["loss"] == whole["evaluation"]["loss"]


@pytest.mark.further
def test_a_wrong_number_in_the_file_is_no_score(home: Path) -> None:
    carry_out(SMALL)
    (file,) = (home / "scores").iterdir()
    whole = json.loads(file.read_text("utf-8"))
    key = whole["key"]
    assert course.find_base_score(key).evaluation is not None
    for wrong in ({"loss": "low"}, {"metrics": {"accuracy": None}}, {"rows": True}):
        file.write_text(json.dumps({**whole, "evaluation": {**whole["evaluation"], **wrong}}), "utf-8")
        assert course.find_base_score(key).evaluation is None


def test_whatever_decides_a_score_is_in_its_key(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def key(spec: RunRequest) -> dict[str, Any]:
        ready = course.prepare(spec.complete())
        return course.base_key_of(ready, kept.input_hashes(ready.spec, ready.task, ready.base.entry))

    plain = key(SMALL)
    assert plain == key(replace(SMALL, steps=3, batch=2, learning_rate=1e-3, method="ia3", probes=()))
    for other in ({"seed": 1}, {"eval_rows": 11}, {"max_length": 40}, {"task": "tweets"}):
        assert key(replace(SMALL, **other)) != plain, other
    assert key(replace(SMALL, method="qlora")) != plain
    monkeypatch.setattr(course, "versions", lambda: {"torch": "0"})
    assert key(SMALL) != plain


@pytest.mark.further
def test_the_seed_of_a_run_without_a_random_head_does_not_matter(home: Path) -> None:
    spec = RunRequest("smollm2-135m", "lora", "json", steps=1, batch=1, eval_rows=1)
    ready = course.prepare(spec.complete())
    other = replace(ready, spec=replace(ready.spec, seed=1))
    assert course.base_key_of(ready, {}) == course.base_key_of(other, {})
