"""Queue runs: one trains at a time on this machine, across the app and any number of command lines; and give the
teacher a view of them.

Every process that submits has a queue with one runner thread. A run waits for all that come before it on this
machine (waiting.py), and a file lock enforces it. Each run is a child process. A disk error fails its run and
does not end the thread.
"""

from __future__ import annotations

import hashlib
import logging
import signal
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from filelock import FileLock, Timeout

from peft_lab.classroom import joining, places
from peft_lab.classroom.joining import Learner
from peft_lab.core import disk as storage
from peft_lab.core import journal, processes, units
from peft_lab.core.asking import Asker, acting_for, limits_of_asker
from peft_lab.core.errors import PeftLabError, RunError
from peft_lab.runs import admission, allowance, checkpoints, events, kept, owners, store, waiting
from peft_lab.runs.child import Child
from peft_lab.runs.owners import Heart
from peft_lab.runs.spec import RunRequest, RunSpec
from peft_lab.runs.store import Run
from peft_lab.runs.tracking import start
from peft_lab.runs.view import RunSummary, Status, has_ended
from peft_lab.runs.waiting import mark_lost, runs_before, unfinished

# ----------------------------------------
# One run's turn: its child process from start to end, and a final event in every case.


LOOK = 0.1  # seconds between looks at the child
MINUTES = 2.0  # seconds between checks of its owner's remaining minutes
PATIENCE = 6.0  # seconds a run gets to stop by itself, at the end of a step
FORCE = 2.0  # seconds after terminate, before kill


def carry_out_turn(
    run: Run, wants_stop: Callable[[], bool], meanwhile: Callable[[], None], timed: bool = False
) -> None:
    """Train the run in a child process. ``meanwhile``: called at each look. ``timed``: whether its owner's minutes are
    charged."""
    problem = _refusal(run)
    if problem is not None:
        end_turn(run, "failed", str(problem), problem.works)
        return
    used_up = allowance.minutes_refusal() if timed else None
    if used_up is not None:
        end_turn(run, "stopped", used_up)
        return
    waiting.note_turn(run)
    run.log.emit("starting")
    try:
        child = Child(run)
    except RunError as error:
        end_turn(run, "failed", str(error))
        return
    began = looked = time.monotonic()
    asked: float | None = None

    def stop_asked() -> float:
        if not run.asked_to_stop():  # the disk did not take the Stop file
            child.signal(signal.SIGTERM)
        return time.monotonic()

    try:
        while child.alive():
            child.wait(LOOK)
            meanwhile()
            if timed and asked is None and time.monotonic() - looked > MINUTES:
                looked = time.monotonic()
                if allowance.minutes_refusal() is not None:
                    with suppress(OSError):
                        run.ask_to_stop(allowance.why_ended())
                    asked = stop_asked()
            if asked is None and wants_stop():
                asked = stop_asked()
            waited = 0.0 if asked is None else time.monotonic() - asked
            if waited > PATIENCE:
                child.signal(signal.SIGKILL if waited > PATIENCE + FORCE else signal.SIGTERM)
    except BaseException:
        child.kill(FORCE)  # else it would train on beside the next run, and nobody could stop it
        raise
    if timed:
        with suppress(OSError):
            allowance.note_minutes(time.monotonic() - began)
    if not run.folder.exists() or waiting.turn_number(run) != child.turn:
        return  # queued again: the end of that turn is not ours to write
    kept.clear_kept(run.folder)  # nothing is being written any more
    if has_ended(run.events()):
        return
    if asked is not None:
        end_turn(run, "stopped", checkpoints.words_of_a_stop(run))
    else:
        cause = child.cause()
        end_turn(run, "failed", str(cause), cause.works)


def end_turn(run: Run, ending: str, message: str, works: Mapping[str, float] | None = None) -> None:
    """Append the run's final event, unless it was deleted meanwhile. ``works``: settings that would work."""
    if run.folder.exists():
        run.log.end(ending, message=message, **({"works": dict(works)} if works else {}))


def end_unstarted(run: Run) -> None:
    """End a run that was asked to stop while it waited, with the reason if known."""
    end_turn(run, "stopped", f"Stopped before it began. {run.why_stopped()}".strip())


def _refusal(run: Run) -> PeftLabError | None:
    """Return why there is no room for a run now; ``None`` also if unknown: the run will report it."""
    try:
        full = admission.disk_refusal(run.spec)
        return RunError(full) if full else admission.refusal(run.spec)
    except PeftLabError:
        return None


POLL = 0.1  # seconds between looks at a waiting or running run
AGAIN = 2.0  # seconds between checks of the order while runs of other processes go first

_log = logging.getLogger(__name__)


