"""Read and write paths that a user named; explain in one sentence why a disk is full, read-only or broken.

Every path from outside goes through :func:`take` (a file), :func:`folder` or :func:`require_writable`.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import stat
import struct
import threading
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import RawIOBase
from pathlib import Path
from typing import Any, BinaryIO

from peft_lab.core import units
from peft_lab.core.errors import BadInput, RunError, UnreadableFile

_WHY = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EROFS: "it is on a disk that can only be read",
    errno.EACCES: "this user may not write there",
    errno.EPERM: "this user may not write there",
    errno.EIO: "the disk reports an error",
    errno.EFBIG: "a file would exceed the allowed size",
    errno.ENAMETOOLONG: "the name is too long for the disk",
    errno.ESTALE: "the network disk is gone",
    errno.EMFILE: "too many files are open",
    errno.ENFILE: "too many files are open",
}
_PIECE = 1 << 20  # bytes read at a time of what does not say its size
_AT_ONCE = getattr(os, "O_NONBLOCK", 0)  # opening a pipe would wait for its other end
_WRITER_SECONDS = 0.5  # for whoever writes to a pipe to open it
_LIBRARIES = re.compile(r"\(os error (\d+)\)|\[Errno (\d+)\]|No space left on device")


def number(error: BaseException) -> int | None:
    """Return the ``errno`` of an error if the disk caused it, else ``None``. Follows the chain of causes; libraries
    written in Rust (safetensors, tokenizers) give the number in their message only."""
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
    """Return half a sentence that explains an ``errno`` from :func:`number`."""
    return _WHY.get(code, "the disk reports an error")


def reason(error: OSError) -> str:
    """Return half a sentence that explains any error of the operating system, without naming a file."""
    code = number(error)
    return why(code) if code is not None else error.strerror or type(error).__name__


def explained(error: BaseException, folder: Path) -> str | None:
    """Return one sentence about an error of the disk on writing to ``folder``, ``None`` for any other error."""
    code = number(error)
    return None if code is None else f"Nothing can be written to {folder}: {why(code)}."


def of_file(error: OSError, folder: Path) -> str | None:
    """Return one sentence about a disk error of an unknown operation, which names the error's file unless it lies in
    ``folder`` (:func:`explained`); ``None`` for any other error."""
    code, named = number(error), error.filename
    if code is None or not isinstance(named, str) or folder in Path(named).parents:
        return explained(error, folder)
    return f"{named} cannot be used: {error.strerror or why(code)}."


def at_home(name: str) -> Path:
    """Return the path with ``~`` expanded to a home folder; unchanged if there is no such user."""
    return Path(os.path.expanduser(name))  # noqa: PTH111  pathlib raises RuntimeError there


def take(path: Path, most: int, field: str | None = None, what: str = "", pipes: bool = True) -> bytes:
    """Return the bytes of a file that a user named, read with :func:`read`. ``field`` is the option that named it,
    ``what`` begins the message (``"The sweep file "``). Raises BadInput with the file and the reason."""
    try:
        return read(path, most, pipes)
    except OSError as error:
        raise BadInput(f"{what}{path} cannot be read: {error.strerror or error}.", field) from error


def take_text(path: Path, most: int, field: str | None = None, what: str = "") -> str:
    """Return the UTF-8 text of a file that a user named, without a byte order mark. Arguments and errors as of
    :func:`take`. Raises BadInput: it is not UTF-8, too."""
    try:
        return take(path, most, field, what).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadInput(f"{what}{path} is not UTF-8 text.", field) from error


def folder(path: Path, field: str | None = None) -> Path:
    """Return the full path of a folder that a user named, with links resolved. Raises BadInput: it cannot be opened as
    one."""
    try:
        with os.scandir(path):
            return Path(os.path.realpath(path))
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        why = error.strerror if isinstance(error, OSError) else error
        raise BadInput(f"{path} cannot be used as a folder: {why}.", field) from error


def read(path: Path, most: int, pipes: bool = True) -> bytes:
    """Return the bytes of a file, ``most`` of them, or of a pipe such as ``<(command)`` in a shell if ``pipes``. Raises
    OSError as :func:`opened`; also for a pipe that nobody writes to, and for more bytes."""
    with open(_opened(path, pipes), "rb", buffering=0) as file:
        told = os.fstat(file.fileno())
        pieces = [_first(file) if stat.S_ISFIFO(told.st_mode) else b""]
        held = max(told.st_size, len(pieces[0]))
        if held <= most:
            pieces.append(
                file.read(told.st_size + 1) or b""
            )  # None: one would have to wait, as in /proc/kmsg
            held = sum(map(len, pieces))
            while pieces[-1] and held <= most:  # a file may not say its size, and grow
                pieces.append(file.read(_PIECE) or b"")
                held += len(pieces[-1])
    if held > most:
        raise OSError(errno.EFBIG, f"it is too large (more than {units.size(most)})", str(path))
    return b"".join(pieces)


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """Open a regular file for reading. Raises OSError: the path is a folder, a device, a pipe or a circle of links. It
    is raised at once: a device may never end although its size reads 0, and opening a pipe waits for a writer."""
    with open(_opened(path, False), "rb") as file:
        yield file


def _opened(path: Path, pipes: bool) -> int:
    """Open a file, or a pipe if allowed, without waiting; return its descriptor. Raises OSError for anything else."""
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116  beside os.open
    except ValueError:
        raise OSError(errno.EINVAL, "no file has such a name", str(path)) from None
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if stat.S_ISFIFO(mode) and not pipes:
        raise OSError(errno.EINVAL, "it is a pipe, not a file; save its output to a file first", str(path))
    if not stat.S_ISREG(mode) and not stat.S_ISFIFO(mode):
        raise OSError(errno.EINVAL, "it is a device, not a file", str(path))
    return os.open(path, os.O_RDONLY | _AT_ONCE | getattr(os, "O_BINARY", 0))


def _first(pipe: RawIOBase) -> bytes:
    """Return the first bytes of a pipe, and make later reads wait for more.

    Waits up to half a second for a writer that has yet to open the pipe. Raises OSError: nobody writes to the pipe."""
    deadline = time.monotonic() + _WRITER_SECONDS
    while (piece := pipe.read(_PIECE)) == b"":
        if time.monotonic() > deadline:
            raise OSError(errno.EPIPE, "it is a pipe without output")
        time.sleep(_WRITER_SECONDS / 50)
    os.set_blocking(pipe.fileno(), True)
    return piece or b""  # None: nothing yet, of somebody who writes


def _to_write(path: Path, how: int) -> int:
    """Open a file for writing, create it if needed, and return its descriptor. Opening does not wait. Raises OSError:
    it cannot be written, or is a pipe that nobody reads."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | how | _AT_ONCE, 0o666)
    except OSError as error:
        if error.errno == errno.ENXIO:
            raise OSError(error.errno, "it is a pipe that nobody reads, or not a file", str(path)) from None
        raise
    if _AT_ONCE:
        os.set_blocking(descriptor, True)
    return descriptor


