"""A run's event file: one JSON object a line, written as things happen, read while it grows.

Every event has ``type`` and ``time`` (seconds since 1970). Types and their fields:

    queued      owner {pid, started, host, name} (owners.py): the process whose queue holds the run; carrier, where
                an engine such as Ray carries it out; asked, where that took it over again: the turn it was asked for
    expected    seconds, plain, parts {}, where: what was said of it before it started (forecast.py)
    starting    the child is being made
    worker      owner {pid, started, host, name}: the child; niceness, as the system has it
    phase       name: what the child is busy with before the first step
    ready       trainable, total, head, dtype, device, rows, values, learning_rate
    step        step (from 1), loss, lr, grad_norm, tokens (real ones in the batch), seconds (of this step), tracked
    evaluating  which: tuned or base; done, total: rows
    evaluated   which, metrics {name: share}, loss, rows, seconds
    probe       which, answers [{text, answer, scores}]; like evaluated it is told before ready, with scored_by, the id
                of that run, where a run before has scored the very same base
    inference   unit (token or row), amount, base_seconds, tuned_seconds, added_seconds of one unit, rounds
    unrelated   which, loss (per token), tokens, rows, task: of text that has nothing to do with the task
    memory      of one step: peak_bytes, parts {}, detail {}, timeline [], and sizes.size_of; later process_peak_bytes
                and, on a GPU, device_allocated_bytes and device_reserved_bytes
    checkpoint  step, bytes, seconds: the state was kept (checkpoints.py)
    done | stopped | failed | lost   message

A run that goes on after its end has its events cut back to its latest state, and another ``queued`` with the step it
goes on from (``continued``); then come ``starting``, ``worker`` and so on once more.
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

from peft_lab.core.kinds import misfit
from peft_lab.runs import owners

Event = dict[str, Any]
_TAIL = 256  # bytes by which a file is known again
FOLLOWED = 32  # files whose events this process keeps; those of 300 steps take 0.2 MB

# What could not be written: readers of this process see it all the same. By file.
_unwritten: dict[Path, Event] = {}


class EventLog:
    """Appends events. A line is written in one piece, so a reader in another process sees it whole or not yet."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def emit(self, kind: str, **fields: Any) -> None:
        """Raises TypeError for a field that is not JSON-able, ValueError for a number that is not finite, OSError."""
        self._append({"time": time.time(), "type": kind, **fields})

    def end(self, kind: str, **fields: Any) -> bool:
        """Emit a final event; ``False`` where the disk does not take it.

        Then this process knows of it, and :func:`write_unwritten` writes it down when there is room again.
        """
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
            # A process killed in the middle of a line leaves a stump; it must not swallow the next event.
            size = os.fstat(descriptor).st_size
            stump = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
            data = (("\n" if stump else "") + line).encode()
            if os.write(descriptor, data) < len(data):
                # A stump at the end of the file is read by nobody; the next event starts a line of its own.
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
        finally:
            os.close(descriptor)


def cut(path: Path, size: int, event: Event, without: frozenset[str] = frozenset()) -> None:
    """Keep the first ``size`` bytes of a file but events of the types ``without``, and append ``event``, in one step.

    Raises OSError.
    """
    line = json.dumps({"time": time.time(), **event}, allow_nan=False) + "\n"
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with path.open("rb") as file, scratch.open("wb") as other:
            lines = file.read(size).split(b"\n") if size else []
            kept = [each for each in lines if not any(e["type"] in without for e in _parse([each]))]
            other.write(b"\n".join([*kept[:-1], line.encode()]) if kept else line.encode())
            other.flush()
            os.fsync(other.fileno())
        scratch.replace(path)
    except OSError:
        scratch.unlink(missing_ok=True)
        raise
    _unwritten.pop(path, None)


class EventReader:
    """All events of a file as it grows: each line is read and parsed once, whichever thread asks.

    A file that was replaced, cut or changed before its end is read anew.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._forget()

    def _forget(self) -> None:
        self._stamp: tuple[int, int, int] | None = (
            None  # inode, size and time of the last change, as last read
        )
        self._offset, self._tail = 0, b""  # of the whole lines that were read: where they end, and how
        self._events: tuple[Event, ...] = ()

    def read(self) -> tuple[Event, ...]:
        """The events in order, the very tuple of before where nothing was added; none while the file does not exist.

        Stumps of lines are left out. Raises OSError.
        """
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
    """All events of a file, of which this process reads only what it has not read yet. Raises OSError."""
    return _reader(path).read()


def unwritten() -> list[Path]:
    """Folders of the runs whose ending this process knows and the disk has not taken yet."""
    return [path.parent for path in _unwritten]


def write_unwritten() -> None:
    """Write down the endings that the disk did not take before, as far as it takes them now."""
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
    """One object for each name: those of every line anew are half of what a server holds of ended runs."""
    return {sys.intern(name): value for name, value in pairs}


def _parse(lines: Iterable[bytes]) -> Iterable[Event]:
    for line in lines:
        try:
            event = json.loads(line, parse_constant=_no_number, object_pairs_hook=_named)
        except (ValueError, RecursionError):
            continue
        if (
            isinstance(event, dict)
            and isinstance(event.get("type"), str)
            and isinstance(event.get("time"), float)
        ):
            yield event


# ----------------------------------------
# What is read of each event, and of which kind it has to be: a file may have been cut or edited, a disk be bad.


def event_damage(events: Sequence[Event], ended: bool) -> str:
    """What is wrong with the first event that cannot be read; empty when all can.

    Types and fields that are not known here are left alone, and who held a run that has ``ended`` matters no more.
    """
    for number, event in enumerate(events, 1):
        wrong = misfit(_KINDS.get(event["type"], {}), event)
        if wrong or not all(map(_sound, event["answers"] if event["type"] == "probe" else ())):
            return f"event {number}, {event['type']}, has no usable '{wrong or 'answers'}'"
        if (
            not ended
            and event["type"] == "queued"
            and "owner" in event
            and owners.read(event["owner"]) is None
        ):
            return f"event {number}, queued, has no usable 'owner'"
    return ""


def _sound(answer: Mapping[str, Any]) -> bool:
    """Whether an answer is one; a page shows how sure the model was of it."""
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
    "evaluating": {"which": str, "done": float, "total": float},
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
    **{ending: {"message": str | None} for ending in ("done", "stopped", "failed", "lost")},
}
