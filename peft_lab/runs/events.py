"""Write and read a run's event file: one JSON object per line, appended as things happen, readable while it grows.

Every event has ``type`` and ``time`` (seconds since 1970). Types and their fields:

    queued      owner {pid, started, host, name} (owners.py): the process whose queue holds the run; carrier: the engine
                that carries it out, such as Ray; asked: the turn that engine was asked for, if it took the run over
    expected    seconds, plain, parts {}, where: the forecast made before it started (forecast.py)
    starting    the child is being made
    worker      owner {pid, started, host, name}: the child; niceness, as the system reports it
    phase       name: what the child is doing before the first step
    inputs      files {}: SHA-256 of what the run is made from
    ready       trainable, total, head, dtype, device, rows, learning_rate
    step        step (from 1), loss, lr, grad_norm, tokens (real ones in the batch), seconds (of this step), tracked
    evaluating  which: tuned or base; done, total: rows; right: answers so far, null if they are right by degrees
    evaluated   which, metrics {name: share}, loss, rows, seconds
    probe       which, answers [{text, answer, scores}]. If an earlier run has scored the same base, its probe and
                evaluated come before ready, with scored_by: that run's id
    inference   unit (token or row), amount, base_seconds, tuned_seconds, added_seconds of one unit, rounds
    unrelated   which, loss (per token), tokens, rows, task: on text unrelated to the task
    memory      of one step: peak_bytes, parts {}, detail {}, timeline [], batches.size_of, attention; later
                process_peak_bytes and, on a GPU, device_allocated_bytes and device_reserved_bytes
    checkpoint  step, bytes, seconds: the state was saved (checkpoints.py)
    done | stopped | failed | lost   message

If a run is resumed after its end, its events are cut back to its latest checkpoint, and another ``queued`` follows with
the step it resumes from (``continued``); then come ``starting``, ``worker`` and so on once more.
"""

from __future__ import annotations

import errno
import json
import os
import sys
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from peft_lab.core import disk
from peft_lab.core.content import misfit
from peft_lab.runs import owners

Event = dict[str, Any]
_TAIL = 256  # bytes before the offset that must be unchanged to read on
FOLLOWED = 32  # files whose events this process caches; those of 300 steps take 0.2 MB

# Final events that could not be written, by file: readers in this process see them all the same.
_unwritten: dict[Path, Event] = {}


class EventLog:
    """Appends events. Each line is written in one piece, so other processes read all of it or nothing."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def emit(self, kind: str, **fields: Any) -> None:
        """Append an event. Raises TypeError if a field is not JSON, ValueError if not finite, OSError."""
        self._append({"time": time.time(), "type": kind, **fields})

    def end(self, kind: str, **fields: Any) -> bool:
        """Append a final event; if the disk does not take it, remember it for :func:`write_unwritten`."""
        event = {"time": time.time(), "type": kind, **fields}
        try:
            self._append(event)
        except OSError:
            _unwritten.setdefault(self.path, event)
            return False
        return True

    def _append(self, event: Event) -> None:
        line = json.dumps(event, allow_nan=False) + "\n"
        descriptor = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            # A process killed within a line leaves it incomplete: start the next event on a new line.
            size = os.fstat(descriptor).st_size
            stump = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
            data = (("\n" if stump else "") + line).encode()
            if os.write(descriptor, data) < len(data):
                # Readers skip an incomplete last line; the next event starts a line of its own.
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
        finally:
            os.close(descriptor)


def cut(path: Path, size: int, event: Event, without: frozenset[str] = frozenset()) -> None:
    """Keep a file's first ``size`` bytes except events of types ``without``, and append ``event``, in one step."""
    line = json.dumps({"time": time.time(), **event}, allow_nan=False) + "\n"
    with disk.replacing(path) as scratch, path.open("rb") as file, scratch.open("wb") as other:
        lines = file.read(size).split(b"\n") if size else []
        kept = [each for each in lines if not any(e["type"] in without for e in _parse([each]))]
        other.write(b"\n".join([*kept[:-1], line.encode()]) if kept else line.encode())
        other.flush()
        os.fsync(other.fileno())
    _unwritten.pop(path, None)


