"""Who holds a run or a comparison, and whether that process lives: read the same way wherever a status is shown.

An owner is a process: its machine and process namespace (``host``), its number and its start time. On the same host the
process table decides. A process of another host or container cannot be looked up; it is judged by its heartbeat, the
time at which it last touched a file of what it owns.
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
SILENT = 60.0  # seconds without one after which an owner is taken for gone

GONE = "The app or command that ran it ended before it was done."


@dataclass(frozen=True)
class Owner:
    """A process that holds something on disk.

    Attributes:
        started: seconds after its machine's own start (:func:`started`); tells it from a process that has taken its
            number since.
        host: machine since its start and process namespace; empty in what versions before wrote: then this host.
        name: the machine's name, for people.
    """

    pid: int
    started: float
    host: str = ""
    name: str = ""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def read(value: Any) -> Owner | None:
    """An owner as it stands in a file, whatever stands there; ``None`` for what is none."""
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
    """This process."""
    me = psutil.Process()
    return Owner(me.pid, started(me), host(), platform.node())


def started(process: psutil.Process) -> float:
    """When a process began, in seconds after its machine's start. What psutil says is reckoned from the clock, which
    may be set while the process runs; the two it is the difference of move together. Raises psutil.Error."""
    booted = psutil.boot_time()
    return float(process.create_time() - booted)


@cache
def machine() -> str:
    """This machine since it was started; containers on it share it."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except (OSError, ValueError):
        return platform.node()


@cache
def host() -> str:
    """Where process numbers mean what they mean here: a container has numbers of its own."""
    try:
        space = os.readlink("/proc/self/ns/pid")  # noqa: PTH115  no path that could be followed
    except OSError:
        space = ""
    return f"{machine()} {space}".strip()


def here(owner: Owner) -> bool:
    """Whether its number can be looked up in this host's process table."""
    return owner.host in ("", host())


def same_machine(owner: Owner) -> bool:
    """Whether it computes on this machine, in another container perhaps."""
    return owner.host == "" or owner.host.split(" ")[0] == machine()


def running(owner: Owner) -> bool:
    """Whether a process of this host is there, by number and start time."""
    try:
        found = psutil.Process(owner.pid)
        # One that was killed and not yet waited for by its parent still has its number.
        return found.status() != psutil.STATUS_ZOMBIE and abs(started(found) - owner.started) < 2
    except psutil.AccessDenied:
        return True
    except (psutil.Error, ValueError, OverflowError):
        return False


def lives(owner: Owner | None) -> bool:
    """Whether it is certain that its process is there; of one on another host nobody here can know."""
    return owner is not None and here(owner) and running(owner)


def gone(owner: Owner | None, heard: float | None) -> str:
    """Why an owner has to be taken for gone, in one sentence; empty while it lives.

    Args:
        owner: ``None`` where what is on disk names none.
        heard: when it was last heard of, in seconds since 1970; ``None`` where it leaves no heartbeat.
    """
    silent = heard is None or time.time() - heard > SILENT
    if owner is None:
        return (
            "It is not recorded which app or command ran it, and nothing has happened to it lately."
            if silent
            else ""
        )
    if here(owner):
        if not running(owner):
            return GONE
        # It lives, but has let go of this: of a run whose ending is missing from its file, say.
        return "The app that ran it is no longer working on it." if silent and heard is not None else ""
    if not silent:
        return ""
    where = f"on {owner.name or 'another machine'}"
    return f"The app or command that ran it {where} has given no sign of life for more than {SILENT:.0f} seconds."


def heard(*files: Path) -> float | None:
    """When the latest of the files was touched; ``None`` where there is none."""
    times = []
    for file in files:
        with suppress(OSError):
            times.append(file.stat().st_mtime)
    return max(times, default=None)


def touch(folder: Path) -> None:
    """One heartbeat. A disk that is full or cannot be written to is no reason to stop beating."""
    with suppress(OSError):
        if folder.is_dir():
            (folder / BEAT).touch()


class Heart:
    """Touches the folders that this process holds, from a thread of its own: whoever holds them may be busy."""

    def __init__(self, held: Callable[[], Iterable[Path]]) -> None:
        self._held = held
        self._thread: threading.Thread | None = None
        _hearts.add(self)

    def holds(self, folder: Path) -> bool:
        return folder in self._held()

    def start(self) -> None:
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
            self._thread.start()

    def _beat(self) -> None:
        while True:
            for folder in self._held():
                touch(folder)
            time.sleep(EVERY)


_hearts: WeakSet[Heart] = WeakSet()


def held_here(owner: Owner | None, folder: Path) -> bool:
    """Whether the owner is this process and holds the folder, however long ago it touched it: on a machine that slept
    it has not come to that yet."""
    mine = owner is not None and owner.pid == os.getpid() and lives(owner)
    return mine and any(heart.holds(folder) for heart in list(_hearts))
