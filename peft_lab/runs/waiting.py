"""Decide which run trains next: owners take turns, each owner's runs keep their order. Make sure that only one
process writes a run. Measure the machine's speed while no run trains.

Everybody's first waiting run comes before anybody's second; among those, the owner served longest ago goes first.
The order is read from the disk, so all processes agree on it. With one owner it is first come, first served.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from operator import attrgetter
from typing import Any

from filelock import FileLock, Timeout

from peft_lab.classroom import places
from peft_lab.core import inspector
from peft_lab.core.asking import asker
from peft_lab.core.errors import BadInput, RunError
from peft_lab.engine.timing import here
from peft_lab.runs import owners, store
from peft_lab.runs.events import latest
from peft_lab.runs.owners import Owner
from peft_lab.runs.spec import RunSpec
from peft_lab.runs.store import Run
from peft_lab.runs.view import DAMAGED, Status, classify, view

Waiting = tuple[float, Run]  #: when it was queued, and the run
SERVED = ".served"  # touched in an owner's folder when a run of theirs starts


def in_fair_order(rows: Iterable[Waiting]) -> list[Run]:
    """Return unfinished runs in the order in which they train; those that train already come first."""
    before: Counter[str] = Counter()
    served: dict[str, float] = {}
    keyed = []
    for queued, run in sorted(rows, key=lambda row: (row[0], row[1].id)):
        owner = places.asker_of(run.folder).owner
        if has_begun(run):
            keyed.append((False, 0, 0.0, queued, run.id, run))
            continue
        if owner not in served:
            served[owner] = _served(owner)
        keyed.append((True, before[owner], served[owner], queued, run.id, run))
        before[owner] += 1
    return [row[-1] for row in sorted(keyed, key=lambda row: row[:-1])]


def note_turn(run: Run) -> None:
    """Record that this run's owner has their turn now; nothing without a class, where there is one owner."""
    if (places.shared() / places.FOLDER).is_dir():
        with suppress(OSError):
            (places.of(places.asker_of(run.folder).owner) / SERVED).touch()


def _served(owner: str) -> float:
    try:
        return (places.of(owner) / SERVED).stat().st_mtime
    except OSError:
        return 0.0


def has_begun(run: Run) -> bool:
    """Return whether a run no longer waits; false if it cannot be read."""
    try:
        return classify(run.events(), gone="") is not Status.QUEUED
    except RunError:
        return False


# ----------------------------------------
# All unfinished runs on this disk, of any owner: which go before another, and which are lost.


def _open_runs(listed: Sequence[Run]) -> list[tuple[float, Run, Owner, str]]:
    """Return runs without a final event: queueing time, run, owner, and why the owner is gone; none that an engine such
    as Ray carries out."""
    rows = []
    for run in listed:
        with suppress(RunError):  # tried again at the next call
            if run.ended() is not None:
                continue
            seen = run.events()
            owner, queued = run.owner(seen), latest(seen, "queued") or {"time": 0.0}
            if owner is not None and "carrier" not in queued:
                rows.append((queued["time"], run, owner, run.gone(seen)))
    return rows


def unfinished(listed: Sequence[Run] | None = None) -> list[tuple[float, Run]]:
    """Return the unfinished runs on this machine that living processes hold, of all people unless ``listed``."""
    return [
        (queued, run)
        for queued, run, owner, gone in _open_runs(store.everyones() if listed is None else listed)
        if owners.same_machine(owner) and not gone
    ]


def is_mine() -> list[tuple[float, Run]]:
    """Return the current person's :func:`unfinished` runs. No other runs are read, because pages ask often."""
    return unfinished(store.runs())


def runs_going(listed: Sequence[Run]) -> list[Run]:
    """Return those of these runs that living processes hold: the begun ones first, then in the order of queueing."""
    rows = [(queued, run) for queued, run, _, gone in _open_runs(listed) if not gone]
    rows.sort(key=lambda row: (not has_begun(row[1]), row[0], row[1].id))
    return [run for _, run in rows]


def runs_before(run: Run) -> list[Run]:
    """Return, in order, the unfinished runs of living processes on this machine that train before this one."""
    rows = unfinished()
    if all(other != run for _, other in rows):
        rows.append((time.time(), run))
    order = in_fair_order(rows)
    return order[: order.index(run)]


def mark_lost() -> list[str]:
    """Write a final event for this host's runs whose app or command is gone; return their ids. Nothing depends on it;
    those of other hosts are left alone, as silence may be the network's."""
    lost = []
    for _, run, owner, gone in _open_runs(store.everyones()):
        if gone and owners.here(owner) and not owners.running(owner):
            try:
                run.log.emit("lost", message=gone)
            except OSError:
                continue
            lost.append(run.id)
    return lost


# ----------------------------------------
# What a queued run waits for: the runs before it, their progress, and an estimate of its start.
#
# Estimates use measurements only: the steps of the run that trains now, and finished runs of the same model, method,
# task and batch here. Without any, there is no estimate.


@dataclass(frozen=True)
class Before:
    """A run that goes before another.

    Attributes:
        id: of this run, to link to it; spec: what it trains. Both are empty for another person's run in a class.
        status: also ``queued``, or its current phase. step, steps: how far it is.
        seconds_per_step: measured, of its own steps or of the latest run like it; ``None`` if there are neither.
        seconds: estimate until it has ended; ``None`` if no measurements allow one.
    """

    id: str
    spec: RunSpec | None
    status: Status
    step: int
    steps: int
    seconds_per_step: float | None
    seconds: float | None


