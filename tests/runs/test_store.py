""""""

from __future__ import annotations

import json
import shutil
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from peft_lab.core import disk
from peft_lab.core.errors import BadInput, RunError
from peft_lab.runs import admission, checkpoints, kept, owners, record, store, waiting
from peft_lab.runs.events import EventLog, EventReader, read_events
from peft_lab.runs.queue import RunQueue, get_queue
from peft_lab.runs.spec import RunSpec
from peft_lab.runs.view import Status
from peft_lab.runs.waiting import ahead, mark_lost, starts_in, unfinished
from peft_lab.takeaway import ranks
from tests.prose import facts
from tests.waits import SECONDS

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


def line(kind: str, **fields: object) -> bytes:
    return json.dumps({"type": kind, "time": 1.0, **fields}, ensure_ascii=False).encode() + b"\n"


def kinds(reader: EventReader) -> list[str]:
    return [event["type"] for event in reader.read()]


def test_half_a_line_is_read_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "e.jsonl"
    whole = line("step", text="aéb")
    reader = EventReader(path)
    path.write_bytes(whole + whole[:30])
    assert len(reader.read()) == 1
    path.write_bytes(whole + whole)
    assert reader.read() == ({"type": "step", "time": 1.0, "text": "aéb"},) * 2


@pytest.mark.parametrize(
    ("after", "replaced"),
    [
        (line("queued") + line("done"), True),  # the same beginning
        (line("step") + line("done"), True),  # the same length as before
        (line("failed"), True),
        (line("failed"), False),  # cut
        (line("failed") * 9, False),  # longer, and another
        (line("failed") + line("step"), False),  # as long, and another
        (b"", False),
    ],
)
def test_a_file_that_was_replaced_cut_or_changed_is_read_anew(
    after: bytes, replaced: bool, tmp_path: Path
) -> None:
    path, other = tmp_path / "e.jsonl", tmp_path / "other"
    path.write_bytes(line("queued") + line("step"))
    reader = EventReader(path)
    assert kinds(reader) == ["queued", "step"]
    time.sleep(0.01)  # the clock of the file system
    if replaced:
        other.write_bytes(after)
        other.replace(path)
    else:
        path.write_bytes(after)
    assert kinds(reader) == kinds(EventReader(path))
    EventLog(path).emit("lost")
    assert kinds(reader) == kinds(EventReader(path)) and kinds(reader)[-1] == "lost"


def test_a_file_that_is_gone_has_no_events_and_another_may_come(tmp_path: Path) -> None:
    path = tmp_path / "e.jsonl"
    reader = EventReader(path)
    path.write_bytes(line("queued") + line("step"))
    assert len(reader.read()) == 2
    path.unlink()
    assert reader.read() == ()
    path.write_bytes(line("queued") + line("step") + line("done"))
    assert kinds(reader) == ["queued", "step", "done"]


def test_threads_that_read_while_it_is_written_see_every_event_once(tmp_path: Path) -> None:
    path = tmp_path / "e.jsonl"
    log, reader = EventLog(path), EventReader(path)

    def follow() -> list[int]:
        seen: list[int] = []
        while len(seen) < 500:
            found = [event["step"] for event in reader.read()]
            assert found[: len(seen)] == seen
            seen = found
        return seen

    with ThreadPoolExecutor(2) as threads:
        followers = [threads.submit(follow) for _ in range(2)]
        for number in range(500):
            log.emit("step", step=number)
        assert all(each.result(SECONDS) == list(range(500)) for each in followers)


def test_stump_of_a_killed_writer_does_not_swallow_the_next_event(tmp_path: Path) -> None:
    path = tmp_path / "e.jsonl"
    path.write_bytes(b'{"type": "step", "time": 1.0}\n{"type": "st')
    EventLog(path).emit("failed", message="killed")
    assert [event["type"] for event in read_events(path)] == ["step", "failed"]


# ----------------------------------------
# What a queued run waits for, from runs as they stand on disk.


QUEUED_SPEC = RunSpec(
    "minilm-l6", "lora", "sentiment", steps=10, batch=4, learning_rate=1e-3, max_length=64, eval_rows=8
)


def queued(spec: RunSpec = QUEUED_SPEC, owner: owners.Owner | None = None) -> store.Run:
    run = store.create(spec, owner or owners.myself())
    owners.touch(run.folder)
    time.sleep(0.002)  # the order is that of the clock
    return run


def at(run: store.Run, kind: str, when: float, **fields: object) -> None:
    """An event of another time than now."""
    with (run.folder / "events.jsonl").open("a") as file:
        file.write(json.dumps({"time": when, "type": kind, **fields}) + "\n")


def steps(run: store.Run, amount: int, seconds: float) -> None:
    for number in range(1, amount + 1):
        run.log.emit("step", step=number, loss=1.0, lr=0.1, grad_norm=1.0, tokens=40, seconds=seconds)


