"""Who trains next: one run at a time on this machine, across the app and any number of command lines.

Every process that submits has a queue with one runner thread. A run waits for all that were submitted before it on this
machine, by any process that lives; a file lock makes sure of it. Each run is a child process of its own. Its ending is
read from its events; the exit code only explains a missing one. No fault of the disk ends the thread: the run that met
it fails with the reason, and the next one is taken.
"""

from __future__ import annotations

import hashlib
import logging
import signal
import threading
import time
from contextlib import suppress
from functools import cache
from pathlib import Path

from filelock import FileLock, Timeout

from peft_lab import disk as storage
from peft_lab.errors import PeftLabError, RunError
from peft_lab.queue.child import Child
from peft_lab.runs import admission, events, kept, owners, room, store
from peft_lab.runs.owners import Heart, Owner
from peft_lab.runs.spec import RunRequest
from peft_lab.runs.store import Run
from peft_lab.runs.view import Status, classify
from peft_lab.workers import processes

POLL = 0.1  # seconds between looks at a waiting or running run
PATIENCE = 6.0  # seconds a run gets to stop by itself, at the end of a step
FORCE = 2.0  # seconds after terminate, before kill

_log = logging.getLogger(__name__)


class RunQueue:
    """This process's runs. Safe to use from any thread."""

    def __init__(self) -> None:
        self._wake = threading.Condition()
        self._mine: list[Run] = []
        self._stopping: set[Path] = set()
        self._thread: threading.Thread | None = None
        self._heart = Heart(lambda: [run.folder for run in list(self._mine)])

    def submit(self, request: RunRequest) -> str:
        """Check and queue a run; returns its id at once.

        Raises:
            BadInput: a request that cannot work, or a run that cannot fit into memory; nothing is kept of it.
            AssetError: weights or data are not here. RunError: no room on the disk, or it cannot be written to.
        """
        complete = request.complete()
        room.require(complete)
        processes.start_server()
        # What runs now holds memory that will be free then: a run that has to wait is asked when its turn comes.
        if not unfinished():
            admission.require(complete)
        run = store.create(complete, owners.myself())
        owners.touch(run.folder)
        with self._wake:
            self._mine.append(run)
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._work, name="run-queue", daemon=True)
                self._thread.start()
            self._heart.start()
            self._wake.notify_all()
        return run.id

    def stop(self, identity: str) -> None:
        """Ask a run to stop. It ends after its current step, or is ended after some seconds; one whose app or command
        is gone has ended, and that is written down.

        Raises:
            RunError: no such run, or it cannot be told to stop because the disk cannot be written to.
        """
        run = store.get(identity)
        seen = run.events()
        gone = run.gone(seen)
        if classify(seen, gone="").final:
            return
        try:
            if gone:
                run.log.emit("lost", message=gone)
            else:
                run.ask_to_stop()
        except OSError as error:
            with self._wake:
                if run in self._mine:
                    self._stopping.add(run.folder)  # this process needs no file to know
                    return
            raise RunError(
                storage.explained(error, run.folder) or f"'{identity}' cannot be told to stop ({error})."
            ) from error

    def position(self, identity: str) -> int:
        """How many runs go before this one: 0 when it is its turn, or it has had it.

        Raises:
            RunError: no such run.
        """
        run = store.get(identity)
        return 0 if run.status() is not Status.QUEUED else len(before(run))

    def wait(self, identity: str, timeout: float | None = None) -> Status:
        """Wait until a run has ended; its status then, or at the timeout."""
        run = store.get(identity)
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            status = run.status()
            if status.final or (deadline is not None and time.monotonic() > deadline):
                return status
            time.sleep(POLL)

    # -- the runner thread ---------------------------------------------------------------------------------------

    def _work(self) -> None:
        while True:
            with self._wake:
                while not self._mine:
                    self._wake.wait(1.0)
                    _write_endings()
                run = self._mine[0]
            try:
                self._turn(run)
            except Exception as error:  # noqa: BLE001  a dead thread would be the end of all training
                # Whatever it was, the runs behind this one can do nothing for it.
                reason = storage.explained(error, run.folder)
                if reason is None:
                    _log.exception("the queue met an error while %s had its turn", run.id)
                    reason = f"An error in the app itself ended this run ({type(error).__name__}: {error})."
                _end(run, "failed", reason)
            with self._wake:
                self._stopping.discard(run.folder)
                self._mine.remove(run)

    def _turn(self, run: Run) -> None:
        """Wait for the device, then run. The run's folder may be deleted by hand at any time."""
        lock = FileLock(store.root() / f".device-{_machine_key()}.lock", thread_local=False)
        ahead = before(run)  # none joins them: who is queued later goes later
        while run.folder.exists():
            self._dismiss_waiting()
            if self._wants_stop(run):
                _end(run, "stopped", "Stopped before it started.")
                return
            while ahead and _let_go(ahead[0]):
                del ahead[0]
            if ahead:
                time.sleep(POLL)
                continue
            with suppress(Timeout), lock.acquire(timeout=POLL):
                self._run(run)
                return

    def _wants_stop(self, run: Run) -> bool:
        return run.folder in self._stopping or run.asked_to_stop()

    def _dismiss_waiting(self) -> None:
        """Runs behind the first one that were asked to stop need not wait for their turn to do so."""
        with self._wake:
            for run in self._mine[1:]:
                if not run.folder.exists() or self._wants_stop(run):
                    self._mine.remove(run)
                    _end(run, "stopped", "Stopped before it started.")

    def _run(self, run: Run) -> None:
        """One child process from start to end, and a final event whatever becomes of it."""
        problem = _refusal(run)
        if problem is not None:
            _end(run, "failed", problem)
            return
        run.log.emit("starting")
        try:
            child = Child(run)
        except RunError as error:
            _end(run, "failed", str(error))
            return
        asked: float | None = None
        while child.alive():
            child.wait(POLL)
            self._dismiss_waiting()
            if asked is None and self._wants_stop(run):
                asked = time.monotonic()
                if not run.asked_to_stop():
                    child.signal(signal.SIGTERM)
            if asked is not None:
                _urge(child, time.monotonic() - asked)
        if not run.folder.exists() or classify(run.events(), gone="").final:
            return
        if asked is not None:
            _end(run, "stopped", "Stopped in the middle of a step: nothing was saved.")
        else:
            _end(run, "failed", child.cause())


