"""Exit statuses and streams: what holds for every command, also where nobody takes its output."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import TextIO

import pytest

from peft_lab.__main__ import main
from peft_lab.cli import app, output
from peft_lab.cli.application import FAILED, INTERRUPTED
from peft_lab.core.errors import PeftLabError
from tests.cli.conftest import REPO, Run
from tests.prose import facts, says


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["coutn"], "'count'"),
        (["count"], "--model"),
        (["methods", "--jsn"], "--json"),
        (["count", "--model"], "--model"),
        (["fetch", "minilm"], "'minilm-l6'"),
        (["methods", "surplus"], "surplus"),
    ],
)
def test_usage_errors_are_one_line(run: Run, arguments: list[str], named: str) -> None:
    assert named in run(*arguments).refused()


def test_failure_that_is_nobodys_input_exits_with_one(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from peft_lab.core.errors import AssetError
    from peft_lab.models.assets import store as assets

    def broken(*_: object) -> None:
        raise AssetError("no connection\nto the index")

    monkeypatch.setattr(assets, "fetch", broken)
    failed = run("fetch")
    assert (failed.status, failed.stdout) == (FAILED, "")
    assert says(failed.stderr, "error", "connection")


def test_fetching_everything_measures_the_machine_once(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from concurrent.futures import Future

    from peft_lab.cli import start
    from peft_lab.core.errors import RunError
    from peft_lab.engine.timing import here
    from peft_lab.models.assets import store as assets
    from peft_lab.runs import waiting

    known, begun = [False], list[int]()

    def begin() -> Future[None]:
        begun.append(1)
        known[0], done = len(begun) > 1, Future[None]()
        done.set_result(None) if known[0] else done.set_exception(RunError("a run is under way"))
        return done

    monkeypatch.setattr(assets, "fetch", lambda *_: [])
    monkeypatch.setattr(here, "complete", lambda: known[0])
    monkeypatch.setattr(waiting, "begin_calibrating", begin)
    monkeypatch.setattr(start, "_run_child", lambda *_: 0)
    for arguments, times in ((["fetch", "minilm-l6"], 0), (["fetch"], 1), (["app"], 2), (["fetch"], 2)):
        failing = len(begun) == 0 and times == 1
        done = run(*arguments)
        assert done.status == 0 and len(begun) == times
        assert ("a run is under way" in done.stderr) == failing


def test_a_bug_is_not_hidden(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from peft_lab.cli import catalog

    monkeypatch.setattr(catalog, "known_models", dict[str, object]().__getitem__)
    with pytest.raises(TypeError):
        run("models")


def test_ctrl_c_is_one_line_while_commands_are_imported(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Slow(ModuleType):
        def __getattr__(self, name: str) -> object:
            raise KeyboardInterrupt

    monkeypatch.setitem(sys.modules, "peft_lab.cli", Slow("peft_lab.cli"))
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == INTERRUPTED
    assert capsys.readouterr().err == "error: interrupted\n"


@pytest.mark.slow
def test_prints_of_others_go_to_stderr() -> None:
    """Also what a child process or a C library writes to the descriptor."""
    script = (
        "import os, peft_lab.cli.catalog as c, peft_lab.models.catalogue as m\n"
        "def noisy():\n"
        "    print('loud'); os.system('echo louder'); os.write(1, b'loudest'); return m.known_models()\n"
        "c.known_models = noisy\n"
        "from peft_lab.cli import main\n"
        "main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, "models", "--json"],
        cwd=REPO,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith("[\n")
    assert done.stdout.endswith("]\n")
    for word in ("loud\n", "louder\n", "loudest"):
        assert word in done.stderr
        assert word not in done.stdout


def test_listing_commands_load_no_torch() -> None:
    script = (
        "import sys\n"
        "from peft_lab.cli import app\n"
        "for command in ('methods', 'models'):\n"
        "    app([command, '--json'], standalone_mode=False)\n"
        "heavy = {'torch', 'transformers', 'peft', 'bitsandbytes', 'streamlit', 'pandas'} & set(sys.modules)\n"
        "sys.exit(' '.join(heavy) or 0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=REPO, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_interrupt_is_one_line(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from peft_lab.models.assets import store as assets

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(assets, "fetch", interrupted)
    done = run("fetch")
    assert done.status == 130
    assert "interrupted" in done.stderr


def test_every_command_takes_json() -> None:
    """The contract's promise, for commands that are yet to come too. What starts the app has no result."""
    assert app.registered_commands
    for command in app.registered_commands:
        assert command.callback is not None
        if command.name in ("app", "serve"):
            continue
        assert "as_json" in command.callback.__annotations__, command.name


@pytest.mark.parametrize(
    "words",
    [
        ("methods", "@"),
        ("export", "a-run", "--as", "@"),
        ("memory", "-m", "gpt2", "--batch", "1", "--seq", "8", "--method", "lora", "--optimizer", "@"),
        ("count", "-m", "gpt2", "--adapter-config", "@"),
        ("sweep", "@"),
        ("runs", "--adopt", "@"),
    ],
)
def test_no_message_is_without_end(run: Run, words: tuple[str, ...]) -> None:
    """What is repeated is shortened, and the fault is that of what was typed."""
    line = run(*(word.replace("@", "q" * 4_000 + ".txt") for word in words)).refused()
    shortened = line.replace(".txt", "")
    assert (
        len(line) < 400 and ("qqq…qqq" in shortened or "qqq…'" in shortened) and "PEFT_LAB_HOME" not in line
    )


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
