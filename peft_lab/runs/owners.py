"""Decide which process holds a run or a comparison, and whether it lives, alike for every status shown.

An owner is a process: its machine and process namespace (``host``), its number and its start time. On the same
host the process table decides. A process of another host or container cannot be looked up; it is judged by its
heartbeat, the time at which it last touched a file of what it owns.
"""

from __future__ import annotations

import math
import os
import platform
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any
from weakref import WeakSet

import psutil

BEAT = "beat"  # the file that an owner touches
EVERY = 5.0  # seconds between touches
SILENT = 60.0  # seconds without a touch after which an owner is assumed gone

GONE = "The app or command that ran it ended before the run did."


@dataclass(frozen=True)
class Owner:
    """A process that holds something on disk. ``started``: seconds after its machine's boot (:func:`started`), unlike
    those of a later process with the same number. ``host``: its machine since boot and its process namespace; empty,
    from earlier versions, means this host. ``name``: the machine's name, for people."""

    pid: int
    started: float
    host: str = ""
    name: str = ""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def read(value: Any) -> Owner | None:
    """Return the owner that a file's value describes; ``None`` if it describes none."""
    if not isinstance(value, dict):
        return None
    pid, started = (_number(value.get(name)) for name in ("pid", "started"))
    where, name = value.get("host", ""), value.get("name", "")
    if pid is None or started is None or not isinstance(where, str) or not isinstance(name, str):
        return None
    return Owner(int(pid), started, where, name)


def _number(value: Any) -> float | None:
    try:
        return float(value) if type(value) in (int, float) and math.isfinite(value) else None
    except OverflowError:
        return None


def myself() -> Owner:
    """Return this process as an owner."""
    me = psutil.Process()
    return Owner(me.pid, started(me), host(), platform.node())


def started(process: psutil.Process) -> float:
    """Return when a process began, in seconds after its machine's boot: unlike the clock, this stays as it is."""
    booted = psutil.boot_time()
    return float(process.create_time() - booted)


@cache
def machine() -> str:
    """Return an identifier of this machine since its boot, which containers on it share."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except (OSError, ValueError):
        return platform.node()


@cache
def host() -> str:
    """Return an identifier of this process namespace: process numbers are valid only within it."""
    try:
        space = os.readlink("/proc/self/ns/pid")  # noqa: PTH115  no path that could be followed
    except OSError:
        space = ""
    return f"{machine()} {space}".strip()


def here(owner: Owner) -> bool:
    """Return whether the owner's process number can be looked up in this host's process table."""
    return owner.host in ("", host())


def same_machine(owner: Owner) -> bool:
    """Return whether the owner runs on this machine, possibly in another container."""
    return owner.host == "" or owner.host.split(" ")[0] == machine()


def running(owner: Owner) -> bool:
    """Return whether the owner's process exists on this host, by number and start time."""
    try:
        found = psutil.Process(owner.pid)
        # A killed process that its parent has not waited for yet still has its number.
        return found.status() != psutil.STATUS_ZOMBIE and abs(started(found) - owner.started) < 2
    except psutil.AccessDenied:
        return True
    except (psutil.Error, ValueError, OverflowError):
        return False


def lives(owner: Owner | None) -> bool:
    """Return whether the owner's process certainly exists; false on another host, where it cannot be looked up."""
    return owner is not None and here(owner) and running(owner)


def gone(owner: Owner | None, heard: float | None) -> str:
    """Return why an owner must be assumed gone, in one sentence; empty while it lives. ``owner``: ``None`` if the file
    on disk names none. ``heard``: time of its last sign of life, in seconds since 1970; ``None`` if it leaves no
    heartbeat."""
    silent = heard is None or time.time() - heard > SILENT
    if owner is None:
        return (
            "No app or command is recorded for it, and nothing has happened to it lately." if silent else ""
        )
    if here(owner):
        if not running(owner):
            return GONE
        # It lives but no longer holds this, such as a run whose final event is missing from its file.
        return "The app that ran it is no longer working on it." if silent and heard is not None else ""
    if not silent:
        return ""
    where = f"on {owner.name or 'another machine'}"
    return f"The app or command that ran it {where} has not responded for more than {SILENT:.0f} seconds."


def heard(*files: Path) -> float | None:
    """Return when the latest of the files was modified, in seconds since 1970; ``None`` if none exists."""
    times = []
    for file in files:
        with suppress(OSError):
            times.append(file.stat().st_mtime)
    return max(times, default=None)


def touch(folder: Path) -> None:
    """Write one heartbeat. Ignores a disk that is full or cannot be written to."""
    with suppress(OSError):
        if folder.is_dir():
            (folder / BEAT).touch()


class Heart:
    """Touches the folders that this process holds, from a thread of its own, as their holder may be busy."""

    def __init__(self, held: Callable[[], Iterable[Path]]) -> None:
        self._held = held
        self._thread: threading.Thread | None = None
        _hearts.add(self)

    def holds(self, folder: Path) -> bool:
        return folder in self._held()

    def start(self) -> None:
        if self._thread is None or not self._thread.is_alive():

            def beat() -> None:
                while True:
                    for folder in self._held():
                        touch(folder)
                    time.sleep(EVERY)

            self._thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
            self._thread.start()


_hearts: WeakSet[Heart] = WeakSet()


def held_here(owner: Owner | None, folder: Path) -> bool:
    """Return whether this process holds the folder, however old its heartbeat, as after a machine's sleep."""
    mine = owner is not None and owner.pid == os.getpid() and lives(owner)
    return mine and any(heart.holds(folder) for heart in list(_hearts))
