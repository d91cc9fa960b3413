"""A run's event file: one JSON object a line, written as things happen, read while it grows.

Every event has ``type`` and ``time`` (seconds since 1970). Types and their fields:

    queued      owner {pid, started}: the process whose queue holds the run
    starting    the child is being made
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

import json
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

Event = dict[str, Any]


class EventLog:
    """Appends events. A line is written in one piece, so a reader in another process sees it whole or not yet."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def emit(self, kind: str, **fields: Any) -> None:
        """Raises TypeError for a field that is not JSON-able, ValueError for a number that is not finite."""
        line = json.dumps({"time": time.time(), "type": kind, **fields}, allow_nan=False) + "\n"
        descriptor = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            # A process killed in the middle of a line leaves a stump; it must not swallow the next event.
            size = os.fstat(descriptor).st_size
            stump = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
            os.write(descriptor, (("\n" if stump else "") + line).encode())
        finally:
            os.close(descriptor)


class EventReader:
    """Reads what was added since the last call."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.offset = 0

    def read(self) -> list[Event]:
        """New events in order; none while the file does not exist. Stumps of lines are left out."""
        try:
            with self.path.open("rb") as file:
                file.seek(self.offset)
                data = file.read()
        except FileNotFoundError:
            return []
        whole, newline, _ = data.rpartition(b"\n")
        self.offset += len(whole) + len(newline)
        return list(_parse(whole.split(b"\n")))


def read_events(path: Path) -> list[Event]:
    """All events of a file."""
    return EventReader(path).read()


def _parse(lines: Iterable[bytes]) -> Iterable[Event]:
    for line in lines:
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if (
            isinstance(event, dict)
            and isinstance(event.get("type"), str)
            and isinstance(event.get("time"), float)
        ):
            yield event