class RunQueue:
    """The runs of this process. Thread-safe."""

    def __init__(self) -> None:
        self._wake = threading.Condition()
        self._mine: list[Run] = []
        self._ordered: list[Run] = []  # copy of _mine when it was last sorted
        self._stopping: set[Path] = set()
        self._timed: set[Path] = set()  # learners' runs, whose minutes are counted; a teacher's are not
        self._thread: threading.Thread | None = None
        self._heart = Heart(lambda: [run.folder for run in list(self._mine)])

    def submit(self, request: RunRequest) -> str:
        """Check and queue a run; return its id at once. Raises BadInput (nothing is stored), AssetError, RunError."""
        return self.admit(request.complete()).id

    def admit(self, spec: RunSpec) -> Run:
        """Queue a run that was checked just now, if there is room for it. Raises as :meth:`submit`."""
        start.require_trackers()
        processes.start_server()
        # Of a run that has to wait, memory is checked when its turn comes: the current run's is free by then.
        written = admission.require(spec, waits=bool(unfinished()))
        with allowance.admitted(spec.steps, written):
            run = store.create(spec, owners.myself())
        self._take(run, timed=limits_of_asker() is not None)
        return run

    def go_on(self, identity: str, anew: bool = False) -> None:
        """Queue a run that ended too early once more, from its latest checkpoint, or with ``anew`` from the start.
        Raises BadInput (not ended, done, or without a checkpoint), RunError (no such run, no room, or the disk)."""
        run = store.get(identity)
        try:
            with FileLock(run.folder / ".going-on.lock"):  # one of several simultaneous requests
                checkpoints.require_to_go_on(run, anew)
                admission.require(run.spec, waits=True)
                processes.start_server()
                with allowance.admitted(run.spec.steps, 0), storage.writing(run.folder):
                    checkpoints.reopen(run, owners.myself(), anew)
                self._take(run, timed=limits_of_asker() is not None)
        except FileNotFoundError:
            store.get(identity)  # raises RunError if it was deleted meanwhile
            raise

    def _take(self, run: Run, timed: bool = False) -> None:
        owners.touch(run.folder)
        journal.note(
            "run queued", run=run.id, method=run.spec.method, model=run.spec.model, steps=run.spec.steps
        )
        with self._wake:
            if timed:
                self._timed.add(run.folder)
            self._mine.append(run)
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._work, name="run-queue", daemon=True)
                self._thread.start()
            self._heart.start()
            self._wake.notify_all()

    def stop(self, identity: str, why: str = "") -> None:
        """Ask a run to stop after its step; one whose app or command is gone is marked as lost. ``why``: added to its
        final message. Raises RunError (no such run, or the disk cannot be written to)."""
        self.end(store.get(identity), why)

    def end(self, run: Run, why: str = "") -> None:
        """Do :meth:`stop` for a :class:`Run` instead of an id."""
        seen = run.events()
        gone = run.gone(seen)
        if has_ended(seen):
            return
        try:
            if gone:
                run.log.emit("lost", message=gone)
            else:
                run.ask_to_stop(why)
        except OSError as error:
            with self._wake:
                if run in self._mine:
                    self._stopping.add(run.folder)  # known in this process without a file
                    return
            raise RunError(
                storage.explained(error, run.folder) or f"'{run.id}' cannot be stopped ({error})."
            ) from error

    def position(self, identity: str) -> int:
        """Return how many runs go before this one: 0 if it is next or has had its turn. Raises RunError."""
        run = store.get(identity)
        return 0 if run.status() is not Status.QUEUED else len(runs_before(run))

    def wait(self, identity: str, timeout: float | None = None) -> Status:
        """Wait until a run has ended; return its status then, or at the timeout in seconds."""
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
                    for folder in events.unwritten():  # their final event did not fit on the disk
                        kept.clear_kept(folder)
                    events.write_unwritten()
            run = self._first()
            try:
                with acting_for(places.asker_of(run.folder)):
                    done = self._turn(run)
            except Exception as error:  # noqa: BLE001  a dead thread would be the end of all training
                # Whatever it was, the runs behind this one must still train.
                reason = storage.explained(error, run.folder)
                if reason is None:
                    _log.exception("the queue met an error while %s had its turn", run.id)
                    reason = f"An error in the app itself ended this run ({type(error).__name__}: {error})."
                end_turn(run, "failed", reason)
                done = True
            with self._wake:
                if not done:
                    continue
                self._stopping.discard(run.folder)
                self._timed.discard(run.folder)
                self._mine.remove(run)

    def _turn(self, run: Run) -> bool:
        """Wait for the device, then run; return ``False`` if another of this process's runs goes first."""
        top = places.shared() / store.FOLDER
        top.mkdir(parents=True, exist_ok=True)
        machine = hashlib.sha256(owners.machine().encode()).hexdigest()[:8]
        lock = FileLock(top / f".device-{machine}.lock", thread_local=False)
        ahead, looked = runs_before(run), time.monotonic()
        while run.folder.exists():
            self._dismiss_waiting()
            if self._wants_stop(run):
                end_unstarted(run)
                return True
            while ahead:
                with suppress(RunError):  # an unreadable one must not block others
                    if not ahead[0].status().final:
                        break
                del ahead[0]
            if self._joined() or (ahead and time.monotonic() - looked > AGAIN):
                # The order changes as runs come and end; stale orders could make two processes wait for each other.
                if self._first() != run:
                    return False
                ahead, looked = runs_before(run), time.monotonic()
            if ahead:
                time.sleep(POLL)
                continue
            with suppress(Timeout), lock.acquire(timeout=POLL):
                self._run(run)
                return True
        return True

    def _joined(self) -> bool:
        """Return whether this process's runs have changed since they were last put in order."""
        with self._wake:
            return self._ordered != self._mine

    def _first(self) -> Run:
        """Move the run of this process that trains next to the front, and return it."""
        with suppress(RunError, OSError):  # if the runs cannot be listed, keep the order of arrival
            order = {run.folder: place for place, run in enumerate(waiting.in_fair_order(unfinished()))}
            with self._wake:
                # One that is not among them has ended or cannot be read, and is removed at its turn.
                self._mine.sort(key=lambda run: order.get(run.folder, -1))
        with self._wake:
            self._ordered = list(self._mine)
            return self._mine[0]

    def _wants_stop(self, run: Run) -> bool:
        return run.folder in self._stopping or run.asked_to_stop()

    def _dismiss_waiting(self) -> None:
        """End runs behind the first one that were asked to stop, without waiting for their turn."""
        with self._wake:
            for run in self._mine[1:]:
                if not run.folder.exists() or self._wants_stop(run):
                    self._mine.remove(run)
                    self._timed.discard(run.folder)
                    end_unstarted(run)

    def _run(self, run: Run) -> None:
        began = time.monotonic()
        journal.note("run starts", run=run.id)
        carry_out_turn(
            run, lambda: self._wants_stop(run), self._dismiss_waiting, timed=run.folder in self._timed
        )
        with suppress(RunError):  # deleted meanwhile
            journal.note(
                "run ended", run=run.id, status=str(run.status()), seconds=round(time.monotonic() - began, 1)
            )


