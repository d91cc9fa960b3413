"""Runs as the app and the command line start them: queued, one at a time, stopped, killed, orphaned."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import psutil
import pytest

from peft_lab.core import processes
from peft_lab.runs import queue, store, waiting
from peft_lab.runs.queue import RunQueue, get_queue
from peft_lab.runs.store import Run
from peft_lab.runs.view import Status
from tests.prose import says
from tests.runs.driving import LONG, QUICK, owns, started
from tests.waits import SECONDS, until

pytestmark = pytest.mark.weights


def test_a_killed_child_is_a_failed_run_and_the_next_one_works() -> None:
    first = get_queue().submit(LONG)
    second = get_queue().submit(QUICK)
    child = started(first)
    assert (get_queue().position(first), get_queue().position(second)) == (0, 1)
    assert store.get(second).view().status is Status.QUEUED
    child.kill()
    assert get_queue().wait(first, SECONDS) is Status.FAILED
    assert "killed" in store.get(first).view().message
    assert get_queue().wait(second, SECONDS) is Status.DONE
    assert store.get(second).record()["status"] == "done"


def test_a_child_that_cannot_be_made_is_a_failed_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fork server may be killed while it is asked for a child."""

    class Context:
        class Process:
            def __init__(self, **_: object) -> None: ...

            def start(self) -> None:
                raise EOFError("unexpected EOF")

    monkeypatch.setattr(processes, "context", Context)
    identity = get_queue().submit(QUICK)
    assert get_queue().wait(identity, SECONDS) is Status.FAILED
    assert "started" in store.get(identity).view().message


def test_stop_ends_a_run_after_its_step_and_keeps_the_adapter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue, "PATIENCE", SECONDS)
    running, waiting = get_queue().submit(LONG), get_queue().submit(LONG)
    started(running)
    get_queue().stop(waiting)
    assert get_queue().wait(waiting, SECONDS) is Status.STOPPED
    get_queue().stop(running)
    assert get_queue().wait(running, SECONDS) is Status.STOPPED
    run = store.get(running)
    assert says(run.view().message, "adapter", "saved")
    assert (run.adapter / "adapter_model.safetensors").exists()
    get_queue().stop(running)  # of one that has ended: nothing happens
    assert run.view().status is Status.STOPPED


@pytest.mark.slow
def test_a_child_that_does_not_listen_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue, "PATIENCE", 0.2)
    monkeypatch.setattr(queue, "FORCE", 0.2)
    identity = get_queue().submit(LONG)
    child = started(identity)
    child.suspend()
    get_queue().stop(identity)
    assert get_queue().wait(identity, SECONDS) is Status.STOPPED
    until(lambda: not child.is_running())


@pytest.mark.slow
def test_a_run_that_can_no_longer_be_watched_trains_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    mine, broken = RunQueue(), threading.Event()
    look = mine._dismiss_waiting

    def dismiss() -> None:
        if broken.is_set():
            broken.clear()
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        look()

    monkeypatch.setattr(mine, "_dismiss_waiting", dismiss)
    identity = mine.submit(LONG)
    child = started(identity)
    broken.set()
    try:
        assert mine.wait(identity, SECONDS) is Status.FAILED
        assert not child.is_running(), "nobody could stop it"
    finally:
        if child.is_running():
            child.kill()


