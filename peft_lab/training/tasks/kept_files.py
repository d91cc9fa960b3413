"""Files of one's own data as they lie under PEFT_LAB_HOME: uploads, and rows that were fetched from the hub.

A run has a copy of its own (:mod:`peft_lab.runs.kept`), so removing one here changes no run.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from peft_lab.classroom import places
from peft_lab.core.errors import BadInput

UPLOADS, DATASETS = "uploads", "datasets"
FOLDERS = {UPLOADS: "uploaded", DATASETS: "fetched from the Hugging Face Hub"}
_DIGITS = 12  # of the hash that a file's name begins with


@dataclass(frozen=True)
class KeptFile:
    """One file.

    Attributes:
        path: in the folder of who asks. nbytes: its size. used: seconds since the epoch when it was last brought.
        origin: how it came here, in words.
    """

    path: Path
    nbytes: int
    used: float
    origin: str

    @property
    def title(self) -> str:
        """What it was called, without the digits of its content."""
        return self.path.name[_DIGITS:].removeprefix("-") or self.path.name


def kept_files() -> list[KeptFile]:
    """Those of who asks, the latest first."""
    found = []
    for folder, origin in FOLDERS.items():
        top = places.mine() / folder
        for path in top.iterdir() if top.is_dir() else ():
            try:
                if path.is_file():
                    found.append(KeptFile(path, path.stat().st_size, path.stat().st_mtime, origin))
            except OSError:
                continue  # removed just now
    return sorted(found, key=lambda each: (-each.used, each.path.name))


def remove(path: Path) -> None:
    """Remove one of them. What is gone already is no error.

    Raises:
        BadInput: it is none of one's own kept files, or the disk refuses.
    """
    if path not in [each.path for each in kept_files()]:
        if path.exists():
            raise BadInput(f"{path.name} is none of your files.", "own_data")
        return
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise BadInput(f"{path.name} could not be removed: {error.strerror or error}.", "own_data") from error


def remove_unused(before: float, folders: tuple[str, ...] = tuple(FOLDERS)) -> int:
    """Remove files that were last brought before a time (seconds since the epoch); how many. Raises OSError."""
    old = [each for each in kept_files() if each.used < before and each.path.parent.name in folders]
    for each in old:
        each.path.unlink(missing_ok=True)
    return len(old)
