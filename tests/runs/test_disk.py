"""A disk that is full or can only be read, for real: what is refused, what is told, and what works again afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bench.faults.disk import Disk, NoDisk, small_disk
from peft_lab.cli import app
from peft_lab.core.errors import RunError
from peft_lab.runs import events, owners, store, waiting
from peft_lab.runs.events import read_events
from peft_lab.runs.queue import RunQueue
from peft_lab.runs.view import Status
from tests.conftest import missing
from tests.prose import facts
from tests.runs.driving import LONG, QUICK
from tests.waits import SECONDS, until

pytestmark = pytest.mark.weights
IA3 = replace(QUICK, method="ia3")


@pytest.fixture
def disk(tmp_path: Path, assets_home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    """A lab folder on a disk of 64 MB; nothing but a real disk behaves like one."""
    try:
        with small_disk(tmp_path / "disk", 64) as made:
            for part in ("models", "data"):
                (made.path / part).symlink_to(assets_home / part, target_is_directory=True)
            monkeypatch.setenv("PEFT_LAB_HOME", str(made.path))
            yield made
    except NoDisk as reason:
        missing(f"no disk can be mounted: {reason}")


def command(*arguments: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, list(arguments))
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.stdout, done.stderr


def everything(folder: Path) -> dict[str, tuple[int, int]]:
    """Every file with its size and time: whoever writes anything changes it."""
    return {
        str(path.relative_to(folder)): (path.stat().st_size, path.stat().st_mtime_ns)
        for path in [folder, *folder.rglob("*")]
    }


TRAIN = ("train", "--model", "minilm-l6", "--method", "ia3", "--task", "sentiment", "--steps", "2")


def test_a_full_disk_refuses_a_run_in_one_sentence_and_the_list_still_reads(disk: Disk) -> None:
    dead = store.create(QUICK.complete(), replace(owners.myself(), pid=2**22 + 1))
    disk.fill()
    with pytest.raises(RunError, match=facts("full", "needs")):
        RunQueue().submit(QUICK)
    status, out, err = command(*TRAIN)
    assert (status, out, len(err.splitlines())) == (1, "", 1) and "too full" in err
    before = everything(store.root())
    status, out, _ = command("runs", "--json")
    assert status == 0 and '"lost"' in out
    assert everything(store.root()) == before
    assert store.summary(dead).status == Status.LOST


def test_a_disk_that_can_only_be_read(disk: Disk) -> None:
    dead = store.create(QUICK.complete(), replace(owners.myself(), pid=2**22 + 1))
    disk.read_only()
    with pytest.raises(RunError, match="only be read"):
        RunQueue().submit(QUICK)
    status, out, err = command(*TRAIN)
    assert (status, out, len(err.splitlines())) == (1, "", 1) and "only be read" in err
    assert command("runs")[0] == 0 and command("runs", dead.id)[0] == 0
    status, _, err = command("runs", dead.id, "--delete")
    assert status == 1 and "only be read" in err
    disk.read_only(False)
    assert command("runs", dead.id, "--delete")[0] == 0 and store.runs() == []


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["full", "read-only"])
def test_a_fault_in_the_middle_of_a_run_ends_that_run_and_not_the_queue(disk: Disk, fault: str) -> None:
    """Three runs: one meets the fault, one waits meanwhile and meets it too, one comes when all is well again."""
    queue = RunQueue()
    first = store.get(queue.submit(LONG))
    second = store.get(queue.submit(LONG))
    until(lambda: first.view().step >= 1)
    (first.folder / ".adapter").mkdir()  # as if the disk had failed while the adapter was saved
    disk.fill() if fault == "full" else disk.read_only()
    said = "full" if fault == "full" else "read"
    assert queue.wait(first.id, SECONDS) is Status.FAILED
    assert said in first.view().message
    # the second one has its turn, and is refused for the same reason
    assert queue.wait(second.id, SECONDS) is Status.FAILED
    assert said in second.view().message
    assert {line.status for line in store.summaries()} == {"failed"}
    disk.empty() if fault == "full" else disk.read_only(False)
    third = queue.submit(QUICK)
    assert queue.wait(third, SECONDS) is Status.DONE
    # what could not be written down then is on the disk now, for every other process
    until(lambda: not events._unwritten)
    for run in (first, second):
        assert read_events(run.folder / "events.jsonl")[-1]["type"] == "failed"
        assert not (run.folder / ".adapter").exists()


@pytest.mark.slow
def test_stop_works_where_nothing_can_be_written(disk: Disk) -> None:
    """This process need not leave a file to itself; the run ends though its ending cannot be stored."""
    queue = RunQueue()
    run = store.get(queue.submit(LONG))
    until(lambda: run.view().status is not Status.QUEUED)
    disk.read_only()
    queue.stop(run.id)
    assert queue.wait(run.id, SECONDS).final


@pytest.mark.slow
def test_saving_that_finds_no_room_leaves_no_half_adapter(disk: Disk) -> None:
    queue = RunQueue()
    run = store.get(queue.submit(replace(LONG, method="lora", values={"r": 64})))
    until(lambda: run.view().step >= 1)
    disk.fill(leave=512 * 1024)  # events go on, the adapter of 1.2 MB does not fit
    queue.stop(run.id)
    assert queue.wait(run.id, SECONDS) is Status.FAILED
    assert "disk is full" in run.view().message
    assert not run.adapter.exists() and run.record()["adapter_dir"] is None
    assert {path.name for path in run.folder.glob(".*")} <= {waiting.HOLD_LOCK}
