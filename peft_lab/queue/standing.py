"""How many runs there are and how they stand, of all owners together: numbers for whoever watches over the server."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from peft_lab.errors import RunError
from peft_lab.runs import store
from peft_lab.runs.view import Status

DAMAGED = "damaged"
_ended: dict[Path, tuple[int, str]] = {}  # a run's stamp and how it ended: most are looked at once


def standing() -> Counter[str]:
    """Runs in this lab folder by status, every status named; ``damaged`` are those that cannot be read.

    Raises:
        RunError: the runs cannot be listed.
    """
    found = Counter({str(status): 0 for status in Status} | {DAMAGED: 0})
    listed = store.everyones()
    for run in listed:
        stamp, known = run.stamp(), _ended.get(run.folder)
        if known is not None and known[0] == stamp:
            found[known[1]] += 1
            continue
        try:
            status = run.status()
        except RunError:
            found[DAMAGED] += 1
            continue
        found[str(status)] += 1
        if status.final and status is not Status.LOST:
            _ended[run.folder] = stamp, str(status)
    for gone in _ended.keys() - {run.folder for run in listed}:
        _ended.pop(gone, None)
    return found
