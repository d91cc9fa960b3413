"""Starting the app, for one person and for a class; what is started is looked at and not run."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from peft_lab import cli
from peft_lab.classroom import joining
from peft_lab.cli import start
from peft_lab.core import asking, journal
from peft_lab.core.errors import AssetError
from peft_lab.drawing.trajectory.sentence import MODEL
from peft_lab.interview.write import lock
from peft_lab.models.assets import store as assets
from tests.prose import says
from tests.waits import SECONDS


@pytest.fixture
def started(own_home: Path, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What was started: arguments and environment."""
    found: list[Any] = []

    def begin(arguments: list[str], env: dict[str, str]) -> Any:
        found.append((arguments, env))
        return SimpleNamespace(wait=lambda: 0)

    monkeypatch.setattr(start, "subprocess", SimpleNamespace(Popen=begin))
    variables = (
        asking.CLASS_VARIABLE,
        asking.LIMITS_VARIABLE,
        asking.MODELS_VARIABLE,
        asking.PROGRAMS_VARIABLE,
    )
    for name in (*variables, journal.VARIABLE):
        monkeypatch.setenv(name, "set-by-the-test")  # so that it is put back afterwards
        monkeypatch.delenv(name)
    return found


def ran(*arguments: str) -> Any:
    return CliRunner().invoke(cli.app, [*arguments, "--no-fetch"])


def test_for_oneself_there_is_no_code(started: list[Any], own_home: Path) -> None:
    for name in ("app", "serve"):
        assert ran(name, "--port", "8700").exit_code == 0
    for arguments, environment in started:
        assert arguments[-2:] == ["--server.port", "8700"] and asking.CLASS_VARIABLE not in environment
    assert not (own_home / "class").exists()


def test_the_app_fetches_what_its_first_page_trains_and_a_server_all(
    started: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A person's app fetches other models where they are used; without a connection it starts all the same."""
    asked: list[tuple[str, ...]] = []

    def fetch(names: Any, progress: Any) -> list[Any]:
        asked.append(tuple(names))
        raise AssetError("no connection")

    monkeypatch.setattr(assets, "fetch", fetch)
    for name in ("app", "serve"):
        done = CliRunner().invoke(cli.app, [name])
        assert done.exit_code == 0 and says(done.stderr, "no connection", "peft-lab fetch")
    assert asked == [(MODEL,), ()] and len(started) == 2


def test_for_a_class_the_codes_are_said_and_stay(started: list[Any], own_home: Path) -> None:
    first, second = ran("serve", "--class"), ran("serve", "--class", "--limit", "runs=2,steps=200")
    made = joining.class_keys()
    for done in (first, second):
        assert done.exit_code == 0 and made.join in done.stderr and made.teacher in done.stderr
    assert says(second.stderr, "2 runs", "200 steps")
    (arguments, environment), (_, limited) = started
    assert (
        environment[asking.CLASS_VARIABLE] == made.join
        and limited[asking.LIMITS_VARIABLE] == "runs=2,steps=200"
    )
    assert arguments[-2:] == ["--server.address", start.EVERYWHERE]


def test_the_folders_of_models_that_a_class_may_use(started: list[Any], tmp_path: Path) -> None:
    assert ran("serve", "--class").exit_code == 0 and asking.MODELS_VARIABLE not in started[0][1]
    done = ran("serve", "--class", "--models", str(tmp_path))
    assert done.exit_code == 0 and str(tmp_path) in done.stderr
    assert started[1][1][asking.MODELS_VARIABLE] == str(tmp_path)


def test_whether_a_class_may_run_programs(started: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "is_available", lambda: True)
    assert ran("serve", "--class").exit_code == 0 and asking.PROGRAMS_VARIABLE not in started[0][1]
    assert ran("serve", "--class", "--programs").exit_code == 0
    assert started[1][1][asking.PROGRAMS_VARIABLE] == "1"
    monkeypatch.setattr(lock, "is_available", lambda: False)
    assert ran("serve", "--class", "--programs").exit_code == 2 and len(started) == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("serve", "--programs"), "Add --class"),
        (("serve", "--code", "blue-whale"), "Add --class"),
        (("serve", "--class", "--code", "abc"), "at least 6 characters"),
        (("serve", "--class", "--limit", "cats=1"), "needs whole numbers"),
        (("serve", "--base-path", "a b"), "--base-path takes letters"),
        (("serve", "--base-path", "../x"), "--base-path takes letters"),
        (("serve", "--models", "/tmp"), "Add --class"),
        (("serve", "--class", "--models", "/no/such/place"), "a folder"),
        (("serve", "--log", "/tmp"), "--log /tmp"),
    ],
)
def test_what_cannot_be_served_is_said(arguments: tuple[str, ...], said: str, started: list[Any]) -> None:
    done = ran(*arguments)
    assert done.exit_code == 2 and said in done.stderr and not started


@pytest.mark.parametrize("given", ["teach/lab", "/teach/lab/"])
def test_below_a_base_path(given: str, started: list[Any]) -> None:
    assert ran("serve", "--base-path", given).exit_code == 0
    assert started[0][0][-2:] == ["--server.baseUrlPath", "teach/lab"]


def test_a_log_lies_where_it_was_asked_for(
    started: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("-", "events.jsonl"):
        assert ran("serve", "--log", name).exit_code == 0
    assert [found[1][journal.VARIABLE] for found in started] == ["-", str(tmp_path / "events.jsonl")]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM that a process could hear")
def test_who_ends_the_command_ends_the_server() -> None:
    """A container or systemd ends the process that it started; the server it carries must not stay behind."""
    heard = "signal.signal(signal.SIGTERM, lambda *_: sys.exit(3))"
    child = f"import signal, sys; {heard}; print('here', flush=True); signal.pause()"
    call = f"sys.exit(_run_child([sys.executable, '-c', {child!r}], {{}}))"
    code = f"import sys; from peft_lab.cli.start import _run_child; {call}"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as command:
        assert command.stdout is not None and command.stdout.readline() == "here\n"
        command.send_signal(signal.SIGTERM)
        assert command.wait(SECONDS) == 0
        assert command.stdout.read() == "", "its end was read: the server has gone, too"
