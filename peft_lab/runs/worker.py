"""The child process of one run: set itself up, train, and write how it ended."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from peft_lab.classroom import places
from peft_lab.core import disk as storage
from peft_lab.core.asking import acting_for
from peft_lab.core.errors import PeftLabError
from peft_lab.runs import hold, owners, training
from peft_lab.runs.store import Run
from peft_lab.runs.view import Status
from peft_lab.workers import processes

#: Exit code of a process that could not write its final event; the system's error number is added.
STORAGE = 100


def main(folder: str, home: str, turn: float, threads: int | None = None) -> None:
    """Train the run in ``folder`` with the weights in ``home`` if ``turn`` is its latest (:mod:`peft_lab.runs.hold`).
    Errors of this package become its final message; any other is a bug and goes to the log."""
    run = Run(Path(folder).name, Path(folder))
    training.listen_for_stop()
    try:
        _print_to(run.folder / "worker.log")
        processes.settle_child(home, threads, orphaned=training.end_soon)
        with hold.is_training(run, turn) as mine, acting_for(places.asker_of(run.folder)):
            if mine:
                run.log.emit("worker", owner=owners.myself().to_dict(), niceness=processes.niceness())
                _end(run, *_trained(run))
    except OSError as error:
        code = storage.number(error)
        if not run.folder.exists():
            return  # deleted by hand
        if code is None:
            raise
        os._exit(STORAGE + code)


def _trained(run: Run) -> tuple[str, str]:
    """Train; return the ending's type and message. Disk errors are reported as such, whatever raised them."""
    from peft_lab.runs import training

    try:
        ending, message = training.train(run)
        return ending, f"{message} {run.why_stopped()}".strip() if ending == Status.STOPPED else message
    except PeftLabError as error:
        return "failed", str(error)
    except Exception as error:
        reason = storage.explained(error, run.folder)
        if reason is None:
            raise
        return "failed", reason


def _end(run: Run, ending: str, message: str) -> None:
    """Write the record and the final event; if the disk takes only the event, write that."""
    from peft_lab.runs import ending as last

    try:
        last.end_run(run, ending, message)
    except OSError:
        run.log.emit(ending, message=message)


def _print_to(path: Path) -> None:
    """Redirect all output of this process to a file; stdout is for the command line's result."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    sys.stdout.flush()
    sys.stderr.flush()
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)
