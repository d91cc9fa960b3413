"""The rows of a dataset of the hub as a file of the learner's own, named by its content."""

from __future__ import annotations

import hashlib
import time
from contextlib import suppress

from peft_lab.classroom import limits, places
from peft_lab.tasks import hub, kept_files

_DAY = 24 * 3600.0


def kept(text: str) -> tuple[str, hub.Fetched]:
    """Fetch a dataset's rows; the path of the file that holds them, and what was fetched. Rows that were not asked
    for during as many days as a class keeps an upload are removed then: the hub has them, and a run its own copy.

    Raises what :func:`peft_lab.tasks.hub.fetch` raises, and OSError.
    """
    found = hub.fetch(text)
    folder = places.mine() / kept_files.DATASETS
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{hashlib.sha256(found.data).hexdigest()[:12]}-{found.name}"
    if path.exists():
        path.touch()
    else:
        path.write_bytes(found.data)
    with suppress(OSError):  # the next time, then
        kept_files.remove_unused(time.time() - limits.limits().days * _DAY, (kept_files.DATASETS,))
    return str(path), found
