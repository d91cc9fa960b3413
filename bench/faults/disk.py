"""A small disk of its own, to be filled and to be made read-only: a tmpfs, because root passes permissions by."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_PAGE = 4096


class NoDisk(Exception):
    """This user, or this container, may not mount anything; the message says what mount said."""


class Disk:
    """A mounted tmpfs."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._filler, self._aside = path / "filler", path.with_name(f"{path.name}-read-only")
        self._covered = False

    def fill(self, leave: int = 0) -> None:
        """Take all room but ``leave`` bytes (whole pages)."""
        with suppress(OSError), self._filler.open("ab", buffering=0) as file:
            while True:
                file.write(bytes(_PAGE))
        if leave:
            size = self._filler.stat().st_size
            with self._filler.open("r+b") as file:
                file.truncate(max(0, size - leave))

    def empty(self) -> None:
        """Give the room back."""
        self._filler.unlink(missing_ok=True)

    def read_only(self, yes: bool = True) -> None:
        """Let nothing be opened for writing any more, or again; what is open stays so."""
        if yes == self._covered:
            return
        # Laid over it is a second mount, which got its flag aside: it cannot be set while a file is open for writing.
        if yes:
            self._aside.mkdir(exist_ok=True)
            _mount("--bind", str(self.path), str(self._aside))
            _mount("-o", "remount,bind,ro", str(self._aside))
            _mount("--bind", str(self._aside), str(self.path))
        gone = self._aside if yes else self.path
        subprocess.run(["umount", "--lazy", str(gone)], check=True, capture_output=True)
        self._covered = yes


@contextmanager
def small_disk(path: Path, mebibytes: int) -> Iterator[Disk]:
    """A disk at a folder that is made. Raises NoDisk."""
    path.mkdir(parents=True, exist_ok=True)
    _mount("-t", "tmpfs", "-o", f"size={mebibytes}m", "peft-lab-faults", str(path))
    disk = Disk(path)
    try:
        yield disk
    finally:
        disk.read_only(False)
        # A child that ends just now may still have a file open there.
        subprocess.run(["umount", "--lazy", str(path)], check=False, capture_output=True)


def _mount(*arguments: str) -> None:
    try:
        done = subprocess.run(["mount", *arguments], check=False, capture_output=True, text=True)
    except OSError as error:
        raise NoDisk(f"mount cannot be run ({error.strerror})") from error
    if done.returncode:
        raise NoDisk(done.stderr.strip() or f"mount ended with {done.returncode}")
