"""Whose run is next: owners take turns, and each owner's runs keep their order.

Everybody's first waiting run comes before anybody's second; of those, first the owner who was served longest ago. The
order is read from the disk, so that all processes find the same. With one owner it is: first come, first served.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from contextlib import suppress

from peft_lab.classroom import places
from peft_lab.errors import RunError
from peft_lab.runs.store import Run
from peft_lab.runs.view import Status, classify

Waiting = tuple[float, Run]  #: when it was queued, and the run
SERVED = ".served"  # touched in an owner's folder when a run of theirs starts


def in_turn(rows: Iterable[Waiting]) -> list[Run]:
    """Unfinished runs in the order in which they train; those that train already stand before all others."""
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
    """Keep that the owner of this run has their turn now. Where nobody has joined a class there is one owner, and
    nothing to keep."""
    if (places.shared() / places.FOLDER).is_dir():
        with suppress(OSError):
            (places.of(places.asker_of(run.folder).owner) / SERVED).touch()


def _served(owner: str) -> float:
    try:
        return (places.of(owner) / SERVED).stat().st_mtime
    except OSError:
        return 0.0


def has_begun(run: Run) -> bool:
    """Whether it waits no more; not for one that cannot be read."""
    try:
        return classify(run.events(), gone="") is not Status.QUEUED
    except RunError:
        return False
