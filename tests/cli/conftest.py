"""Running the command line in this process and, where it has to be the real thing, in one of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from peft_lab.cli import app
from tests.waits import SECONDS

REPO = Path(__file__).parents[2]


class Result:
    """What a command left behind: exit status and the two streams."""

    def __init__(self, status: int, stdout: str, stderr: str) -> None:
        self.status, self.stdout, self.stderr = status, stdout, stderr

    @property
    def document(self) -> Any:
        assert self.status == 0, self.stderr
        return json.loads(self.stdout)

    def refused(self) -> str:
        """The one line of a command that was given bad input."""
        assert self.status == 2, (self.status, self.stdout, self.stderr)
        assert self.stdout == ""
        lines = self.stderr.splitlines()
        assert len(lines) == 1, lines
        assert lines[0].startswith("error: ")
        return lines[0]


Run = Callable[..., Result]


@pytest.fixture
def run() -> Run:
    """The command line in this process; an exception that is a bug is raised as it is."""

    def call(*arguments: str) -> Result:
        done = CliRunner().invoke(app, list(arguments))
        if done.exception and not isinstance(done.exception, SystemExit):
            raise done.exception
        return Result(done.exit_code, done.stdout, done.stderr)

    return call


@pytest.fixture
def run_process() -> Run:
    """``python -m peft_lab`` in a process of its own, as a script would call it."""

    def call(*arguments: str, **environment: str) -> Result:
        done = subprocess.run(
            [sys.executable, "-m", "peft_lab", *arguments],
            cwd=REPO,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=SECONDS,
            check=False,
        )
        return Result(done.returncode, done.stdout, done.stderr)

    return call
