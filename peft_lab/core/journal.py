"""What a server did, one JSON line an event, for whoever runs it: ``PEFT_LAB_LOG`` names a file, or ``-`` for stderr.

A line holds what :data:`FACTS` lists and nothing else: no name that a learner gave, no code, no cookie, nothing that
anybody wrote or uploaded. Of an error it holds the type and the place in the code, not the message, which may quote.
Python's own ``logging`` carries it: one formatter is all that a library for this would add.
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
#: What can be said of an event, besides its time, level and error.
FACTS = {
    "run", "status", "method", "model", "steps", "seconds", "page", "role", "reason", "count", "version", "of_class",
}  # fmt: skip
_NAME = "peft_lab"
_log = logging.getLogger(f"{_NAME}.events")


def note(event: str, **facts: str | int | float | bool) -> None:
    """Write down that something happened. Does nothing where no log was asked for.

    Raises:
        ValueError: a fact that is not in :data:`FACTS`.
    """
    unknown = facts.keys() - FACTS
    if unknown:
        raise ValueError(f"{sorted(unknown)} cannot stand in the log.")
    _log.info(event, extra={"facts": facts})


def note_error(event: str, error: BaseException, **facts: str | int | float | bool) -> None:
    """The same for what went wrong. Raises ValueError as :func:`note`."""
    if facts.keys() - FACTS:
        raise ValueError(f"{sorted(facts.keys() - FACTS)} cannot stand in the log.")
    _log.error(event, exc_info=error, extra={"facts": facts})


def begin() -> None:
    """Write to where ``PEFT_LAB_LOG`` says, once for a process. Raises BadInput for a file that cannot be written."""
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
    """Raises BadInput where nothing can be written to what :data:`VARIABLE` names. ``named``: how, for the sentence."""
    if where != "-":
        try:
            disk.require_writable(Path(where))
        except OSError as error:
            raise BadInput(
                f"{named}{where} cannot be written to ({error.strerror or error}).", "log"
            ) from error


class Lines(logging.Formatter):
    """A record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """Of other modules' records the words before anything is put into them: what is put in may be somebody's."""
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