def write_text(path: Path, text: str) -> None:
    """Write a file as UTF-8 and replace what it held. Raises OSError: as :func:`require_writable`."""
    with open(_to_write(path, os.O_TRUNC), "w", encoding="utf-8") as file:
        file.write(text)


def require_writable(path: Path) -> None:
    """Check that a file can be appended to, and create it. Raises OSError at once, as for a pipe that nobody reads."""
    os.close(_to_write(path, os.O_APPEND))


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a scratch file beside ``path`` that replaces it when the context is left, so that a reader sees the old
    file or the new one. If the block fails, it is removed: on a full disk it would use the little room that is left.
    Raises OSError: the file cannot be replaced."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    try:
        yield scratch
        scratch.replace(path)
    except BaseException:
        with suppress(OSError):
            scratch.unlink(missing_ok=True)
        raise


# ----------------------------------------
# JSON files, and the folders that are named after an id.


LARGEST_JSON = 1 << 28  # bytes
_NONE: Any = object()
_ID = re.compile(r"[a-z0-9][a-z0-9.-]{0,199}")  # longer ones are not valid file names


def is_identity(text: str) -> bool:
    """Return whether a text can be the id of a run, comparison or sweep, and so the name of its folder."""
    return _ID.fullmatch(text) is not None


def parse_json(text: str | bytes, **how: Any) -> Any:
    """Return the value in a JSON text, read by :func:`json.loads`. Raises ValueError: it is invalid, or nested too
    deeply."""
    try:
        return json.loads(text, **how)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def read_json(path: Path, default: Any = _NONE, most: int = LARGEST_JSON) -> Any:
    """Return the value in a JSON file of at most ``most`` bytes; ``default`` if it cannot be read and, unless that is
    ``None``, if it is of another type. Raises UnreadableFile without a default."""
    try:
        content = parse_json(read(path, most, pipes=False).decode("utf-8-sig"))
    except (OSError, ValueError) as error:
        if default is not _NONE:
            return default
        why = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise UnreadableFile(f"{path} cannot be read: {why}.") from error
    return content if default is _NONE or default is None or isinstance(content, type(default)) else default


