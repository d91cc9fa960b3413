"""Folders with anything in them: told as damaged in one sentence, deletable, and in nobody's way."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from peft_lab.core.errors import RunError
from peft_lab.runs import child, kept, owners, record, store, waiting
from peft_lab.runs.events import read_events
from peft_lab.runs.spec import RunSpec
from peft_lab.runs.view import DAMAGED, Status

SPEC = RunSpec(
    "minilm-l6",
    "lora",
    "sentiment",
    values={"r": 4},
    steps=3,
    batch=8,
    learning_rate=1e-3,
    eval_rows=8,
    max_length=32,
)
GONE = replace(owners.myself(), pid=2**22 + 1)


@pytest.fixture(autouse=True)
def home(own_home: Path) -> Path:
    return own_home


def whole(ended: bool = True) -> store.Run:
    """A run's folder with all its files, made up."""
    run = store.create(SPEC, GONE)
    log = run.log
    log.emit("starting")
    log.emit("ready", trainable=10, head=0, total=100, dtype="float32", device="cpu", learning_rate=1e-3)
    for step in (1, 2, 3):
        log.emit("step", step=step, loss=1 / step, lr=1e-3, grad_norm=1.0, tokens=10, seconds=0.1)
    log.emit("memory", peak_bytes=1000, parts={"weights": 1000})
    for which in ("tuned", "base"):
        log.emit("evaluating", which=which, done=4, total=8)
        log.emit("evaluated", which=which, metrics={"accuracy": 0.5}, loss=0.5, rows=8, seconds=1.0)
        log.emit("probe", which=which, answers=[{"text": "a", "answer": "b", "scores": {"b": 1.0}}])
    kept.save_adapter(run.folder, lambda folder: _adapter(folder))
    record.write_insight(run, {"note": [1, 2]})
    if ended:
        child.end_run(run, "done", "")
    return run


def _adapter(folder: Path) -> None:
    folder.mkdir()
    (folder / "adapter_config.json").write_text("{}")
    (folder / "adapter_model.safetensors").write_bytes(b"0123456789")


def test_an_event_file_cut_at_any_byte_is_read() -> None:
    run = whole()
    path = run.folder / "events.jsonl"
    data = path.read_bytes()
    steps = data.index(b'"step"')
    for cut in {*range(0, len(data), 7), *range(steps, steps + 200), len(data) - 1, len(data)}:
        path.write_bytes(data[:cut])
        owners.touch(run.folder)
        seen = run.view()
        # complete lines are kept, whatever follows them; nobody holds the run, so it has ended in one way or the other
        assert len(read_events(path)) == data[:cut].count(b"\n")
        assert seen.status is (
            Status.DONE if cut == len(data) else Status.LOST if data[:cut].count(b"\n") else Status.QUEUED
        )
        assert store.summary(run).status == seen.status
        if cut > len(data) - 3:
            store.summaries()
            waiting.mark_lost()


OWNERS: tuple[Any, ...] = (
    None, [], {}, "pid", 7, True, {"pid": 1}, {"pid": "1", "started": 0.0}, {"pid": None, "started": None},
    {"pid": 1e400, "started": 1.0}, {"pid": 1, "started": True}, {"pid": 2, "started": 1.0, "host": 3},
)  # fmt: skip


@pytest.mark.parametrize("owner", OWNERS, ids=str)
def test_an_owner_that_is_none_harms_nobody(owner: Any) -> None:
    run, other = whole(), store.create(SPEC, owners.myself())
    line = json.dumps({"time": 1.0, "type": "queued", "owner": owner}).replace("Infinity", "1e999")
    (run.folder / "events.jsonl").write_text(line + "\n")
    found = {each.id: each for each in store.summaries()}
    assert found[run.id].status == DAMAGED and "'owner'" in found[run.id].problem
    assert found[other.id].status == Status.QUEUED
    assert waiting.mark_lost() == [] and waiting.runs_before(other) == []
    store.delete(run.id)


GARBAGE = (
    b"",
    b"{",
    b"null",
    b"[]",
    b"7",
    b'"text"',
    b"\x00" * 64,
    b"\xff\xfe\xfd",
    b"[" * 5000,
    b'{"a": 1}',
)


@pytest.mark.parametrize("name", ["spec.json", "events.jsonl", "record.json"])
@pytest.mark.parametrize("content", GARBAGE, ids=lambda value: repr(value[:8]))
def test_any_content_of_any_file_is_said_in_a_sentence(name: str, content: bytes) -> None:
    sound, run = whole(), whole()
    (run.folder / name).write_bytes(content)
    lines = {line.id: line for line in store.summaries()}
    assert lines[sound.id].status == Status.DONE
    assert lines[run.id].status in (DAMAGED, Status.LOST, Status.QUEUED)
    if lines[run.id].status == DAMAGED:
        assert name in lines[run.id].problem or "A run" in lines[run.id].problem
    waiting.mark_lost()
    if lines[run.id].status != Status.QUEUED:  # one without any event may be about to get its first
        store.delete(run.id)
        assert [each.id for each in store.runs()] == [sound.id]


