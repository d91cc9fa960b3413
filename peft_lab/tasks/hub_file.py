"""The rows of a dataset of the hub as a file of the learner's own, named by its content."""

from __future__ import annotations

import hashlib

from peft_lab.classroom import places
from peft_lab.tasks import hub

FOLDER = "datasets"


def kept(text: str) -> tuple[str, hub.Fetched]:
    """Fetch a dataset's rows; the path of the file that holds them, and what was fetched.

    Raises what :func:`peft_lab.tasks.hub.fetch` raises, and OSError.
    """
    found = hub.fetch(text)
    folder = places.mine() / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{hashlib.sha256(found.data).hexdigest()[:12]}-{found.name}"
    if not path.exists():
        path.write_bytes(found.data)
    return str(path), found
