"""Sweeps on disk: one folder each under ``PEFT_LAB_HOME/sweeps``. The runs themselves lie in the run store, where they
are found by what they train.

sweep.json     the runs that are asked for    owner.json     the process that carries it out, or the last one that did
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from peft_lab import disk as storage
from peft_lab.classroom import places
from peft_lab.errors import BadInput, RunError
from peft_lab.runs import owners
from peft_lab.runs.spec import RunSpec
from peft_lab.runs.store import write_json
from peft_lab.sweeping.asha import Asha

_ID = re.compile(r"[a-z0-9][a-z0-9.-]{0,199}")  # a longer one is the name of no file
_FILE, _OWNER = "sweep.json", "owner.json"


@dataclass(frozen=True)
class KeptSweep:
    """One sweep's folder."""

    id: str
    folder: Path

    @property
    def specs(self) -> tuple[RunSpec, ...]:
        """The runs that it asks for, in their order. Raises RunError when the file is missing or cannot be read."""
        return _specs(self.folder)

    @property
    def created(self) -> float:
        """Seconds since 1970; 0 once it is gone."""
        try:
            return (self.folder / _FILE).stat().st_mtime
        except OSError:
            return 0.0

    @property
    def running(self) -> bool:
        """Whether a living process carries it out."""
        try:
            content = json.loads((self.folder / _OWNER).read_text("utf-8"))
        except (OSError, ValueError, RecursionError):
            return False
        owner = owners.read(content)
        if owner is None or not content.get("at_work"):
            return False
        # Here the process table knows; only another host has to be listened to.
        return not owners.gone(owner, None if owners.here(owner) else owners.heard(self.folder / owners.BEAT))

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """While this lasts, this process carries the sweep out.

        Raises:
            RunError: another process does, or nothing can be written there.
        """
        lock = FileLock(self.folder / ".lock", thread_local=False)
        try:
            with storage.writing(self.folder):
                lock.acquire(timeout=0)
        except Timeout:
            raise RunError("Another command is carrying out this sweep; wait for it or end it.") from None
        me, at_work = owners.myself().to_dict(), [self.folder]
        try:
            with storage.writing(self.folder):
                write_json(self.folder / _OWNER, {**me, "at_work": True})
            owners.touch(self.folder)
            owners.Heart(lambda: at_work).start()
            yield
        finally:
            at_work.clear()
            # Where it cannot be written, the end of this process ends its claim.
            with suppress(OSError):
                write_json(self.folder / _OWNER, {**me, "at_work": False})
            lock.release()


def root() -> Path:
    """The folder of all sweeps of who asks."""
    return places.mine() / "sweeps"


def keep(specs: Sequence[RunSpec], early: Asha | None = None) -> KeptSweep:
    """The sweep of these runs, made if there is none yet: the same runs are the same sweep, where they are ended early
    in the same way.

    Raises RunError where nothing can be written.
    """
    content: dict[str, Any] = {"specs": [spec.to_dict() for spec in specs]}
    if early is not None:
        content["stop"] = early.to_dict()
    kept = KeptSweep(_named(specs[0], content), root() / _named(specs[0], content))
    with storage.writing(kept.folder):
        kept.folder.mkdir(parents=True, exist_ok=True)
        if not (kept.folder / _FILE).exists():
            write_json(kept.folder / _FILE, content)
    return kept


def _named(first: RunSpec, content: Mapping[str, Any]) -> str:
    told = json.dumps(content, sort_keys=True).encode()
    model = re.sub(r"[^a-z0-9]+", "-", Path(first.model).name.lower()).strip("-") or "model"
    return f"{model[:60]}-{first.task}-{hashlib.sha256(told).hexdigest()[:8]}"


def get(identity: str) -> KeptSweep:
    """A sweep by its id. Raises RunError where there is none."""
    folder = root() / identity
    if not _ID.fullmatch(identity) or not (folder / _FILE).is_file():
        raise RunError(f"There is no sweep called '{identity[:200]}'.")
    return KeptSweep(identity, folder)


def sweeps() -> list[KeptSweep]:
    """All of who asks, newest first."""
    found = [KeptSweep(path.parent.name, path.parent) for path in root().glob(f"*/{_FILE}")]
    return sorted((one for one in found if _ID.fullmatch(one.id)), key=lambda one: one.created, reverse=True)


# A sweep's name tells its content: it never changes.
@lru_cache(maxsize=16)
def _specs(folder: Path) -> tuple[RunSpec, ...]:
    try:
        content = json.loads((folder / _FILE).read_text("utf-8"))
        return tuple(RunSpec.from_dict(each) for each in content["specs"])
    except (BadInput, OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise RunError(f"The sweep '{folder.name}' cannot be read ({error}).") from error
