"""Every path that a command takes, given as anything but what it is for: one sentence, at once."""

from __future__ import annotations

import errno
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from peft_lab.cli import start, train
from peft_lab.core import disk, journal
from peft_lab.core.errors import BadInput
from tests.cli.conftest import Run

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has neither such devices nor pipes")
MODEL = ("--model", "smollm2-135m")
#: What is given in place of a file; the options below take files, and the last ones folders.
STRANGE = ("device", "pipe", "loop", "socket", "endless", "below a file", "nowhere")
FILES = {
    "sweep": ("sweep",),
    "--adapter-config": ("count", *MODEL, "--adapter-config"),
    "--config": ("diagnose", "--config"),
    "--log": ("diagnose", "--log"),
    "--lengths": ("plan", "--model", "llama-3.2-1b", "--gpu", "h100", "--lengths"),
    "--own": ("train", *MODEL, "--method", "lora", "--own"),
}
FOLDERS = {
    "open": ("open", *MODEL),
    "--start": ("train", *MODEL, "--task", "sentiment", "--start"),
    "--adapter": ("diagnose", "--adapter"),
    "--adopt": ("runs", "--adopt"),
    "--models": ("serve", "--class", "--no-fetch", "--models"),
    "--model": ("count", "--method", "lora", "--model"),
}
OUT = {
    "serve --log": ("serve", "--no-fetch", "--log"),
    "plan --out": ("plan", "--model", "llama-3.2-1b", "--gpu", "h100", "--out"),
}


@pytest.fixture(autouse=True)
def at_once() -> Iterator[None]:
    """A wait without end is a failure, not a test without end."""

    def late(*_: object) -> NoReturn:
        raise AssertionError("it waits for something that never comes")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(100)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture(autouse=True)
def no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """None is started with what should have been refused."""
    monkeypatch.setattr(start, "_run_child", lambda *_: 99)


def made(what: str, place: Path) -> Path:
    path = place / what.replace(" ", "-")
    if what == "device":
        return Path("/dev/zero")
    if what == "pipe":
        os.mkfifo(path)
    elif what == "loop":
        path.symlink_to(path)
    elif what == "socket":
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(str(path))
    elif what == "endless":
        with path.open("wb") as file:
            file.truncate(1 << 40)
    elif what == "folder":
        path.mkdir()
    elif what == "file":
        path.touch()
    elif what == "below a file":
        path.touch()
        return path / "below"
    return path


@pytest.mark.parametrize("option", [*FILES, *FOLDERS])
def test_what_cannot_be_read_is_refused_in_a_sentence(
    option: str, run: Run, own_home: Path, short: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk, "_WRITER_SECONDS", 0.05)
    for what in (*STRANGE, "folder" if option in FILES else "file"):
        given = made(what, short)
        said = run(*{**FILES, **FOLDERS}[option], str(given)).refused()
        assert given.name in said or (option, what) == ("--own", "endless"), what


@pytest.mark.parametrize("option", OUT)
def test_where_nothing_can_be_written_is_said_first(
    option: str, run: Run, own_home: Path, short: Path
) -> None:
    for what in ("pipe", "loop", "socket", "below a file"):
        given = made(what, short)
        assert given.name in run(*OUT[option], str(given)).refused(), what


def test_what_is_exported_goes_to_a_file_or_to_who_reads(short: Path) -> None:
    for what, number in (("pipe", errno.ENXIO), ("loop", errno.ELOOP), ("folder", errno.EISDIR)):
        with pytest.raises(OSError) as caught:
            disk.write_text(made(what, short), "x")
        assert caught.value.errno == number
    for what in ("nowhere", "file"):
        disk.write_text(made(what, short), "\u00e9")
        disk.write_text(short / what, "\u00e8")
        assert (short / what).read_text("utf-8") == "\u00e8"


def test_the_adapter_of_a_run_needs_a_folder(short: Path) -> None:
    for what in ("pipe", "loop", "socket", "below a file"):
        with pytest.raises(BadInput) as caught:
            train._prepare(made(what, short))
        assert caught.value.field == "out"


def test_one_that_may_not_be_read_is_named(short: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root may read all; so the system is asked to refuse."""
    (short / "it").write_text("{}")

    def refuse(path: Path, *_: object) -> NoReturn:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(os, "open", refuse)
    monkeypatch.setattr(os, "scandir", refuse)
    for read in (
        lambda path: disk.take(path, 10, "log"), lambda path: disk.folder(path, "log"),
        lambda path: journal.require(str(path), "--log "),
    ):  # fmt: skip
        with pytest.raises(BadInput, match="Permission denied") as caught:
            read(short / "it")
        assert str(short / "it") in str(caught.value) and caught.value.field == "log"


def test_a_pipe_that_somebody_writes_to_is_read_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """As of ``<(command)``, whose command takes longer than a pipe without a writer is waited for."""
    monkeypatch.setattr(disk, "_WRITER_SECONDS", 0.05)
    out, into = os.pipe()

    def write() -> None:
        for word in ("one ", "two"):
            time.sleep(0.1)
            os.write(into, word.encode())
        os.close(into)

    threading.Thread(target=write).start()
    assert disk.read(Path(f"/dev/fd/{out}"), 100) == b"one two"
    os.close(out)


def test_what_fits_and_what_is_a_byte_too_large(short: Path) -> None:
    (short / "it").write_bytes(b"x" * 10)
    assert disk.read(short / "it", 10) == b"x" * 10
    with pytest.raises(OSError) as caught:
        disk.read(short / "it", 9)
    assert caught.value.errno == errno.EFBIG
    assert b"processor" in disk.read(Path("/proc/cpuinfo"), 10**7), "a file that says its size is 0"


@pytest.fixture
def short(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose path leaves room for a socket's name, which may have a hundred characters."""
    return tmp_path_factory.mktemp("p")
