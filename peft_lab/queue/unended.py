"""All runs on this disk that have not ended, whoever queued them: which go before another, and which are lost."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from peft_lab.errors import RunError
from peft_lab.queue import fair
from peft_lab.runs import owners, store
from peft_lab.runs.events import Event
from peft_lab.runs.owners import Owner
from peft_lab.runs.store import Run
from peft_lab.runs.view import has_ended

_ended: dict[Path, int] = {}  # folders of runs that have, unless they go on: then their stamp is another


def _everyones() -> list[Run]:
    listed = store.everyones()
    for folder in _ended.keys() - {run.folder for run in listed}:
        _ended.pop(folder, None)
    return listed


def _open_runs(listed: Sequence[Run]) -> list[tuple[float, Run, Owner, str]]:
    """Runs without a final event: when they were queued, their owner, and why it is gone. Those whose owner cannot be
    read, and those that an engine such as Ray carries out, are left out: they hold up nobody here."""
    rows = [_open_run(run) for run in listed if _ended.get(run.folder) != run.stamp()]
    return [row for row in rows if row is not None]


def _open_run(run: Run) -> tuple[float, Run, Owner, str] | None:
    stamp = run.stamp()
    try:
        seen = run.events()
    except RunError:
        return None  # it will be read when it can be
    if has_ended(seen):
        _ended[run.folder] = stamp
        return None
    owner = run.owner(seen)
    queued: Event = next((event for event in reversed(seen) if event["type"] == "queued"), {"time": 0.0})
    return None if owner is None or "carrier" in queued else (queued["time"], run, owner, run.gone(seen))


def unfinished() -> list[tuple[float, Run]]:
    """Runs on this machine that are held by a living process and have not ended, with the time they were queued."""
    return _held(_everyones())


def mine() -> list[tuple[float, Run]]:
    """Those of :func:`unfinished` that belong to who asks. Nobody else's are looked at: pages ask at every turn."""
    return _held(store.runs())


def going(listed: Sequence[Run]) -> list[Run]:
    """Those of these runs that have not ended and are held by a living process, wherever it is: first those that have
    begun, then in the order in which they were queued."""
    rows = [(queued, run) for queued, run, _, gone in _open_runs(listed) if not gone]
    rows.sort(key=lambda row: (not fair.has_begun(row[1]), row[0], row[1].id))
    return [run for _, run in rows]


def _held(listed: Sequence[Run]) -> list[tuple[float, Run]]:
    return [
        (queued, run)
        for queued, run, owner, gone in _open_runs(listed)
        if owners.same_machine(owner) and not gone
    ]


def before(run: Run) -> list[Run]:
    """Unfinished runs on this machine, of processes that live, that train before this one; the next one first."""
    rows = unfinished()
    if all(other != run for _, other in rows):
        rows.append((time.time(), run))
    order = fair.in_turn(rows)
    return order[: order.index(run)]


def mark_lost() -> list[str]:
    """Give runs of this host whose app or command is gone their final event, where the disk takes it; their ids.

    Nothing depends on it (:func:`~peft_lab.runs.view.classify`): it keeps what is known from depending on the process
    table. Runs of other hosts are left alone, as silence may be the network's.
    """
    lost = []
    for _, run, owner, gone in _open_runs(_everyones()):
        if gone and owners.here(owner) and not owners.running(owner):
            try:
                run.log.emit("lost", message=gone)
            except OSError:
                continue
            lost.append(run.id)
    return lost
