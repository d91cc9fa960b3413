"""A run's event file: one JSON object a line, written as things happen, read while it grows.

Every event has ``type`` and ``time`` (seconds since 1970). Types and their fields:

    queued      owner {pid, started, host, name} (owners.py): the process whose queue holds the run
    starting    the child is being made
    worker      owner {pid, started, host, name}: the child
    phase       name: what the child is busy with before the first step
    ready       trainable, total, head, dtype, device, rows, values, learning_rate
    step        step (from 1), loss, lr, grad_norm, tokens (real ones in the batch), seconds (of this step), tracked
    evaluating  which: tuned or base; done, total: rows
    evaluated   which, metrics {name: share}, loss, rows, seconds
    probe       which, answers [{text, answer, scores}]
    inference   unit (token or row), amount, base_seconds, tuned_seconds, added_seconds of one unit, rounds (beyond.py)
    unrelated   which, loss (per token), tokens, rows, task: of text that has nothing to do with the task
    memory      of one step: peak_bytes, parts {}, detail {}, timeline [], and batches.size_of; later process_peak_bytes
                and, on a GPU, device_allocated_bytes and device_reserved_bytes
    done | stopped | failed | lost   message
"""

from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

Event = dict[str, Any]


# What could not be written: readers of this process see it all the same. By file.
_untold: dict[Path, Event] = {}


class EventLog:
    """Appends events. A line is written in one piece, so a reader in another process sees it whole or not yet."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def emit(self, kind: str, **fields: Any) -> None:
        """Raises TypeError for a field that is not JSON-able, ValueError for a number that is not finite, OSError."""
        self._append({"time": time.time(), "type": kind, **fields})

    def end(self, kind: str, **fields: Any) -> bool:
        """Emit a final event; ``False`` where the disk does not take it.

        Then this process knows of it, and :func:`tell_untold` writes it down when there is room again.
        """
        event = {"time": time.time(), "type": kind, **fields}
        try:
            self._append(event)
        except OSError:
            _untold.setdefault(self.path, event)
            return False
        return True

    def _append(self, event: Event) -> None:
        line = json.dumps(event, allow_nan=False) + "\n"
        descriptor = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            # A process killed in the middle of a line leaves a stump; it must not swallow the next event.
            size = os.fstat(descriptor).st_size
            stump = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
            data = (("\n" if stump else "") + line).encode()
            if os.write(descriptor, data) < len(data):
                # A stump at the end of the file is read by nobody; the next event starts a line of its own.
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
        finally:
            os.close(descriptor)


class EventReader:
    """Reads what was added since the last call."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.offset = 0
        self._told = False

    def read(self) -> list[Event]:
        """New events in order; none while the file does not exist. Stumps of lines are left out. Raises OSError."""
        try:
            with self.path.open("rb") as file:
                file.seek(self.offset)
                data = file.read()
        except FileNotFoundError:
            return []
        whole, newline, _ = data.rpartition(b"\n")
        self.offset += len(whole) + len(newline)
        events = list(_parse(whole.split(b"\n")))
        untold = _untold.get(self.path)
        if untold is not None and not self._told:
            self._told = True
            events.append(untold)
        return events


def read_events(path: Path) -> list[Event]:
    """All events of a file."""
    return EventReader(path).read()


def tell_untold() -> None:
    """Write down the endings that the disk did not take before, as far as it takes them now."""
    for path, event in list(_untold.items()):
        try:
            if path.parent.is_dir():
                EventLog(path)._append(event)
        except OSError:
            continue
        del _untold[path]


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


def _parse(lines: Iterable[bytes]) -> Iterable[Event]:
    for line in lines:
        try:
            event = json.loads(line, parse_constant=_no_number)
        except (ValueError, RecursionError):
            continue
        if (
            isinstance(event, dict)
            and isinstance(event.get("type"), str)
            and isinstance(event.get("time"), float)
        ):
            yield event
