from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from peft_lab.core import asking, disk, inspector
from peft_lab.core.errors import BadInput, PeftLabError, RunError, UnknownName
from peft_lab.core.inspector import Inspector, question_key
from peft_lab.methods.counting.count import count
from tests.waits import SECONDS


def process_id() -> int:
    return os.getpid()


def main_file() -> str | None:
    return getattr(sys.modules["__main__"], "__file__", None)


def wait_and_note(path: str) -> int:
    time.sleep(0.3)
    with Path(path).open("a") as file:
        file.write("x")
    return Path(path).stat().st_size


def note_and_fail(path: str, about: float) -> None:
    wait_and_note(path)
    raise RunError("no memory")


def die(code: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def refuse(kind: str) -> None:
    raise {
        "unknown": UnknownName("method", "laura", ["lora"], "method"),
        "bad": BadInput("Rank must be from 1.", "r"),
        "bug": ZeroDivisionError("a bug"),
    }[kind]


@pytest.fixture(scope="module")
def asked(session_home: Path) -> Iterator[Inspector]:
    made = Inspector()
    yield made
    made.close()


def test_answers_come_from_another_process(asked: Inspector) -> None:
    assert asked.ask(process_id) != os.getpid()
    assert asked.ask(disk.home) == disk.home()


def test_the_child_does_not_take_over_the_parents_main(
    asked: Inspector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever that is here: a worker of the test runner has a module without a file there."""
    script = tmp_path / "parent.py"
    script.write_text("raise RuntimeError('the script was run again')")
    monkeypatch.setattr(sys.modules["__main__"], "__file__", str(script), raising=False)
    assert asked.ask(main_file) != str(script)


def test_counting_as_in_this_process(asked: Inspector) -> None:
    there = asked.ask(count, "gpt2", "lora", {"r": 4})
    here = count("gpt2", "lora", {"r": 4})
    assert there.as_dict() | {"seconds": 0} == here.as_dict() | {"seconds": 0}


def test_a_process_of_a_class_answers_nobody_else(asked: Inspector) -> None:
    """Nor does one of nobody's a class."""
    without, known = asked.ask(asking.class_is_on), asked.ask(process_id)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(asking.CLASS_VARIABLE, "blue-whale")
        within, other = asked.ask(asking.class_is_on), asked.ask(process_id)
        assert asked.ask(process_id) == other
    assert (without, within, asked.ask(asking.class_is_on)) == (False, True, False)
    assert len({known, other, asked.ask(process_id)}) == 3


def test_who_asks_in_another_lab_folder_is_answered_from_there(asked: Inspector, tmp_path: Path) -> None:
    before = asked.ask(disk.home)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PEFT_LAB_HOME", str(tmp_path))
        assert asked.ask(disk.home) == tmp_path != before
    assert asked.ask(disk.home) == before


def test_equal_questions_are_asked_once(asked: Inspector, tmp_path: Path) -> None:
    path = str(tmp_path / "marks")
    first, second = asked.submit(wait_and_note, path), asked.submit(wait_and_note, path)
    assert first is second
    assert first.result() == asked.ask(wait_and_note, path) == 1
    asked.forget()
    assert asked.ask(wait_and_note, path) == 2


def test_only_so_many_answers_are_kept(tmp_path: Path) -> None:
    small = Inspector(kept=2)
    paths = [str(tmp_path / name) for name in "abc"]
    for path in paths:
        small.ask(wait_and_note, path)
    assert [small.ask(wait_and_note, path) for path in (paths[2], paths[0])] == [1, 2]
    small.close()


def test_errors_come_back_as_themselves(asked: Inspector) -> None:
    with pytest.raises(UnknownName, match="lora") as unknown:
        asked.ask(refuse, "unknown")
    assert unknown.value.field == "method"
    with pytest.raises(BadInput, match="from 1") as bad:
        asked.ask(refuse, "bad")
    assert bad.value.field == "r"
    with pytest.raises(BadInput):
        asked.ask(count, "gpt2", "lora", {"r": 0})
    with pytest.raises(ZeroDivisionError):
        asked.ask(refuse, "bug")


def test_a_failure_is_told_for_a_while_and_then_asked_anew(
    asked: Inspector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page that waited longer than its patience asks again when the answer has come."""
    asked.forget()
    path = tmp_path / "notes"
    for told, begun in ((60.0, 1), (0.0, 2)):
        monkeypatch.setattr(inspector, "TOLD_FOR", told)
        path.unlink(missing_ok=True)
        for _ in range(2):
            with pytest.raises(RunError, match="no memory"):
                asked.ask(note_and_fail, str(path), told)
        assert path.stat().st_size == begun


def test_a_dead_worker_fails_its_question_and_no_other(asked: Inspector) -> None:
    before = asked.ask(process_id)
    with pytest.raises(RunError, match="try again"):
        asked.ask(die, 1)
    asked.forget()
    assert asked.ask(process_id) != before


def test_a_worker_that_died_unseen_is_replaced(asked: Inspector) -> None:
    asked.forget()
    pid = asked.ask(process_id)
    os.kill(pid, signal.SIGKILL)
    time.sleep(0.5)
    asked.forget()
    assert asked.ask(process_id) != pid


def test_questions_are_compared_by_value() -> None:
    assert question_key(count, ("a",), {"x": 1, "y": (2,)}) == question_key(count, ("a",), {"y": [2], "x": 1})
    assert question_key(count, ("a",), {}) != question_key(process_id, ("a",), {})
    with pytest.raises(TypeError):
        question_key(count, (object(),), {})


def test_a_long_question_is_kept_by_a_short_key_of_its_own() -> None:
    lengths = tuple(range(1, 100_000))
    key = question_key(count, (lengths, 512), {})
    assert len(key) < 200 and key == question_key(count, (list(lengths), 512), {})
    assert (
        key != question_key(count, ((*lengths[:-1], 1), 512), {}) != question_key(count, (lengths, 511), {})
    )
    assert key != question_key(process_id, (lengths, 512), {})


def test_errors_survive_pickling() -> None:
    import pickle

    for error in (UnknownName("a", "b", ["c"], "f"), BadInput("x", "f"), RunError("y"), PeftLabError("z")):
        back = pickle.loads(pickle.dumps(error))
        assert type(back) is type(error) and str(back) == str(error) and back.__dict__ == error.__dict__


def test_warm_starts_the_counting_process() -> None:
    inspector.warm()
    assert inspector.ask(process_id) != os.getpid()
    inspector.get_inspector().close()


_ASKS = """
from peft_lab.core import inspector
from tests.core.asking_another import there
print(*inspector.ask(there))
"""


@pytest.mark.further
@pytest.mark.slow
def test_a_worker_that_asked_another_ends_with_its_app_and_so_does_the_other() -> None:
    """They waited for each other for ever, and a server that was asked to end never did."""
    done = subprocess.run(
        [sys.executable, "-c", _ASKS], capture_output=True, text=True, check=True, timeout=SECONDS
    )
    first, second = map(int, done.stdout.split())
    assert first != second
    until = time.monotonic() + 30
    while any(Path(f"/proc/{one}").exists() for one in (first, second)) and time.monotonic() < until:
        time.sleep(0.2)
    assert not any(Path(f"/proc/{one}").exists() for one in (first, second))