def ahead(identity: str) -> list[Before]:
    """Return, in order, the runs before a queued one; none if it has had its turn. Raises RunError (no such run)."""
    run = store.get(identity)
    if run.status() is not Status.QUEUED:
        return []
    found = []
    for other in runs_before(run):
        try:
            found.append(_before(other))
        except (RunError, BadInput):
            continue  # deleted or damaged since: it holds up nobody
    return found


def starts_in(before: list[Before]) -> float | None:
    """Return the estimated seconds until a run after these starts; ``None`` if one has no estimate."""
    seconds = [each.seconds for each in before]
    return None if None in seconds else sum(each for each in seconds if each is not None)


def _before(run: Run) -> Before:
    spec, seen = run.spec, run.view()
    like = _like(spec)
    own = 1 / seen.steps_per_second if seen.steps_per_second else None
    per_step = own or (like[0] if like else None)
    who = asker()
    told = who is None or places.asker_of(run.folder).owner == who.owner
    left: float | None = None
    if per_step is not None:
        # While it has steps left, they are most of the wait; afterwards only a run like it says anything.
        left = (seen.steps - seen.step) * per_step
        stepped = latest(run.events(), "step")
        if like is None:
            left = left or None
        elif left > 0 or stepped is None:
            left += like[1]
        else:
            left = max(0.0, like[1] - max(0.0, time.time() - stepped["time"]))
    return Before(
        run.id if told else "", spec if told else None, seen.status, seen.step, seen.steps, per_step, left
    )


def _like(spec: RunSpec) -> tuple[float, float] | None:
    """Return the seconds per step, and those outside the steps, of the latest finished run that has this model, method,
    task, batch, held-out rows and length; ``None`` without one."""
    kind = attrgetter("model", "method", "task", "batch", "eval_rows", "max_length")
    for run in store.runs():
        try:
            if kind(run.spec) != kind(spec) or classify(run.events(), gone="") is not Status.DONE:
                continue
            events = run.events()
            seen = view(events, run.spec.steps, gone="")
        except (RunError, BadInput):
            continue  # damaged: it says nothing
        began = latest(events, "starting")
        if seen.steps_per_second and seen.ended and began:
            return 1 / seen.steps_per_second, max(0.0, seen.ended - began["time"] - seen.seconds)
    return None


# ----------------------------------------
# The number of runs by status, over all owners: for whoever operates the server.


def standing() -> Counter[str]:
    """Return the number of runs in this lab folder by status, ``damaged`` among them. Raises RunError."""
    found = Counter({str(status): 0 for status in Status} | {DAMAGED: 0})
    for run in store.everyones():
        try:
            found[str(run.ended() or run.status())] += 1
        except RunError:
            found[DAMAGED] += 1
    return found


# A killed command leaves a training process behind, which takes some seconds to notice or has not even begun, and
# the next command may want the run by then. A file lock, which the system releases with its process, keeps them
# apart; a child that starts late sees that the run was queued again since it was made, and leaves it alone.


HOLD_LOCK = ".training.lock"
WAIT = 30.0  # seconds: a process whose command was killed ends after its step (training.STOP_GRACE), once started


def turn_number(run: Run) -> float:
    """Return what identifies a run's latest turn: when it was queued. Raises RunError if unreadable."""
    return float((latest(run.events(), "queued") or {}).get("time", 0.0))


@contextmanager
def reopening(run: Run) -> Iterator[None]:
    """Hold the run while it is reset. Raises RunError if a process still writes it after :data:`WAIT` seconds."""
    lock = FileLock(run.folder / HOLD_LOCK)
    try:
        lock.acquire(timeout=WAIT)
    except Timeout:
        raise RunError(
            f"The earlier process of '{run.id}' has not ended yet. Try again in a moment."
        ) from None
    try:
        yield
    finally:
        lock.release()


def is_held(run: Run) -> bool:
    """Return whether a process holds the run, even if whoever started that process is gone."""
    if not (run.folder / HOLD_LOCK).exists():
        return False
    lock = FileLock(run.folder / HOLD_LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    lock.release()
    return False


# Never beside a training, which would distort it: if one starts meanwhile, the measurement is discarded.


_lock = threading.Lock()
_numbers = count()
_asked: list[Future[dict[str, Any]]] = []  # only the latest


def calibrating_refusal() -> str:
    """Return why the machine cannot be measured now; empty if it can."""
    if unfinished():
        return "A run is under way, so the machine's speed cannot be measured. Wait until the run ends."
    return ""


def calibrating_under_way() -> Future[dict[str, Any]] | None:
    """Return the latest measurement asked for, which may have ended; ``None`` if there was none."""
    return _asked[-1] if _asked else None


def begin_calibrating() -> Future[dict[str, Any]]:
    """Measure, and store the result; joins a measurement that is under way. The future raises RunError if a run is
    under way, OSError if nothing can be written."""
    with _lock:
        asked = calibrating_under_way()
        if asked is not None and not asked.done():
            return asked
        made: Future[dict[str, Any]] = Future()
        _asked[:] = [made]
        number = next(_numbers)
    problem = calibrating_refusal()
    if problem:
        made.set_exception(RunError(problem))
        return made
    worker = inspector.Inspector(threads=None)

    def settle(done: Future[dict[str, Any]]) -> None:
        worker.close()
        try:
            found = done.result()
            if unfinished():
                raise RunError("A run started during the measurement. Measure again when it has ended.")
            here.keep(found)
        except Exception as error:  # noqa: BLE001  whoever asked has to know
            made.set_exception(error)
        else:
            made.set_result(found)

    worker.submit(measured, number).add_done_callback(settle)
    return made


def measured(_: int) -> dict[str, Any]:
    """Run :func:`peft_lab.engine.timing.here.measure`; a new number each time avoids a cached answer."""
    return here.measure()
