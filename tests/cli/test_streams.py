"""Where output goes when nobody takes it: a reader that leaves, a full disk, a stream that was closed."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

import pytest

from peft_lab.cli import output
from peft_lab.core.errors import PeftLabError
from tests.cli.conftest import REPO
from tests.prose import facts

FULL = Path("/dev/full")
#: What a command is given for stdout, its words, its exit status, and how the one line on stderr begins.
CASES = [
    ("left", "methods --json", 0, ""),
    ("left", "--help", 0, ""),
    ("left", "runs nothing-like-it", 2, "error: There is no run"),
    ("closed", "methods", 0, ""),
    (str(FULL), "methods --json", 1, "error: The output could not be written: the disk is full."),
    (str(FULL), "methods --help", 1, "error: The output could not be written: the disk is full."),
]
#: All of them in one process, which loads the commands once: each runs in a child.
SCRIPT = """
import json, os, sys, tempfile
from peft_lab import cli
ends = []
for stdout, words, *_ in json.loads(sys.argv[1]):
    with tempfile.TemporaryFile() as errors:
        child = os.fork()
        if child == 0:
            os.dup2(errors.fileno(), 2)
            sys.argv = ["peft-lab", *words.split()]
            if stdout == "closed":
                os.close(1)
                sys.stdout = None
            elif stdout == "left":
                reader, writer = os.pipe()
                os.close(reader)
                os.dup2(writer, 1)
            else:
                os.dup2(os.open(stdout, os.O_WRONLY), 1)
            cli.main()
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        errors.seek(0)
        ends.append([status, errors.read().decode()])
print(json.dumps(ends))
"""


@contextmanager
def careful(descriptor: int, tells: bool = True) -> Iterator[TextIO]:
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        yield output.careful_stream(stream, tells)


def left() -> int:
    """The writing end of a pipe whose reader has left."""
    reader, writer = os.pipe()
    os.close(reader)
    return writer


def test_a_reader_that_leaves_stops_nothing() -> None:
    with careful(left()) as stream:
        for _ in range(2):
            stream.write("more than it wanted\n" * 10_000)
            stream.flush()


@pytest.mark.skipif(not FULL.exists(), reason="this system has no /dev/full")
def test_a_full_disk_is_told_once() -> None:
    with careful(os.open(FULL, os.O_WRONLY)) as stream:
        stream.write("the result")
        with pytest.raises(PeftLabError, match=facts("output", "disk is full")):
            stream.flush()
        stream.write("more")
        stream.flush()


@pytest.mark.skipif(not FULL.exists(), reason="this system has no /dev/full")
def test_where_errors_are_told_a_full_disk_cannot_be() -> None:
    with careful(os.open(FULL, os.O_WRONLY), tells=False) as stream:
        print("a note", file=stream)


def test_what_is_written_arrives_whole(tmp_path: Path) -> None:
    text = "α → β\n" * 50_000
    with careful(os.open(tmp_path / "out", os.O_WRONLY | os.O_CREAT)) as stream:
        stream.write(text)
        stream.flush()
    assert (tmp_path / "out").read_text("utf-8") == text


def test_a_stream_without_a_file_stays_as_it_is() -> None:
    stream = io.StringIO()
    assert output.careful_stream(stream) is stream


@pytest.mark.slow
@pytest.mark.skipif(not FULL.exists(), reason="this system has no /dev/full")
def test_every_command_ends_as_it_would() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, json.dumps(CASES)],
        cwd=REPO,
        capture_output=True,
        text=True,
        check=True,
    )
    for (stdout, words, status, told), (ended, errors) in zip(CASES, json.loads(done.stdout), strict=True):
        assert ended == status, (stdout, words, errors)
        assert errors.startswith(told), (stdout, words, errors)
        assert len(errors.splitlines()) == bool(told), (stdout, words, errors)
