"""Hostile programs: one clear sentence each, nothing read, nothing left, and the next program is judged as before."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from peft_lab.interview.write import judge, lock
from peft_lab.interview.write.exercises import FOLDER, read_exercise
from peft_lab.interview.write.judge import Limits, Verdict

ONE = read_exercise(Path(__file__).with_name("sample") / "lora" / "lora-merge.md")
SHORT = Limits(seconds=30.0, memory=500_000_000)
SECRET = "no program may read this: 7c41"

pytestmark = pytest.mark.skipif(not lock.is_available(), reason="this kernel cannot lock a process down")


RIGHT = "def merge(weight, a, b, alpha):\n    return weight + alpha / a.shape[0] * b @ a"
HOSTILE = yaml.safe_load(Path(__file__).with_name("hostile.yaml").read_text("utf-8"))


def processes() -> set[str]:
    """Return the processes that the judge's has, once those that are ending have ended."""
    assert judge._warm._process is not None
    children = Path(f"/proc/{judge._warm._process.pid}/task/{judge._warm._process.pid}/children")
    until = time.monotonic() + 60
    while (found := set(children.read_text().split())) and time.monotonic() < until:
        time.sleep(0.01)
    return found


@pytest.fixture(scope="module")
def victim() -> Iterator[int]:
    """A process of the same user, which stands for the server."""
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) as process:
        yield process.pid
        assert process.poll() is None
        process.kill()


def judged(hostile: dict[str, Any], folder: Path, victim: int) -> Verdict:
    (folder / "secret").write_text(SECRET)
    program = hostile["program"]
    places = {"secret": folder / "secret", "folder": folder, "exercise": ONE.file, "exercises": FOLDER.parent}
    for name, value in {**places, "server": victim, "right": RIGHT}.items():
        program = program.replace(f"{{{name}}}", str(value))
    return judge.check(ONE, program, Limits(hostile.get("seconds", SHORT.seconds), SHORT.memory))


@pytest.mark.sampled(10)
@pytest.mark.parametrize("hostile", HOSTILE, ids=lambda hostile: hostile["does"])
def test_a_hostile_program(hostile: dict[str, Any], tmp_path: Path, victim: int) -> None:
    before = set(Path(tempfile.gettempdir()).iterdir())
    verdict, passes = judged(hostile, tmp_path, victim), hostile.get("passes", False)
    assert verdict.passed == passes, verdict
    assert verdict.mistake is None and (verdict.line or 0) <= hostile["program"].count("\n") + 1
    assert any(said in verdict.message for said in hostile.get("said", "").split("|")), verdict.message
    assert len(verdict.message) < 300
    assert bool(verdict.message) != passes
    seen = repr(verdict)
    assert SECRET not in seen and "FOUND" not in seen and ONE.solution not in seen and len(seen) < 12_000
    os.kill(victim, 0)
    assert [path.name for path in tmp_path.iterdir()] == ["secret"] and os.access(tmp_path, os.W_OK)
    assert {
        path.name for path in set(Path(tempfile.gettempdir()).iterdir()) - before if "kata" in path.name
    } == set()
    assert not processes()


@pytest.mark.further
def test_the_next_program_is_judged(tmp_path: Path, victim: int) -> None:
    """After a program that was stopped, one that crashed, and after the judge's process itself was killed."""
    for hostile in (one for one in HOSTILE if one["does"] in ("loops for ever", "crashes the interpreter")):
        judged(hostile, tmp_path, victim)
    assert judge.check(ONE, ONE.solution).passed
    assert judge._warm._process is not None
    judge._warm._process.kill()
    verdict = judge.check(ONE, ONE.mistaken(ONE.mistakes[0]))
    assert (verdict.mistake, [test.ok for test in verdict.tests]) == (
        "scaled-by-alpha",
        [False, True, True, False],
    )