def finished(spec: RunSpec, seconds: float, beside: float) -> None:
    """A run that was done, with steps of ``seconds`` and ``beside`` around them."""
    run = store.create(spec)
    at(run, "queued", 1000.0)
    at(run, "starting", 1001.0)
    for number in range(1, spec.steps + 1):
        at(run, "step", 1001.0 + number, step=number, loss=1.0, lr=0.1, tokens=4, seconds=seconds)
    at(run, "done", 1001.0 + spec.steps * seconds + beside, message="")


def test_the_run_that_trains_and_those_that_wait_in_their_order() -> None:
    first, second, third = queued(), queued(replace(QUEUED_SPEC, method="ia3")), queued()
    first.log.emit("starting")
    steps(first, 4, seconds=0.5)
    one, two = ahead(third.id)
    assert (one.id, one.status, one.step, one.steps) == (first.id, Status.RUNNING, 4, 10)
    assert (one.seconds_per_step, one.seconds) == (0.5, 3.0)
    assert two.spec is not None and (two.id, two.status, two.spec.method) == (second.id, Status.QUEUED, "ia3")
    # nothing like the second was ever measured
    assert two.seconds is None and starts_in([one, two]) is None
    assert [each.id for each in ahead(second.id)] == [first.id] and ahead(first.id) == []


def test_a_run_like_it_that_was_done_says_how_long_it_takes() -> None:
    finished(replace(QUEUED_SPEC, steps=20), seconds=0.25, beside=7.0)
    first, second = queued(), queued()
    (one,) = ahead(second.id)
    assert one.seconds_per_step == 0.25
    assert one.seconds == pytest.approx(10 * 0.25 + 7.0)
    first.log.emit("starting")
    steps(first, 10, seconds=0.5)
    (one,) = ahead(second.id)
    assert one.seconds == pytest.approx(7.0, abs=1.0)  # its evaluation


def test_runs_of_gone_processes_and_of_other_machines_hold_up_nobody() -> None:
    me = owners.myself()
    queued(owner=replace(me, pid=2**22 + 1))
    queued(owner=replace(me, host="another-machine pid:[1]"))
    other_container = queued(owner=replace(me, host=f"{owners.machine()} pid:[1]"))
    mine = queued()
    assert [each.id for each in ahead(mine.id)] == [other_container.id]


# ----------------------------------------
# A run that a script tells of elsewhere: taken in, followed, ended, let go.


@pytest.fixture
def folder(tmp_path: Path, own_home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A script has begun there; its rows are none that the lab could read."""
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    made = tmp_path / "outside"
    spec = {
        **SPEC.to_dict(),
        "task": "own",
        "own_data": "/no/such/rows.jsonl",
        "steps": 4,
        "schedule": "constant",
    }
    ranks.begin_telling(
        made, spec, {"trainable": 5, "total": 99, "device": "cpu", "rows": 24, "learning_rate": 0.1}
    )
    return made


def _step(folder: Path, number: int, **fields: Any) -> None:
    told = {"loss": 2.0 / number, "lr": 0.1, "grad_norm": 1.0, "tokens": 8, "seconds": 0.5, **fields}
    ranks.tell(folder, "step", step=number, **told)


def test_it_is_followed_while_it_goes_and_after(folder: Path) -> None:
    _step(folder, 1)
    run = store.adopt(folder)
    assert (run.view().status, run.view().losses) == (Status.RUNNING, (2.0,))
    _step(folder, 2)
    assert run.view().losses == (2.0, 1.0)
    (line,) = store.summaries()
    assert (line.id, line.status, line.steps, line.metric, line.before) == (run.id, "running", 4, "", None)
    assert record.result(run)["metric"]["after"] is None
    ranks.tell(folder, "done", message="")
    assert run.status() is Status.DONE


def test_it_is_no_business_of_this_machines_queue(folder: Path) -> None:
    run = store.adopt(folder)
    assert unfinished() == [] and mark_lost() == []
    with pytest.raises(RunError, match="started outside PEFT Lab"):
        get_queue().stop(run.id)
    assert run.status() is Status.RUNNING and not (folder / store.STOP).exists()


def test_deleting_it_leaves_the_scripts_folder(folder: Path) -> None:
    run = store.adopt(folder)
    with pytest.raises(RunError, match="has not ended"):
        store.delete(run.id)
    ranks.tell(folder, "done", message="")
    store.delete(run.id)
    assert store.runs() == [] and (folder / "events.jsonl").is_file()


def test_what_holds_no_run_is_refused_in_words(folder: Path, tmp_path: Path) -> None:
    run = store.adopt(folder)
    with pytest.raises(BadInput, match=facts(run.id)):
        store.adopt(folder)
    with pytest.raises(BadInput, match="PEFT_LAB_RUN="):
        store.adopt(tmp_path)
    (folder / "spec.json").write_text("{}")
    store.delete(run.id) if run.status().final else run.folder.unlink()
    with pytest.raises(BadInput, match=facts("no run", "needs")):
        store.adopt(folder)
