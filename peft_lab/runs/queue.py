"""Who trains next: one run at a time on this machine, across the app and any number of command lines.

Every process that submits has a queue with one runner thread. A run waits for all that were submitted before it, by any
process that lives; a file lock makes sure of it. Each run is a child process of its own. Its ending is read from its
events; the exit code only explains a missing one.
"""

from __future__ import annotations

import signal
import threading
import time
from functools import cache
from typing import Any

import psutil
from filelock import FileLock, Timeout

from peft_lab import processes
from peft_lab.errors import PeftLabError
from peft_lab.runs import admission, store, worker
from peft_lab.runs.spec import RunSpec
from peft_lab.runs.store import Run
from peft_lab.runs.view import Status, classify

POLL = 0.1  # seconds between looks at a waiting or running run
PATIENCE = 6.0  # seconds a run gets to stop by itself, at the end of a step
FORCE = 2.0  # seconds after terminate, before kill


class RunQueue:
    """This process's runs. Safe to use from any thread."""

    def __init__(self) -> None:
        self._wake = threading.Condition()
        self._mine: list[Run] = []
        self._thread: threading.Thread | None = None

    def submit(self, spec: RunSpec) -> str:
        """Check and queue a run; returns its id at once.

        Raises:
            BadInput: a spec that cannot work, or a run that cannot fit into memory; nothing is kept of it.
            AssetError: weights or data are not here.
        """
        complete = spec.check()
        processes.start_server()
        # What runs now holds memory that will be free then: a run that has to wait is asked when its turn comes.
        if not any(alive(owner) for _, _, owner in _unfinished()):
            admission.require(complete)
        run = store.create(complete)
        run.log.emit("queued", owner=myself())
        with self._wake:
            self._mine.append(run)
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="run-queue", daemon=True)
                self._thread.start()
            self._wake.notify_all()
        return run.id

    def stop(self, identity: str) -> None:
        """Ask a run to stop. It ends after its current step, or is ended after some seconds.

        Raises:
            RunError: no such run.
        """
        run = store.get(identity)
        if not run.view().status.final:
            run.ask_to_stop()

    def position(self, identity: str) -> int:
        """How many runs go before this one: 0 when it is its turn, or it has had it.

        Raises:
            RunError: no such run.
        """
        run = store.get(identity)
        return 0 if classify(run.events()) is not Status.QUEUED else len(_before(run))

    def wait(self, identity: str, timeout: float | None = None) -> Status:
        """Wait until a run has ended; its status then, or at the timeout."""
        run = store.get(identity)
        reader, events = run.reader(), []
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            events += reader.read()
            status = classify(events)
            if status.final or (deadline is not None and time.monotonic() > deadline):
                return status
            time.sleep(POLL)

    # -- the runner thread ---------------------------------------------------------------------------------------

    def _work(self) -> None:
        while True:
            with self._wake:
                while not self._mine:
                    self._wake.wait()
                run = self._mine[0]
            self._turn(run)
            with self._wake:
                self._mine.remove(run)

    def _turn(self, run: Run) -> None:
        """Wait for the device, then run. The run's folder may be deleted by hand at any time."""
        lock = FileLock(store.root() / ".device.lock", thread_local=False)
        while run.folder.exists():
            self._dismiss_waiting()
            if run.asked_to_stop():
                _dismiss(run)
                return
            if not _before(run):
                try:
                    with lock.acquire(timeout=POLL):
                        self._run(run)
                    return
                except Timeout:
                    continue
            time.sleep(POLL)

    def _dismiss_waiting(self) -> None:
        """Runs behind the first one that were asked to stop need not wait for their turn to do so."""
        with self._wake:
            for run in self._mine[1:]:
                if not run.folder.exists() or run.asked_to_stop():
                    self._mine.remove(run)
                    _dismiss(run)

    def _run(self, run: Run) -> None:
        """One child process from start to end, and a final event whatever becomes of it."""
        problem = _refusal(run)
        if problem is not None:
            run.log.emit("failed", message=problem)
            return
        run.log.emit("starting")
        making: Any = processes.context()
        child = making.Process(target=worker.main, args=(str(run.folder),), name=run.id, daemon=True)
        try:
            child.start()
        except (OSError, EOFError) as error:
            # The fork server was killed in between; the next run starts a new one.
            reason = str(error) or "the process that starts others was ended"
            run.log.emit("failed", message=f"The training process could not be started: {reason}.")
            return
        asked: float | None = None
        while child.is_alive():
            child.join(POLL)
            self._dismiss_waiting()
            if asked is None and run.asked_to_stop():
                asked = time.monotonic()
            if asked is not None:
                _urge(child, time.monotonic() - asked)
        if not run.folder.exists() or classify(run.events()).final:
            return
        if asked is not None:
            run.log.emit("stopped", message="Stopped in the middle of a step: nothing was saved.")
        else:
            run.log.emit("failed", message=_cause(run, child.exitcode))


