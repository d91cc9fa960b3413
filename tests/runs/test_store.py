from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from peft_lab.core import disk
from peft_lab.core.errors import RunError
from peft_lab.runs import admission, checkpoints, kept, owners, store, waiting
from peft_lab.runs.events import EventLog
from peft_lab.runs.queue import RunQueue
from peft_lab.runs.spec import RunSpec
from peft_lab.runs.view import DAMAGED, Status
from tests.prose import facts

SPEC = RunSpec(
    "minilm-l6",
    "lora",
    "sentiment",
    {"r": 4},
    steps=3,
    batch=8,
    learning_rate=1e-3,
    max_length=64,
    eval_rows=9,
)


@pytest.fixture(autouse=True)
def home(own_home: Path) -> Path:
    return own_home


def ended(spec: RunSpec = SPEC, kind: str = "done") -> store.Run:
    run = store.create(spec)
    run.log.emit("queued", owner={"pid": 1, "started": 0.0})
    run.log.emit(kind, message="why")
    return run


def test_who_holds_a_run_is_known_after_the_clock_was_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """Linux reckons from it when processes started."""
    me, booted = owners.myself(), psutil.boot_time()
    run = store.create(SPEC, me)
    monkeypatch.setattr(psutil._psplatform, "boot_time", lambda: booted - 3600)
    assert owners.lives(me) and not owners.lives(replace(me, started=me.started - 60))
    assert run.status() is Status.QUEUED
    run.log.emit("stopped", message="")


def test_two_who_delete_a_run_leave_nothing_and_the_second_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    run, summary = ended(), store.summary

    def meanwhile(which: store.Run) -> object:
        found = summary(which)
        shutil.rmtree(which.folder)
        return found

    monkeypatch.setattr(store, "summary", meanwhile)
    with pytest.raises(RunError, match=run.id):
        store.remove(run)
    assert list(run.folder.parent.iterdir()) == []


def test_going_on_with_a_run_that_is_deleted_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    run = ended(kind="stopped")
    monkeypatch.setattr(checkpoints, "require_to_go_on", lambda which, anew: shutil.rmtree(which.folder))
    monkeypatch.setattr(
        admission, "require", lambda spec, waits: (_ for _ in ()).throw(FileNotFoundError(2, "gone"))
    )
    monkeypatch.setattr(type(run), "spec", SPEC)
    with pytest.raises(RunError, match=facts(run.id)):
        RunQueue().go_on(run.id, anew=True)


def test_what_is_half_written_is_cleared_and_locks_stay() -> None:
    run = store.create(SPEC)
    whole = {path.name for path in run.folder.iterdir()}
    (run.folder / ".adapter").mkdir()
    for name in (".adapter/half", ".trajectory.json", ".insight.npz", ".checkpoint.pt", waiting.HOLD_LOCK):
        (run.folder / name).touch()
    kept.clear_kept(run.folder)
    assert {path.name for path in run.folder.iterdir()} == whole | {waiting.HOLD_LOCK}


def test_no_runs_is_an_empty_list() -> None:
    assert store.runs() == [] and store.summaries() == []


def test_id_reads_when_what_and_on_what() -> None:
    run = store.create(SPEC)
    assert re.fullmatch(r"\d{8}-\d{6}-lora-minilm-sentiment-[0-9a-f]{4}", run.id)
    assert re.fullmatch(
        r"[\w.-]+", store.create(replace(SPEC, model="/models/My Model (v2)", task="json")).id
    )
    assert store.get(run.id).spec == SPEC


def test_an_own_file_is_kept_with_the_run(tmp_path: Path) -> None:
    data = tmp_path / "mine.csv"
    data.write_text("text,label\n")
    run = store.create(replace(SPEC, task="own", own_data=str(data)))
    data.unlink()
    assert Path(str(run.spec.own_data)).read_text() == "text,label\n"
    assert Path(str(run.spec.own_data)).parent == run.folder


