"""The secret that signs a class's cookies, and its codes: ``PEFT_LAB_HOME/class/keys.json``, readable by its user only.

Whoever deletes the file ends all cookies: everybody joins anew, and is somebody new.
"""

from __future__ import annotations

import json
import os
import secrets
from dataclasses import asdict, dataclass, field, fields
from functools import lru_cache
from pathlib import Path

from peft_lab.classroom import places
from peft_lab.errors import PeftLabError

_ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"  # read aloud and written on a board: no i, l, o, 0, 1


def _code(length: int) -> str:
    letters = "".join(secrets.choice(_ALPHABET) for _ in range(length))
    return "-".join(letters[at : at + 4] for at in range(0, length, 4))


@dataclass(frozen=True)
class Keys:
    """Attributes:
    secret: 32 random bytes in hex. join: the learners' code where none was given. teacher: the teacher's.
    """

    secret: str = field(default_factory=lambda: secrets.token_hex(32))
    join: str = field(default_factory=lambda: _code(8))
    teacher: str = field(default_factory=lambda: _code(16))


def keys() -> Keys:
    """This lab's keys, made at the first call.

    Raises:
        PeftLabError: the file can be read by others, or cannot be read or written.
    """
    path = places.shared() / places.FOLDER / "keys.json"
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        _make(path)
        found = path.stat()
        if os.name == "posix" and found.st_mode & 0o077:
            raise PeftLabError(f"{path} can be read by others; make it yours alone with 'chmod 600 {path}'.")
        return _read(path, found.st_ino, found.st_mtime_ns, found.st_size)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PeftLabError(
            f"The keys of the class in {path} cannot be used ({type(error).__name__}: {error})."
        ) from error


@lru_cache(maxsize=1)
def _read(path: Path, *_of_file: int) -> Keys:
    """What stands in it; asked for at every request, so read again only when it is another file or has changed."""
    content = json.loads(path.read_text("utf-8"))
    return Keys(**{each.name: str(content[each.name]) for each in fields(Keys)})


def _make(path: os.PathLike[str]) -> None:
    """Unless it is there. Written aside and linked, so that nobody reads half of it and the first of two stays."""
    if os.path.exists(path):  # noqa: PTH110
        return
    scratch = f"{os.fspath(path)}.{os.getpid()}.{secrets.token_hex(4)}"
    descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(asdict(Keys()), file, indent=2)
        try:
            os.link(scratch, path)
        except FileExistsError:
            return
    finally:
        os.unlink(scratch)  # noqa: PTH108
