"""A learner's file, read apart: bounded in time and memory, once per content, ended with whoever asked."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from bench.faults import upload_cases
from bench.faults.campaigns import uploads
from peft_lab.core.errors import BadInput, RunError
from peft_lab.training.tasks import apart, own

GOOD = b"text,label\n" + b"".join(b"sentence %d,%s\n" % (n, (b"a", b"b")[n % 2]) for n in range(20))
SAMPLE = 6


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    apart._known.clear()


def children() -> list[psutil.Process]:
    return [one for one in psutil.Process().children() if "peft_lab.training.tasks.apart" in one.cmdline()]


def test_equal_bytes_are_read_once_whatever_their_name(monkeypatch: pytest.MonkeyPatch) -> None:
    first = apart.load(GOOD, "mine.csv")
    with pytest.raises(BadInput):
        apart.load(b"x", "bad.csv")
    monkeypatch.setattr(apart, "_read", None)
    assert apart.load(GOOD, "other.CSV").load() == first.load()
    assert apart.load(GOOD, "other.CSV").title == "Your file other.CSV"
    with pytest.raises(BadInput):
        apart.load(b"x", "bad.csv")


def test_reading_ends_with_whoever_asked() -> None:
    """Streamlit ends a page's run by raising where it shows something; see ui/own_data.py."""

    class Left(BaseException):
        pass

    seen: list[int] = []

    def tick() -> None:
        seen.extend(child.pid for child in children())
        if seen:
            raise Left

    with pytest.raises(Left):
        apart.load(GOOD * 1000, "mine.csv", tick)
    assert seen and not psutil.pid_exists(seen[0])


def test_time_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apart, "SECONDS", 0.0)
    with pytest.raises(BadInput, match="10 seconds"):
        apart.load(GOOD * 5000, "mine.csv")
    assert children() == []


def test_memory_ends_it() -> None:
    nested = b'{"text": [' + (b"[" * 900 + b"]" * 900 + b",") * 2770 + b"1]}"
    assert len(nested) <= own.MAX_BYTES
    with pytest.raises(BadInput, match="256 MB"):
        apart.load(nested, "mine.jsonl")


def test_a_reader_that_dies_is_no_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    def dying(*arguments: Any, **options: Any) -> subprocess.Popen[bytes]:
        child = real(["sh", "-c", "echo out of luck >&2; exit 3"], **options)
        return child

    real = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", dying)
    with pytest.raises(RunError, match="out of luck"):
        apart.load(GOOD, "mine.csv")


def test_what_is_no_file_is_not_read(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.csv"
    os.mkfifo(pipe)
    (tmp_path / "zero.csv").symlink_to("/dev/zero")
    for path in (pipe, tmp_path / "zero.csv", "/dev/zero", "/dev/urandom"):
        with pytest.raises(BadInput, match=r"(device|pipe), not"):
            apart.load_file(path)
    assert [found for _, found in uploads.places() if not found.fine] == []


def test_a_sample_of_the_hostile_uploads() -> None:
    """All of them, and more at random: make faults."""
    cases = [case for case in upload_cases.cases() if len(case[2]) < 200_000]
    for what, name, data in cases[:: max(1, len(cases) // SAMPLE)]:
        found = uploads.tried(name, data)
        assert found.fine, f"{what}: {found.told}\n{found.traceback}"


@pytest.mark.parametrize(
    "what",
    ["300,000 columns", "five million bytes of short rows"],
)
def test_what_once_burnt_a_core_is_answered_within_bounds(what: str) -> None:
    """Read in this process for the figure; a child's may be that of any earlier one."""
    name, data = next((name, data) for case, name, data in upload_cases.listed() if case == what)
    start = time.process_time()
    with pytest.raises(BadInput):
        own.parse(data, name)
    assert time.process_time() - start < 4