def test_a_run_is_listed_with_its_spec_and_first_event_or_not_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process may list the runs between any two writes."""
    seen: list[int] = []
    write, emit = disk.write_json, EventLog.emit

    def written(path: Path, content: Any) -> None:
        write(path, content)
        seen.append(len(store.runs()))

    def emitted(log: EventLog, kind: str, **fields: Any) -> None:
        seen.append(len(store.runs()))
        emit(log, kind, **fields)

    monkeypatch.setattr(disk, "write_json", written)
    monkeypatch.setattr(EventLog, "emit", emitted)
    run = store.create(SPEC, owners.myself())
    assert seen == [0, 0]
    assert [(one.spec, one.status()) for one in store.runs()] == [(SPEC, Status.QUEUED)]
    assert [path.name for path in store.root().iterdir()] == [run.id]


def test_summary_of_a_finished_run() -> None:
    run = store.create(SPEC)
    run.log.emit("queued")
    run.log.emit("ready", trainable=12)
    for which, share in (("tuned", 0.8), ("base", 0.5)):
        run.log.emit(
            "evaluated",
            which=which,
            metrics={"accuracy": share, "macro_f1": 0.1},
            loss=1.0,
            rows=9,
            seconds=1.0,
        )
    run.log.emit("memory", peak_bytes=100, parts={})
    run.log.emit("done", message="")
    line = store.summary(run)
    assert (line.status, line.before, line.after, line.metric, line.metric_title) == (
        "done",
        0.5,
        0.8,
        "accuracy",
        "Accuracy",
    )
    assert (line.peak_bytes, line.trainable, line.steps, line.problem) == (100, 12, 3, "")


def test_newest_first() -> None:
    old, new = store.create(SPEC), store.create(SPEC)
    old.folder.rename(old.folder.with_name("20200101-000000-lora-minilm-sentiment-0000"))
    assert [run.id for run in store.runs()] == [new.id, "20200101-000000-lora-minilm-sentiment-0000"]


@pytest.mark.parametrize(
    ("file", "content", "reason"),
    [
        ("spec.json", None, "no spec.json"),
        ("spec.json", "{", "cannot be read"),
        ("spec.json", "[]", "no settings"),
        ("spec.json", '{"model": "a"}', "for 'method'"),
        ("spec.json", json.dumps({**SPEC.to_dict(), "task": "gone"}), "gone"),
        ("events.jsonl", '{"type": "step", "time": 1.0}\n', "events"),
    ],
)
def test_a_broken_folder_is_listed_with_the_reason_and_can_be_deleted(
    file: str, content: str | None, reason: str
) -> None:
    whole, broken = ended(), ended()
    if content is None:
        (broken.folder / file).unlink()
    else:
        (broken.folder / file).write_text(content)
    lines = {line.id: line for line in store.summaries()}
    assert lines[whole.id].status == "done"
    assert lines[broken.id].status == DAMAGED and reason in lines[broken.id].problem
    store.delete(broken.id)
    assert [run.id for run in store.runs()] == [whole.id]


def test_files_and_foreign_folders_are_no_runs() -> None:
    ended()
    (store.root() / "notes.txt").write_text("hello")
    (store.root() / ".deleted-abc").mkdir()
    assert len(store.summaries()) == 1


def test_a_run_that_has_not_ended_is_not_deleted() -> None:
    run = store.create(SPEC)
    run.log.emit("queued")
    with pytest.raises(RunError, match="has not ended"):
        store.delete(run.id)
    run.log.emit("stopped", message="")
    store.delete(run.id)
    assert store.runs() == [] and list(store.root().iterdir()) == []


@pytest.mark.parametrize("name", ["nope", "../runs", "", ".", "..", "a/b", "/etc", "x" * 300])
def test_a_name_that_is_no_run(name: str) -> None:
    ended()
    with pytest.raises(RunError, match="no run called"):
        store.get(name)


def test_a_final_status_is_read_once_and_again_after_the_run_goes_on() -> None:
    run = ended()
    assert run.ended() is Status.DONE
    first = run.log.path.read_bytes().splitlines(keepends=True)[0]
    run.log.path.write_bytes(b"")  # as long as the file is the same one, it is not read again
    assert run.ended() is Status.DONE
    with disk.replacing(run.log.path) as scratch:
        scratch.write_bytes(first)
    assert run.ended() is None