@pytest.mark.slow
def test_runs_that_cannot_be_listed_for_a_moment_do_not_end_the_queue(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls, real = list[int](), waiting.in_fair_order

    def in_turn(rows: Iterable[waiting.Waiting]) -> list[store.Run]:
        calls.append(1)
        if len(calls) == 1:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return real(rows)

    monkeypatch.setattr(waiting, "in_fair_order", in_turn)
    mine = RunQueue()
    identity = mine.submit(QUICK)
    try:
        assert mine.wait(identity, 30) is Status.DONE
    finally:
        if not store.get(identity).status().final:
            store.get(identity).log.emit("stopped", message="left by a test")


def test_runs_of_an_app_that_is_gone_are_lost_and_no_obstacle() -> None:
    run = store.create(QUICK.complete())
    run.log.emit("queued", owner={"pid": 2**22 + 1, "started": 0.0})
    same_number = store.create(QUICK.complete())
    same_number.log.emit("queued", owner={"pid": os.getpid(), "started": 1.0})
    assert {run.id, same_number.id} <= set(waiting.mark_lost())
    assert run.view().status is Status.LOST and "ended before the run" in run.view().message
    assert waiting.mark_lost() == []


APP = """
import sys, time
from pathlib import Path
from peft_lab.runs.queue import get_queue
from peft_lab.runs.spec import RunRequest, RunSpec
if __name__ == "__main__":
    Path(sys.argv[1]).open("a").write("x")
    print(get_queue().submit(RunRequest("minilm-l6", "lora", "sentiment", steps=50_000, batch=2)), flush=True)
    time.sleep(600)
else:
    Path(sys.argv[1]).open("a").write("imported again")
"""


@pytest.mark.slow
def test_killing_the_app_saves_its_run_and_another_process_takes_its_turn(tmp_path: Path) -> None:
    script, marks = tmp_path / "app.py", tmp_path / "marks"
    script.write_text(APP)
    root = str(Path(queue.__file__).parents[2])
    app = subprocess.Popen(
        [sys.executable, str(script), str(marks)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": root},
    )
    assert app.stdout is not None
    identity = app.stdout.readline().strip()
    until(lambda: store.get(identity).view().step >= 1)
    descendants = psutil.Process(app.pid).children(recursive=True)
    assert any(owns(child, identity) for child in descendants)
    # a run of this process waits for that of the other one
    mine = RunQueue().submit(QUICK)
    assert get_queue().position(mine) == 1
    app.send_signal(signal.SIGKILL)
    app.wait()
    until(
        lambda: (
            not any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in descendants)
        )
    )
    assert get_queue().wait(mine, SECONDS) is Status.DONE
    # nobody waits for it any more, but what it has learned is kept, as a Stop keeps it
    run = store.get(identity)
    assert run.view().status is Status.STOPPED
    assert run.record()["status"] == "stopped" and run.record()["steps"] >= 1
    assert (run.adapter / "adapter_model.safetensors").stat().st_size > 0
    # the child did not run the app's script again
    assert marks.read_text() == "x"


# ----------------------------------------
# A run that is ended from outside: by a signal to it, to its app or command, or to the process that starts others.


def saved(run: Run) -> bool:
    """Whether it ended as Stop ends it: status, record and a whole adapter."""
    files = run.adapter / "adapter_model.safetensors", run.adapter / "adapter_config.json"
    return (
        run.view().status is Status.STOPPED
        and run.record()["status"] == "stopped"
        and run.record()["steps"] == run.view().step >= 1
        and all(file.stat().st_size > 0 for file in files)
    )


@pytest.mark.slow
def test_sigterm_to_the_run_saves_as_stop_does() -> None:
    identity = get_queue().submit(LONG)
    started(identity).terminate()
    assert get_queue().wait(identity, SECONDS) is Status.STOPPED
    assert saved(store.get(identity))


SERVER = """
import signal, sys, time
from dataclasses import replace
from peft_lab.runs.queue import get_queue
from peft_lab.runs.spec import RunRequest, RunSpec
if __name__ == "__main__":
    # As Streamlit takes it: its loop ends, and the interpreter with it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    print(get_queue().submit(RunRequest("minilm-l6", "lora", "sentiment", steps=50_000, batch=2)), flush=True)
    time.sleep(600)
"""


def launched(script: Path) -> tuple[subprocess.Popen[str], str]:
    script.write_text(SERVER)
    server = subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(queue.__file__).parents[2])},
        start_new_session=True,
    )
    assert server.stdout is not None
    return server, server.stdout.readline().strip()


@pytest.mark.slow
@pytest.mark.parametrize("everyone", [False, True], ids=["the app alone", "all its processes"])
def test_sigterm_to_the_app_saves_its_run(tmp_path: Path, everyone: bool) -> None:
    """A service manager ends the app, or the app with all its children."""
    server, identity = launched(tmp_path / "server.py")
    run = store.get(identity)
    until(lambda: run.view().step >= 1)
    os.killpg(server.pid, signal.SIGTERM) if everyone else server.terminate()
    server.wait(SECONDS)
    until(lambda: run.view().status.final)
    assert saved(run)


@pytest.mark.slow
@pytest.mark.further
@pytest.mark.rest
def test_a_run_that_is_killed_with_the_process_that_starts_others_says_so() -> None:
    identity = get_queue().submit(LONG)
    process = started(identity)
    _fork_server().kill()
    process.kill()
    assert get_queue().wait(identity, SECONDS) is Status.FAILED
    message = store.get(identity).view().message
    assert "that starts runs" in message and "255" not in message
    following = get_queue().submit(QUICK)
    assert get_queue().wait(following, SECONDS) is Status.DONE


def _fork_server() -> psutil.Process:
    known: Any = forkserver._forkserver
    return psutil.Process(known._forkserver_pid)