SPEC_FIELDS: dict[str, Any] = {
    "values": [], "steps": "3", "seed": None, "probes": 7, "model": 5, "method": None, "task": {}, "batch": "x",
    "learning_rate": "fast", "own_data": 3, "compared": "yes", "schedule": 1, "warmup": None,
}  # fmt: skip


@pytest.mark.parametrize("name", SPEC_FIELDS)
def test_a_setting_of_a_wrong_kind(name: str) -> None:
    run = whole()
    data = json.loads((run.folder / "spec.json").read_text())
    (run.folder / "spec.json").write_text(json.dumps({**data, name: SPEC_FIELDS[name]}))
    line = store.summary(run)
    assert line.status == DAMAGED and name in line.problem


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("step", {"loss": None}),
        ("evaluated", {"metrics": {"accuracy": "high"}}),
        ("evaluating", {"done": None}),
        ("probe", {"answers": [{}]}),
        ("memory", {"peak_bytes": "much"}),
        ("done", {"message": {}}),
    ],
)
def test_an_event_with_a_field_of_a_wrong_kind(kind: str, fields: dict[str, Any]) -> None:
    run = whole(ended=False)
    lines = [json.loads(line) for line in (run.folder / "events.jsonl").read_text().splitlines()]
    event = next((line for line in lines if line["type"] == kind), {"type": kind, "time": 1.0})
    lines.append({**event, **fields})
    (run.folder / "events.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    line = store.summary(run)
    assert line.status == DAMAGED and kind in line.problem
    with pytest.raises(RunError):
        record.result(run)
    store.delete(run.id)


@pytest.mark.parametrize("name", [kept.INSIGHT, kept.ARRAYS, "adapter/adapter_model.safetensors"])
def test_a_changed_byte_is_noticed_where_the_file_is_used(name: str) -> None:
    import numpy as np

    run = whole(ended=False)
    record.write_insight(run, {"note": [1], "grid": np.zeros(3)})
    child.end_run(run, "done", "")
    path = run.folder / name
    uses = {kept.INSIGHT: run.insight, kept.ARRAYS: run.arrays}
    use = uses.get(name, lambda: kept.kept_adapter(run.folder))
    use()
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(RunError, match="has changed since"):
        use()
    # the list hashes no adapter: a whole model may be one
    assert (store.summary(run).status == DAMAGED) == (not name.startswith("adapter"))


# -- who lives ---------------------------------------------------------------------------------------------------


def test_a_dead_run_is_lost_wherever_it_is_read_and_nothing_is_written() -> None:
    run = whole(ended=False)
    before = (run.folder / "events.jsonl").read_bytes()
    assert run.status() is run.view().status is Status.LOST
    assert run.view().eta is None and run.view().ended is not None
    assert store.summary(run).status == record.result(run)["status"] == "lost"
    assert store.summary(run).problem == owners.GONE
    assert (run.folder / "events.jsonl").read_bytes() == before


def test_another_host_is_judged_by_its_heartbeat() -> None:
    """Its process numbers mean nothing here: this very process's number, or one that nobody has."""
    for pid in (owners.myself().pid, 2**22 + 1):
        run = store.create(SPEC, replace(owners.myself(), pid=pid, host="elsewhere pid:[1]", name="node7"))
        run.log.emit("starting")
        owners.touch(run.folder)
        assert run.status() is Status.STARTING
        silent(run, owners.SILENT + 5)
        assert run.status() is Status.LOST and "node7" in run.view().message
        # silence may be the network's: nothing is written until somebody asks
        assert waiting.mark_lost() == [] and run.events()[-1]["type"] == "starting"
        owners.touch(run.folder)
        assert run.status() is Status.STARTING


def silent(run: store.Run, seconds: float) -> None:
    import os

    for name in (owners.BEAT, "events.jsonl"):
        if (run.folder / name).exists():
            os.utime(run.folder / name, (time.time() - seconds,) * 2)


def test_a_run_that_this_process_holds_is_not_lost_when_the_machine_has_slept() -> None:
    """Nobody touched it meanwhile; the thread that does wakes as late as whoever looks."""
    run, other = store.create(SPEC, owners.myself()), store.create(SPEC, owners.myself())
    heart = owners.Heart(lambda: [run.folder])
    for each in (run, other):
        owners.touch(each.folder)
        silent(each, owners.SILENT + 5)
    assert run.status() is Status.QUEUED and other.status() is Status.LOST
    del heart
    assert run.status() is Status.LOST
