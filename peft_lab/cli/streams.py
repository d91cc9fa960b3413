"""What stands behind stdout and stderr: a reader that leaves, a full disk, a stream that was closed from the start."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO, Any, TextIO

from peft_lab import disk
from peft_lab.errors import PeftLabError


class _Sink(io.RawIOBase):
    """Bytes to a file of the system. After a first failure what is written is dropped: the failure has been told.

    Args:
        tells: whether a failure is raised, once. A reader that has left (head, less) is none: it has what it wanted.
    """

    def __init__(self, file: IO[bytes] | io.RawIOBase, tells: bool) -> None:
        super().__init__()
        self._file, self._tells, self._over = file, tells, False

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._file.fileno()

    def isatty(self) -> bool:
        return self._file.isatty()

    def write(self, data: Any) -> int | None:
        if not self._over:
            try:
                return self._file.write(data)
            except BrokenPipeError:
                self._over = True
            except OSError as error:
                self._over = True
                if self._tells:
                    raise unwritten(error) from error
        return len(data)


def unwritten(error: OSError) -> PeftLabError:
    """That a command's output got nowhere, and why."""
    return PeftLabError(f"The output could not be written: {disk.reason(error)}.")


def careful(stream: TextIO, tells: bool = True) -> TextIO:
    """The same stream, which a reader that leaves does not stop; ``tells``: what else fails is raised once, as a
    PeftLabError, and else dropped. One without a file of the system (in tests) is given back as it is."""
    try:
        stream.fileno()
        inner = stream.buffer
    except (io.UnsupportedOperation, AttributeError):
        return stream
    stream.flush()
    sink = _Sink(getattr(inner, "raw", inner), tells)
    at_once = not tells or bool(getattr(stream, "write_through", False)) or stream.line_buffering
    return io.TextIOWrapper(
        io.BufferedWriter(sink), encoding=stream.encoding, errors=stream.errors, line_buffering=bool(at_once)
    )


@contextmanager
def standing() -> Iterator[None]:
    """While this lasts, sys.stdout and sys.stderr are careful. Of stderr nothing can be told where it fails."""
    _open_closed()
    real = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = careful(real[0]), careful(real[1], tells=False)
    try:
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            with suppress(PeftLabError):  # told by then, or the exit status of something worse counts
                stream.flush()
        sys.stdout, sys.stderr = real


def _open_closed() -> None:
    """A stream that whoever calls has closed (``>&-``) takes everything, as Python's print does. Its number is taken,
    too: the next file that is opened would have it, and get what libraries print."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free: this one
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "w" if number else "r", encoding="utf-8", closefd=False))  # noqa: SIM115  for the life of the process