def beside(module: str, name: str, **values: object) -> str:
    """Return the text of a file beside a module (its ``__file__``), such as a style sheet, each ``%name%`` replaced."""
    text = (Path(module).parent / name).read_text("utf-8")
    for key, value in values.items():
        text = text.replace(f"%{key}%", str(value))
    return text


def read_json_lines(path: Path) -> list[Any]:
    """Return the values in a file of JSON Lines that ships with the package."""
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file in one step, as :func:`replacing`. Raises OSError if the disk cannot be written."""
    with replacing(path) as scratch:
        scratch.write_text(json.dumps(content, indent=2) + "\n", "utf-8")


@contextmanager
def unzipping() -> Iterator[None]:
    """Turn decoding errors of ``zipfile`` and its decompressors inside the block into a BadZipFile with the reason."""
    try:
        yield
    except Exception as error:
        # errors of zlib and lzma have no base in common, and may not be there to be named
        unpacking = type(error).__module__ in ("zlib", "lzma", "_lzma")
        if not unpacking and not isinstance(
            error, ValueError | OverflowError | EOFError | RuntimeError | struct.error
        ):
            raise
        raise zipfile.BadZipFile(str(error)) from error


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Turn errors of the disk on writing to ``folder`` into one of a sentence; let others pass. Raises RunError: that
    one."""
    try:
        yield
    except OSError as error:
        sentence = explained(error, folder)
        if sentence is None:
            raise
        raise RunError(sentence) from error


def free(folder: Path) -> int | None:
    """Return how many bytes this user may still write to the disk of a folder, which may be missing; ``None`` if
    unknown."""
    for place in (folder, *folder.parents):
        try:
            return shutil.disk_usage(place).free
        except FileNotFoundError:
            continue
        except OSError:
            return None
    return None


def home() -> Path:
    """Return the folder for weights, data and runs: ``PEFT_LAB_HOME``, else the platform's folder for user data."""
    chosen = os.environ.get("PEFT_LAB_HOME")
    if chosen:
        return at_home(chosen).absolute()
    from platformdirs import user_data_path

    return user_data_path("peft-lab", appauthor=False)


# ----------------------------------------
# Detect whether a model's folder has changed since it was read.


HUB_ID = re.compile(r"(?![.-])[\w.-]{1,96}/[\w.-]{1,96}")  # the hub's rule: ./file and ../file are not ids
_MATTERS = (".json", ".safetensors")  # config, tokenizer, weights and their index


def stamp(name: str) -> tuple[tuple[str, int, int], ...]:
    """Return name, time (nanoseconds) and size (bytes) of the files a model is read from: those of a folder given by
    its full path, or of a Hugging Face id's snapshot in the cache. Empty for other names."""
    found, folder = [], Path(name)
    if not folder.is_absolute():
        if not HUB_ID.fullmatch(name):
            return ()
        from huggingface_hub import try_to_load_from_cache

        config = try_to_load_from_cache(name, "config.json")
        if not isinstance(config, str):
            return ()
        folder = Path(config).parent
    with suppress(OSError, ValueError), os.scandir(folder) as files:
        for file in files:
            if file.name.endswith(_MATTERS):
                status = file.stat()
                found.append((file.name, status.st_mtime_ns, status.st_size))
    return tuple(sorted(found))
