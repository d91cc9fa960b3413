"""A disk that is full, read-only or broken, said in one sentence."""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from peft_lab import units
from peft_lab.errors import RunError

_WHY = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EROFS: "it is on a disk that can only be read",
    errno.EACCES: "this user may not write there",
    errno.EPERM: "this user may not write there",
    errno.EIO: "the disk reports an error",
    errno.EFBIG: "a file would become larger than is allowed",
    errno.ENAMETOOLONG: "the name is too long for the disk",
    errno.ESTALE: "the network disk is gone",
    errno.EMFILE: "too many files are open",
    errno.ENFILE: "too many files are open",
}
_PIECE = 1 << 20  # bytes read at a time of what does not say its size
_LIBRARIES = re.compile(r"\(os error (\d+)\)|\[Errno (\d+)\]|No space left on device")


def number(error: BaseException) -> int | None:
    """The system's number of a fault of the disk; ``None`` for another error.

    Libraries written in Rust (safetensors, tokenizers) say it in their message only.
    """
    seen: BaseException | None = error
    while seen is not None:
        code = seen.errno if isinstance(seen, OSError) else None
        if code is None and (match := _LIBRARIES.search(str(seen))):
            code = int(match[1] or match[2] or errno.ENOSPC)
        if code in _WHY:
            return code
        seen = seen.__cause__ or seen.__context__
    return None


def why(code: int) -> str:
    """Half a sentence for a number that :func:`number` returned."""
    return _WHY.get(code, "the disk reports an error")


def reason(error: OSError) -> str:
    """The same of any error of the system, which says itself what is not the disk's. Names no file."""
    code = number(error)
    return why(code) if code is not None else error.strerror or type(error).__name__


def explained(error: BaseException, folder: Path) -> str | None:
    """One sentence on an error that is the disk's, ``None`` on any other. ``folder``: where was to be written."""
    code = number(error)
    return None if code is None else f"Nothing can be written to {folder}: {why(code)}."


def of_file(error: OSError, folder: Path) -> str | None:
    """The same where it is not known what was done: of the file that the error names, unless ``folder`` holds it."""
    code, named = number(error), error.filename
    if code is None or not isinstance(named, str) or folder in Path(named).parents:
        return explained(error, folder)
    return f"{named} cannot be used: {error.strerror or why(code)}."


def at_home(name: str) -> Path:
    """A path as somebody wrote it, with ``~`` for their home folder; as it is where nobody is called so."""
    return Path(os.path.expanduser(name))  # noqa: PTH111  pathlib raises RuntimeError there


def read(path: Path, most: int) -> bytes:
    """What a file holds, also one that is a pipe (``<(command)`` in a shell).

    Raises OSError, also for more than ``most`` bytes: a device may have no end, and says that its size is 0.
    """
    with path.open("rb") as file:
        said = os.fstat(file.fileno()).st_size
        pieces = [file.read(min(said, most) + 1)]
        held = len(pieces[0])
        while said < held <= most and (piece := file.read(_PIECE)):
            pieces.append(piece)
            held += len(piece)
    if held > most:
        raise OSError(errno.EFBIG, f"it is too large, with more than {units.size(most)}", str(path))
    return b"".join(pieces)


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Inside it, what the disk refuses is a RunError of one sentence."""
    try:
        yield
    except OSError as error:
        sentence = explained(error, folder)
        if sentence is None:
            raise
        raise RunError(sentence) from error


def free(folder: Path) -> int | None:
    """Bytes that this user may still write to the disk of a folder that need not be there yet; ``None`` if unknown."""
    for place in (folder, *folder.parents):
        try:
            return shutil.disk_usage(place).free
        except FileNotFoundError:
            continue
        except OSError:
            return None
    return None
