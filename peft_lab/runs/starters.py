"""Whose run it is: which browser asked for it, kept in the run's folder, so that a page opened anew finds its own."""

from __future__ import annotations

import json
from contextlib import suppress

from peft_lab.runs.store import Run, write_json

FILE = "started_by.json"


def note(run: Run, mark: str) -> None:
    """Keep that the browser with this mark started the run. A run trains no worse where that cannot be written."""
    with suppress(OSError):
        write_json(run.folder / FILE, {"browser": mark})


def started_by(run: Run) -> str | None:
    """The mark of the browser that started the run; ``None`` for one from a command line, or of a damaged note."""
    try:
        found = json.loads((run.folder / FILE).read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    mark = found.get("browser") if isinstance(found, dict) else None
    return mark if isinstance(mark, str) else None