def _refusal(run: Run) -> str | None:
    """Why there is no room for a run now. Where that cannot be found out, the run itself will say what is wrong."""
    try:
        return admission.refusal(run.spec)
    except PeftLabError:
        return None


def _dismiss(run: Run) -> None:
    if run.folder.exists():
        run.log.emit("stopped", message="Stopped before it started.")


def _urge(child: Any, waited: float) -> None:
    if waited > PATIENCE + FORCE:
        child.kill()
    elif waited > PATIENCE:
        child.terminate()


def _cause(run: Run, code: int | None) -> str:
    """Why a child ended without saying so, in one sentence."""
    if code == -signal.SIGKILL:
        return (
            "The training process was killed from outside; usually the system does that when memory runs out."
        )
    if code is not None and code < 0:
        return f"The training process was ended by signal {-code} ({signal.Signals(-code).name})."
    log = run.folder / "worker.log"
    lines = log.read_text("utf-8", "replace").strip().splitlines() if log.exists() else []
    reason = f": {lines[-1]}" if lines else ""
    return f"The training process ended with an error (exit code {code}){reason}"


# -- owners ------------------------------------------------------------------------------------------------------


def myself() -> dict[str, float]:
    """This process as the owner of something on disk: ``{pid, started}``."""
    me = psutil.Process()
    return {"pid": me.pid, "started": me.create_time()}


def alive(owner: dict[str, float]) -> bool:
    """Whether the process that owns something on disk still is there; its start time tells it from one that has taken
    its number since."""
    try:
        found = psutil.Process(int(owner["pid"]))
        # One that was killed and not yet waited for by its parent still has its number.
        return found.status() != psutil.STATUS_ZOMBIE and abs(found.create_time() - owner["started"]) < 2
    except psutil.NoSuchProcess:
        return False


_ended: set[str] = set()  # an ending is for good, so those files are read once


def _unfinished() -> list[tuple[float, Run, dict[str, float]]]:
    """Runs that have not ended, with the time they were queued and their owner."""
    found = []
    for run in store.runs():
        if run.id in _ended:
            continue
        events = run.events()
        if classify(events).final:
            _ended.add(run.id)
        elif events and events[0]["type"] == "queued" and "owner" in events[0]:
            found.append((float(events[0]["time"]), run, events[0]["owner"]))
    return found


def _before(run: Run) -> list[Run]:
    """Unfinished runs of living processes that were queued before this one."""
    rows = _unfinished()
    own = next((queued for queued, other, _ in rows if other.id == run.id), time.time())
    return [other for queued, other, owner in rows if (queued, other.id) < (own, run.id) and alive(owner)]


def mark_lost() -> list[str]:
    """Give runs whose app or command line is gone their final event; returns their ids."""
    lost = []
    for _, run, owner in _unfinished():
        if not alive(owner):
            run.log.emit("lost", message="The app or command that ran it ended before it was done.")
            lost.append(run.id)
    return lost


@cache
def get_queue() -> RunQueue:
    """This process's queue. The first call tidies up after processes that are gone."""
    mark_lost()
    return RunQueue()
