"""The child process of one run: settles itself, trains, and says how it ended."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from peft_lab import processes
from peft_lab.errors import PeftLabError
from peft_lab.runs.store import Run


def main(folder: str) -> None:
    """Train the run in ``folder``. Errors of this package become its message; any other is a bug, told in the log."""
    run = Run(Path(folder).name, Path(folder))
    _print_to(run.folder / "worker.log")
    processes.settle_child(home=str(run.folder.parent.parent))
    from peft_lab.runs import record, training

    try:
        ending, message = training.train(run)
    except PeftLabError as error:
        ending, message = "failed", str(error)
    record.end(run, ending, message)


def _print_to(path: Path) -> None:
    """Send what this process and its libraries print to a file; the command line's stdout is for its result."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    sys.stdout.flush()
    sys.stderr.flush()
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)
