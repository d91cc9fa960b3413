"""What runs on a cluster's node: one run, in a process that trains nothing else."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout

from peft_lab.assets import store as assets
from peft_lab.errors import RunError
from peft_lab.runs import owners

FOLDER = "elsewhere"  # in the node's own lab folder: runs that came by a URL, while they are here
_LOCK = ".here.lock"


def carry(folder: str, home: str, turn: float, threads: int) -> str:
    """A run whose folder the node sees; how it stands then. Raises RunError where it does not see it."""
    from peft_lab.queue import elsewhere

    if not Path(folder).is_dir():
        raise RunError(
            f"This node does not see {folder}: the lab folder has to be shared under the same path, or runs have to go "
            "by a URL (--store)."
        )
    return elsewhere.carry(folder, home, turn, threads)


def carry_by_url(url: str, run: str, turn: float, threads: int) -> str:
    """A run that was handed over at a URL, trained with the weights of the node's own lab folder; how it stands then.

    Raises:
        RunError: there is no such run. BadInput: nothing can be read or written there.
    """
    from peft_lab.queue import elsewhere
    from peft_lab.sweeping import by_url

    home = assets.home()
    top = home / FOLDER
    top.mkdir(parents=True, exist_ok=True)
    _clear(top)
    scratch = Path(tempfile.mkdtemp(dir=top))
    try:
        with FileLock(scratch / _LOCK):
            carried = by_url.begun(by_url.turn_of(by_url.place(url), run, turn), scratch / run)
            owners.Heart(lambda: [carried.folder]).start()
            with carried.kept_up():
                return elsewhere.carry(str(carried.folder), str(home), turn, threads)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _clear(top: Path) -> None:
    """Remove what processes left that were killed."""
    for folder in top.iterdir():
        with suppress(OSError, Timeout):
            lock = FileLock(folder / _LOCK)
            if (folder / _LOCK).exists():
                lock.acquire(timeout=0)
                lock.release()
                shutil.rmtree(folder)
