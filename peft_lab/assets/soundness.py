"""Whether an asset's files still hold the bytes that were unpacked.

Bit rot leaves sizes and times as they were, so only hashing tells: every process hashes what it is about to use, once.

Whoever finds damage notes it in the lab folder, with the stamp of the damaged file, so that the web server, which
hashes no weights, knows of it from a look at the file's stamp. Another file in its place makes the note void.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from peft_lab.assets.fetching import sha256

PROVENANCE = "provenance.json"

#: Device, inode, size, and times of change in ns: another stamp is another file.
Stamp = tuple[int, ...]


@dataclass(frozen=True)
class FileRecord:
    """A file as it was unpacked."""

    bytes: int
    mtime_ns: int
    sha256: str


_hashed: dict[tuple[str, Stamp], str] = {}  # of this process
_hashing = threading.Lock()


def recorded(folder: Path, pin: str) -> dict[str, FileRecord] | None:
    """The files of an asset's folder by name; ``None`` if their list is missing, malformed or of another pin."""
    found = _json(folder / PROVENANCE)
    if not isinstance(found, dict) or found.get("sha256") != pin or not isinstance(found.get("files"), dict):
        return None
    files = {name: _record(entry) for name, entry in found["files"].items() if _inside(name)}
    kept = {name: entry for name, entry in files.items() if entry is not None}
    return kept if kept and len(kept) == len(found["files"]) else None


def _inside(name: str) -> bool:
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts and "\0" not in name


def _record(entry: Any) -> FileRecord | None:
    if not isinstance(entry, dict):
        return None
    size, time, digest = entry.get("bytes"), entry.get("mtime_ns"), entry.get("sha256")
    if isinstance(size, int) and isinstance(time, int) and isinstance(digest, str):
        return FileRecord(size, time, digest)
    return None


def _json(file: Path) -> Any:
    """The content of a small file of ours; ``None`` whatever is wrong with it."""
    with suppress(OSError, ValueError, RecursionError):
        return json.loads(file.read_text(encoding="utf-8"))
    return None


def stamp(file: Path) -> Stamp:
    """Raises OSError where there is no such file."""
    found = file.stat()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def digest(file: Path) -> str:
    """Hex SHA-256 of a file, computed once in this process while its stamp stays, also when several ask at once. Raises
    OSError."""
    key = str(file), stamp(file)
    if key not in _hashed:
        with _hashing:
            if key not in _hashed:
                _hashed[key] = sha256(file)
    return _hashed[key]


def damaged(folder: Path, files: Mapping[str, FileRecord], note: Path) -> tuple[str, ...]:
    """Names of those of ``files`` that hold other bytes than recorded, by hashing them; noted in the file ``note``."""
    found = tuple(name for name, entry in files.items() if not _sound(folder / name, entry))
    if found:
        stamps = {name: stamp(folder / name) for name in found if (folder / name).exists()}
        with suppress(OSError):  # a read-only lab folder: then only this process knows
            note.write_text(json.dumps({"damaged": stamps}) + "\n", encoding="utf-8")
    return found


def _sound(file: Path, entry: FileRecord) -> bool:
    try:
        return digest(file) == entry.sha256
    except OSError:  # a bad sector is read as an error
        return False


def known_damage(folder: Path, note: Path) -> tuple[str, ...]:
    """Names of the files that a process found damaged and that are still the same, by their stamps alone."""
    found = _json(note)
    stamps = found.get("damaged") if isinstance(found, dict) else None
    if not isinstance(stamps, dict):
        return ()
    return tuple(name for name, seen in stamps.items() if isinstance(seen, list) and _is(folder / name, seen))


def _is(file: Path, seen: Iterable[Any]) -> bool:
    try:
        return stamp(file) == tuple(seen)
    except (OSError, ValueError):
        return False
