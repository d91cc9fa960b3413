"""Write a server's log for its operator, one JSON line per event. ``PEFT_LAB_LOG`` names a file, or ``-`` for stderr.

A line holds the facts listed in :data:`FACTS` and nothing else: no learner's name, no code, no cookie, no text that
anybody wrote or uploaded. Of an error it holds the type and the place in the code but not the message, which may quote
such text. Python's own ``logging`` does the work; a library for this would add no more than a formatter.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import traceback
from datetime import UTC, datetime
from pathlib import Path

from peft_lab.core import disk
from peft_lab.core.errors import BadInput

VARIABLE = "PEFT_LAB_LOG"
#: The facts that an event may have, besides its time, level and error.
FACTS = {
    "run", "status", "method", "model", "steps", "seconds", "page", "role", "reason", "count", "version", "of_class",
}  # fmt: skip
_NAME = "peft_lab"
_log = logging.getLogger(f"{_NAME}.events")


def note(event: str, error: BaseException | None = None, /, **facts: str | int | float | bool) -> None:
    """Log an event. Does nothing if no log was asked for. Raises ValueError: a fact that is not in :data:`FACTS`."""
    if unknown := facts.keys() - FACTS:
        raise ValueError(f"{sorted(unknown)} must not be in the log.")
    level = logging.INFO if error is None else logging.ERROR
    _log.log(level, event, exc_info=error, extra={"facts": facts})


def begin() -> None:
    """Start writing to the file that ``PEFT_LAB_LOG`` names, once a process. Raises BadInput: the file cannot be
    written."""
    where = os.environ.get(VARIABLE, "")
    root = logging.getLogger(_NAME)
    if not where or any(isinstance(each.formatter, Lines) for each in root.handlers):
        return
    require(where, f"{VARIABLE}=")
    handler = logging.StreamHandler(sys.stderr) if where == "-" else logging.FileHandler(where, "a", "utf-8")
    handler.setFormatter(Lines())
    root.addHandler(handler)
    root.setLevel(logging.INFO)


def require(where: str, named: str) -> None:
    """Check that the log file at ``where``, ``named`` so in the message, can be written. Raises BadInput if not."""
    if where != "-":
        try:
            disk.require_writable(Path(where))
        except OSError as error:
            raise BadInput(
                f"{named}{where} cannot be written to ({error.strerror or error}).", "log"
            ) from error


class Lines(logging.Formatter):
    """Format a log record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line of JSON, other modules' without arguments, which may hold a user's text."""
        said: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": str(record.msg),
            **getattr(record, "facts", {}),
        }
        if record.name != _log.name:
            said["logger"] = record.name
        if record.exc_info and record.exc_info[1] is not None:
            error = record.exc_info[1]
            said["error"] = type(error).__name__
            said["at"] = [
                f"{Path(frame.filename).name}:{frame.lineno} {frame.name}"
                for frame in traceback.extract_tb(error.__traceback__)[-6:]
            ]
        return json.dumps(said, ensure_ascii=False)
