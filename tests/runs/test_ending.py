"""A run that is ended from outside: by a signal to it, to its app or command, or to the process that starts others."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import psutil
import pytest

from peft_lab.core import processes
from peft_lab.runs import queue, store
from peft_lab.runs.queue import get_queue
from peft_lab.runs.store import Run
from peft_lab.runs.view import Status
from tests.runs.driving import LONG, QUICK, started
from tests.waits import SECONDS, until

pytestmark = [
    pytest.mark.weights,
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX"),
]


def saved(run: Run) -> bool:
    """Whether it ended as Stop ends it: status, record and a whole adapter."""
    files = run.adapter / "adapter_model.safetensors", run.adapter / "adapter_config.json"
    return (
        run.view().status is Status.STOPPED
        and run.record()["status"] == "stopped"
        and run.record()["steps"] == run.view().step >= 1
        and all(file.stat().st_size > 0 for file in files)
    )


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


@pytest.mark.further
def test_a_run_outlives_the_process_that_starts_others_and_the_next_one_starts() -> None:
    identity, waiting = get_queue().submit(replace(QUICK, steps=40)), get_queue().submit(QUICK)
    started(identity)
    _fork_server().kill()
    assert get_queue().wait(identity, SECONDS) is Status.DONE
    assert get_queue().wait(waiting, SECONDS) is Status.DONE


@pytest.mark.further
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


def test_a_fork_server_killed_while_it_is_asked_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []
    real: Any = processes.context()

    class Context:
        def Process(self, **arguments: Any) -> Any:
            made = real.Process(**arguments)
            if not calls:
                made.start = fail
            return made

    def fail() -> None:
        calls.append(1)
        raise EOFError("unexpected EOF")

    monkeypatch.setattr(processes, "context", Context)
    identity = get_queue().submit(QUICK)
    assert get_queue().wait(identity, SECONDS) is Status.DONE
    assert calls == [1]
