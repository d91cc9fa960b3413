"""Remove what is older than the class keeps it: ended runs, sweeps, comparisons, uploads and inactive learners."""

from __future__ import annotations

import logging
import shutil
import threading
import time
from contextlib import suppress
from dataclasses import dataclass

from peft_lab.classroom import joining, places
from peft_lab.core.asking import Asker, acting_for, limits
from peft_lab.core.errors import PeftLabError
from peft_lab.runs import store
from peft_lab.runs.store import Run
from peft_lab.studies.compare.store import Comparison
from peft_lab.studies.sweeps.store import KeptSweep
from peft_lab.training.tasks import hub

EVERY = 3600.0  # seconds between clearings
_DAY = 24 * 3600.0
_log = logging.getLogger(__name__)


@dataclass
class Removed:
    """How many of each were removed; ``studies`` are sweeps and comparisons."""

    learners: int = 0
    runs: int = 0
    uploads: int = 0
    studies: int = 0


def clear(now: float | None = None) -> Removed:
    """Remove what is older than the class keeps it; return the counts. Failed removals are retried next time."""
    at = time.time() if now is None else now
    before, removed = at - limits().days * _DAY, Removed()
    for left in (places.shared() / places.FOLDER).glob(".gone-*"):
        shutil.rmtree(left, ignore_errors=True)
    for owner in places.owners():
        with acting_for(Asker(owner)), suppress(OSError, PeftLabError):
            if joining.learner_of(owner).seen < before and not any(_going(run) for run in store.runs()):
                joining.forget(owner)
                removed.learners += 1
                continue
            for run in store.runs():
                if _changed(run) < before and not _going(run):
                    store.remove(run)
                    removed.runs += 1
            for study in (*KeptSweep.stored(), *Comparison.stored()):
                # a study writes into its folder on each request and while it runs
                touched = max((file.stat().st_mtime for file in study.folder.iterdir()), default=0.0)
                if touched < before and not study.running:
                    shutil.rmtree(study.folder)
                    removed.studies += 1
            removed.uploads += hub.remove_unused(before)
    return removed


def _going(run: Run) -> bool:
    try:
        return not run.status().final
    except PeftLabError:
        return False  # damaged: no process is training it


def _changed(run: Run) -> float:
    """Return when the run last wrote anything, in seconds since 1970."""
    return max((file.stat().st_mtime for file in (run.folder, run.log.path) if file.exists()), default=0.0)


def start() -> None:
    """Clear now and every hour, in a daemon thread."""

    def work() -> None:
        while True:
            try:
                clear()
            except Exception:  # noqa: BLE001  a disk that is full now may have room in an hour
                _log.exception("old data of the class could not be removed")
            time.sleep(EVERY)

    threading.Thread(target=work, name="class-expiry", daemon=True).start()