@cache
def get_queue() -> RunQueue:
    """Return this process's queue. The first call marks the runs of processes that are gone as lost."""
    mark_lost()
    return RunQueue()


WAITING = 5 * 60.0  # seconds in the queue after which a learner may need help
ENDED_BY_TEACHER = "Your teacher stopped it."  # shown to the learner
QUIET = 10 * 60.0  # seconds without an action on an open page


@dataclass(frozen=True)
class PageVisit:
    """Where a learner is: the page's name, and seconds since the last action on it."""

    page: str
    since: float


@dataclass(frozen=True)
class ClassRow:
    """One learner's current state.

    Attributes:
        place: ``None`` if they have no page open.
        runs: their number. run: the one that trains, or waits first, or is the newest; ``None`` without any.
        progress: in words. more: how many others of theirs have not ended. ending: whether it was asked to stop.
        stuck: why they may need help, in some words; empty if nothing indicates it.
        kept: bytes of all their runs.
    """

    learner: Learner
    place: PageVisit | None
    runs: int
    run: RunSummary | None
    progress: str
    more: int
    ending: bool
    stuck: str
    kept: int


def class_rows(where: Mapping[str, PageVisit], but: str = "", now: float | None = None) -> list[ClassRow]:
    """Return all learners in the order in which they joined, without the owner ``but``. Raises NotATeacher."""
    places.require_teacher()
    at = time.time() if now is None else now
    return [
        _row(learner, where.get(learner.owner), at) for learner in joining.learners() if learner.owner != but
    ]


def _row(learner: Learner, place: PageVisit | None, now: float) -> ClassRow:
    with acting_for(Asker(learner.owner)):
        line, progress, more, ending = None, "", 0, False
        try:
            found = store.runs()
            going = waiting.runs_going(found)
            if found:
                run = (*going, *found)[0]
                line, progress, more = store.summary(run), _progress(run), max(0, len(going) - 1)
                ending = bool(going) and run.asked_to_stop()
        except PeftLabError as error:
            found, line, progress = [], None, str(error)
        return ClassRow(
            learner,
            place,
            len(found),
            line,
            progress,
            more,
            ending,
            _stuck(line, place, now, allowance.minutes_over(now)),
            allowance.size_taken(store.root()),
        )


def _progress(run: Run) -> str:
    seen = run.view()
    return f"step {seen.step} of {seen.steps}" if seen.status is Status.RUNNING else str(seen.status)


def _stuck(run: RunSummary | None, place: PageVisit | None, now: float, out_of_minutes: bool) -> str:
    if run is not None and run.status in (Status.FAILED, Status.LOST):
        return f"the last run {'failed' if run.status == Status.FAILED else 'was lost'}"
    if run is not None and run.status == Status.QUEUED and now - run.created > WAITING:
        return f"waiting for {units.coarse(now - run.created)}"
    if out_of_minutes:
        return "no training minutes left"
    if place is not None and place.since > QUIET:
        return f"inactive for {units.coarse(place.since)}"
    return ""


def end_for_teacher(owner: str, identity: str) -> None:
    """Ask a learner's run to stop, saying that the teacher ended it. Raises NotATeacher, RunError."""
    places.require_teacher()
    with acting_for(Asker(owner)):
        get_queue().stop(identity, ENDED_BY_TEACHER)
