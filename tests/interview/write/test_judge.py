"""The judge: what a verdict holds, who may have programs run, systems without a lock; and hostile programs, of which
each gets one clear sentence, reads nothing and leaves nothing."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from peft_lab.core import asking
from peft_lab.core.asking import Asker, acting_for
from peft_lab.core.errors import BadInput, RunError, UnknownName
from peft_lab.interview.write import judge, lock
from peft_lab.interview.write.exercises import FOLDER, read_exercise
from peft_lab.interview.write.judge import Limits, Verdict

ONE = read_exercise(Path(__file__).with_name("sample") / "lora" / "lora-merge.md")


@pytest.mark.parametrize(
    ("program", "line", "said"),
    [
        ("import torch\n\ndef merge(weight, a, b, alpha):\n    return weight @ a", 4, "RuntimeError"),
        ("def merge(weight, a, b, alpha):\n    retrun weight", 2, "SyntaxError"),
        ("merged = 1", None, "'merge'"),
        ("def merge(weight, a, b, alpha):\n    pass", None, "'merge' returns None"),
        ("import peft", 1, "does what an exercise's program may not"),
    ],
)
def test_what_is_said_of_a_program_that_fails(program: str, line: int | None, said: str) -> None:
    verdict = judge.check(ONE, program)
    assert (verdict.passed, verdict.mistake, verdict.line) == (False, None, line) and said in verdict.message
    assert [test.ok for test in verdict.tests] == [False] * 4 and all(test.got for test in verdict.tests)


def test_a_verdict_and_examples() -> None:
    verdict = judge.check(ONE, f"print('hello')\n{ONE.solution}")
    assert (verdict.passed, verdict.message, verdict.printed) == (True, "", "hello\n")
    wrong = judge.check(ONE, ONE.mistaken(ONE.mistakes[2]))
    assert (wrong.mistake, wrong.message) == ("in-place", ONE.mistakes[2].sentence)
    assert [shown for _, shown in judge.examples(ONE)] == ["tensor([[2., 2.]])"] * 2


def test_a_program_may_use_what_torch_imports_at_its_first_use() -> None:
    """An optimizer makes torch import its compiler, which replaces ``torch.manual_seed``."""
    trains = """import torch
one = torch.nn.Parameter(torch.ones(2))
(one * 2).backward(torch.ones(2))
torch.optim.AdamW([one]).step()
"""
    assert judge.check(ONE, trains + ONE.solution).passed


def test_what_is_no_program() -> None:
    for program in ("  \n", "x" * (judge.LONGEST + 1)):
        with pytest.raises(BadInput):
            judge.check(ONE, program)
    with pytest.raises(UnknownName):
        judge.check("lora-mrge", "x = 1")


def test_a_class_runs_programs_only_where_the_teacher_and_the_kernel_allow_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert not judge.refusal()
    monkeypatch.setenv(asking.CLASS_VARIABLE, "blue-whale")
    assert "teacher" in judge.refusal()
    with pytest.raises(BadInput):
        judge.check(ONE, ONE.solution)
    monkeypatch.setenv(asking.PROGRAMS_VARIABLE, "1")
    monkeypatch.setattr(lock, "is_available", lambda: True)
    assert not judge.refusal()
    monkeypatch.setattr(lock, "is_available", lambda: False)
    assert judge.refusal()
    with pytest.raises(BadInput):
        judge.require_lock()


def test_one_program_of_each_learner_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(asking.CLASS_VARIABLE, "blue-whale")
    ann, eve = Asker("a" * 32), Asker("e" * 32)
    with acting_for(ann), judge._turn():
        with pytest.raises(BadInput), judge._turn():
            pass
        with acting_for(eve), judge._turn():
            assert judge._busy == {ann.owner, eve.owner}
    assert not judge._busy


def test_the_judges_process_gets_no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "HF_TOKEN",
        "WANDB_API_KEY",
        asking.CLASS_VARIABLE,
        "PEFT_LAB_METRICS_TOKEN",
        "PEFT_LAB_HOME",
    ):
        monkeypatch.setenv(name, "secret")
    assert "secret" not in judge._environment().values()


def test_nothing_of_this_package_can_be_read() -> None:
    package = Path(judge.__file__).resolve().parents[2]
    assert not [path for path in lock.folders() if package.is_relative_to(path.resolve())]
    assert not [path for path in lock.folders() if path.resolve().is_relative_to(package)]


def test_an_exercise_that_does_not_run_is_said() -> None:
    broken = ONE.__class__(**{**vars(ONE), "id": "broken", "cases": "def cases(random): raise OSError"})
    with pytest.raises(RunError, match="broken"):
        judge.check(broken, ONE.solution)


@pytest.mark.slow
def test_where_no_process_can_be_forked(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Windows: each program in a process that first imports torch."""
    assert judge._right(ONE) and judge._wrong(ONE)
    monkeypatch.setattr(judge, "_FORKS", False)
    assert "limited in time only" in judge.protection()
    assert judge.check(ONE, ONE.mistaken(ONE.mistakes[1])).mistake == "unscaled"
    monkeypatch.setattr(judge, "_IMPORTING", 0.0)
    assert "0.1 seconds" in judge.check(ONE, "while True: pass", Limits(0.1)).message


@pytest.mark.slow
def test_where_the_kernel_locks_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on macOS: a program is limited all the same."""
    monkeypatch.setattr(judge, "_command", lambda: [*COMMAND[:-2], "-c", UNLOCKED])
    judge._warm.close()
    monkeypatch.setattr(lock, "is_available", lambda: False)
    assert "Run only programs that you trust" in judge.protection()
    try:
        assert judge.check(ONE, ONE.solution).passed
        assert "more memory" in judge.check(ONE, "bytearray(20 << 30)", Limits(2, 10**8)).message
        assert "0.3 seconds" in judge.check(ONE, "while True: pass", Limits(0.3)).message
        assert not judge.check(ONE, "open('left', 'w').write('x')").passed
    finally:
        judge._warm.close()


COMMAND = judge._command()
UNLOCKED = "from peft_lab.interview.write import lock, warm; lock.is_available = lambda: False; warm.main()"


def test_calls_for_the_judge_at_once() -> None:
    """Two threads are answered side by side, each with its own verdict."""
    found: dict[int, Verdict] = {}

    def run(number: int) -> None:
        found[number] = judge.check(ONE, ONE.solution if number % 2 else "def merge(*a, **b): return 1")

    threads = [threading.Thread(target=run, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {number: one.passed for number, one in found.items()} == {0: False, 1: True, 2: False, 3: True}


locked = pytest.mark.skipif(not lock.is_available(), reason="this kernel cannot lock a process down")
SHORT = Limits(seconds=30.0, memory=500_000_000)
SECRET = "no program may read this: 7c41"

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


@locked
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


@locked
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