class EventReader:
    """Reads a growing file's events, each line once, whichever thread asks; a replaced or changed file is read anew."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._forget()

    def _forget(self) -> None:
        self._stamp: tuple[int, int, int] | None = (
            None  # inode, size and time of the last change, as last read
        )
        self._offset, self._tail = 0, b""  # where the complete lines read so far end, and their last bytes
        self._events: tuple[Event, ...] = ()

    def read(self) -> tuple[Event, ...]:
        """Return the events of whole lines, the same tuple if nothing was appended; empty without a file."""
        with self._lock:
            try:
                if _stamp(self.path.stat()) != self._stamp:
                    self._read_on()
            except FileNotFoundError:
                self._forget()
            unwritten = _unwritten.get(self.path)
            return self._events if unwritten is None else (*self._events, unwritten)

    def _read_on(self) -> None:
        with self.path.open("rb") as file:
            stamp = _stamp(os.fstat(file.fileno()))
            known = self._stamp is not None and stamp[0] == self._stamp[0] and stamp[1] > self._stamp[1]
            file.seek(self._offset - len(self._tail))
            if not known or file.read(len(self._tail)) != self._tail:
                self._forget()
                file.seek(0)
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1]
        self._offset += len(whole)
        self._tail = (self._tail + whole)[-_TAIL:]
        self._events += tuple(_parse(whole.split(b"\n")))
        self._stamp = stamp


def _stamp(found: os.stat_result) -> tuple[int, int, int]:
    return found.st_ino, found.st_size, found.st_mtime_ns


_reader = lru_cache(maxsize=FOLLOWED)(EventReader)


def read_events(path: Path) -> tuple[Event, ...]:
    """Return all events of a file; this process reads only what is new in it. Raises OSError."""
    return _reader(path).read()


def latest(events: Sequence[Event], kind: str, which: str | None = None) -> Event | None:
    """Return the latest event of a type, and of one of the models if ``which`` names it; ``None`` without one."""
    hits = (e for e in reversed(events) if e["type"] == kind and (which is None or e.get("which") == which))
    return next(hits, None)


def unwritten() -> list[Path]:
    """Return the folders of the runs whose final event the disk has not taken yet."""
    return [path.parent for path in _unwritten]


def write_unwritten() -> None:
    """Write the final events that the disk did not take before, as far as it takes them now."""
    for path, event in list(_unwritten.items()):
        try:
            if path.parent.is_dir():
                EventLog(path)._append(event)
        except OSError:
            continue
        del _unwritten[path]


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


def _named(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Build a dict with interned names: copies for every line would be half of the memory of events."""
    return {sys.intern(name): value for name, value in pairs}


def _parse(lines: Iterable[bytes]) -> Iterable[Event]:
    for line in lines:
        try:
            event = disk.parse_json(line, parse_constant=_no_number, object_pairs_hook=_named)
        except ValueError:
            continue
        if (
            isinstance(event, dict)
            and isinstance(event.get("type"), str)
            and isinstance(event.get("time"), float)
        ):
            yield event


# ----------------------------------------
# The fields of each event that are read, and their types: files may be cut or edited, and disks fail.


def event_damage(events: Sequence[Event], ended: bool) -> str:
    """Describe the first event with a known field that cannot be read; empty if all can."""
    for number, event in enumerate(events, 1):
        wrong = misfit(_KINDS.get(event["type"], {}), event)
        if wrong or not all(map(_sound, event["answers"] if event["type"] == "probe" else ())):
            return f"event {number} ({event['type']}) has no valid '{wrong or 'answers'}'"
        if (
            not ended
            and event["type"] == "queued"
            and "owner" in event
            and owners.read(event["owner"]) is None
        ):
            return f"event {number} (queued) has no valid 'owner'"
    return ""


def _sound(answer: Mapping[str, Any]) -> bool:
    """Return whether an answer has its fields and, if there are scores, one for its label; pages show it."""
    scores = answer.get("scores") or {}
    return not misfit(_ANSWER, answer) and (not scores or answer["answer"] in scores)


_ANSWER = {"text": str, "answer": str, "scores": dict[str, float] | None}
_SIZES = ("peak_bytes", "process_peak_bytes", "device_allocated_bytes", "device_reserved_bytes", "rows", "length",
          "kept", "predicted")  # fmt: skip
_NUMBERS = dict.fromkeys(("loss", "rows", "seconds"), float)
_KINDS: Mapping[str, Mapping[str, Any]] = {
    "expected": {"seconds": float, "plain": float, "where": str},
    "phase": {"name": str},
    "step": dict.fromkeys(("loss", "lr", "seconds", "tokens"), float),
    "evaluating": {"which": str, "done": float, "total": float, "right": float | None},
    "evaluated": {"which": str, "metrics": dict[str, float], **_NUMBERS},
    "probe": {"which": str, "answers": list[dict[str, Any]]},
    "inference": {"unit": str, **dict.fromkeys(("base_seconds", "tuned_seconds", "added_seconds"), float)},
    "unrelated": {"which": str, "loss": float},
    "ready": {
        **dict.fromkeys(("trainable", "head", "total", "rows", "learning_rate"), float | None),
        **dict.fromkeys(("dtype", "device"), str | None),
    },
    "memory": {
        **dict.fromkeys(_SIZES, float | None),
        "parts": dict[str, float] | None,
        "detail": dict | None,
        "timeline": list | None,
    },
    **{
        ending: {"message": str | None, "works": dict[str, float] | None}
        for ending in ("done", "stopped", "failed", "lost")
    },
}