def _write_endings() -> None:
    """Tidy up after runs whose disk took nothing, their endings last."""
    for folder in events.unwritten():
        kept.clear(folder)
    events.write_unwritten()


def _let_go(run: Run) -> bool:
    """Whether a run has ended, or nobody holds it; one that cannot be read holds up nobody either."""
    try:
        return run.status().final
    except RunError:
        return True


def _refusal(run: Run) -> str | None:
    """Why there is no room for a run now. Where that cannot be found out, the run itself will say what is wrong."""
    try:
        return room.refusal(run.spec) or admission.refusal(run.spec)
    except PeftLabError:
        return None


def _end(run: Run, ending: str, message: str) -> None:
    if run.folder.exists():
        run.log.end(ending, message=message)


def _urge(child: Child, waited: float) -> None:
    if waited > PATIENCE + FORCE:
        child.signal(signal.SIGKILL)
    elif waited > PATIENCE:
        child.signal(signal.SIGTERM)


def _machine_key() -> str:
    return hashlib.sha256(owners.machine().encode()).hexdigest()[:8]


# -- all queues on this disk -------------------------------------------------------------------------------------


_ended: set[Path] = set()  # folders of runs that have, for good


def _open_runs() -> list[tuple[float, Run, Owner, str]]:
    """Runs without a final event: when they were queued, their owner, and why it is gone. Those whose owner cannot be
    read are left out: they hold up nobody."""
    listed = store.runs()
    _ended.intersection_update([run.folder for run in listed])
    rows = [_open_run(run) for run in listed if run.folder not in _ended]
    return [row for row in rows if row is not None]


def _open_run(run: Run) -> tuple[float, Run, Owner, str] | None:
    try:
        seen = run.events()
    except RunError:
        return None  # it will be read when it can be
    if classify(seen, gone="").final:
        _ended.add(run.folder)
        return None
    owner = run.owner(seen)
    queued = next((float(event["time"]) for event in seen if event["type"] == "queued"), 0.0)
    return None if owner is None else (queued, run, owner, run.gone(seen))


def unfinished() -> list[tuple[float, Run]]:
    """Runs on this machine that are held by a living process and have not ended, with the time they were queued."""
    return [
        (queued, run) for queued, run, owner, gone in _open_runs() if owners.same_machine(owner) and not gone
    ]


def before(run: Run) -> list[Run]:
    """Unfinished runs that were queued before this one on its machine, by processes that live; the oldest first."""
    rows = sorted(unfinished(), key=lambda row: (row[0], row[1].id))
    own = next((queued for queued, other in rows if other.id == run.id), time.time())
    return [other for queued, other in rows if (queued, other.id) < (own, run.id)]


def mark_lost() -> list[str]:
    """Give runs of this host whose app or command is gone their final event, where the disk takes it; their ids.

    Nothing depends on it (:func:`~peft_lab.runs.view.classify`): it keeps what is known from depending on the process
    table. Runs of other hosts are left alone, as silence may be the network's.
    """
    lost = []
    for _, run, owner, gone in _open_runs():
        if gone and owners.here(owner) and not owners.running(owner):
            try:
                run.log.emit("lost", message=gone)
            except OSError:
                continue
            lost.append(run.id)
    return lost


@cache
def get_queue() -> RunQueue:
    """This process's queue. The first call tidies up after processes that are gone."""
    mark_lost()
    return RunQueue()
