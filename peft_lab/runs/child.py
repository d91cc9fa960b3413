"""Start, watch and end the child process of one run, and explain why it ended; also run what the child itself does."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
from filelock import FileLock

from peft_lab.classroom import places
from peft_lab.core import asking, disk, processes
from peft_lab.core.errors import PeftLabError, RunError
from peft_lab.runs import checkpoints, kept, owners, record, training, waiting
from peft_lab.runs.owners import Owner
from peft_lab.runs.store import Run
from peft_lab.runs.tracking import start
from peft_lab.runs.view import Status, has_ended
from peft_lab.takeaway.bundle import write_papers


def end_run(run: Run, ending: str, message: str, works: Mapping[str, float] | None = None) -> None:
    """Write record and model card, then the final event: whoever reads that a run has ended finds both."""
    last = {"type": ending, "time": time.time(), "message": message}
    found = record.result(run, [last])
    disk.write_json(run.folder / kept.RECORD, found)
    try:
        write_papers(run)
    finally:
        # hashed after the papers are written, and before the ending is told
        disk.write_json(run.folder / kept.RECORD, {**found, "files": kept.file_hashes(run.folder)})
        run.log.emit(ending, message=message, **({"works": dict(works)} if works else {}))
        if ending == Status.DONE:
            checkpoints.clear(run.folder)


#: Exit code of a process that could not write its final event; the system's error number is added.
STORAGE = 100
#: The exit code multiprocessing reports if the fork server, which alone knows the real one, is gone.
_NOBODY_KNOWS = 255
_ATTEMPTS = 5
_BETWEEN = 0.3  # seconds: a process that is being killed still answers for a moment


class Child:
    """A run's process. If the fork server is gone, the process table says whether the child lives."""

    def __init__(self, run: Run) -> None:
        """Start the process, and the one that follows the run for its trackers. Raises RunError."""
        self._run = run
        self.turn = waiting.turn_number(run)
        self._process = _made(run, self.turn)
        self._known = _looked_up(self._process.pid)
        start.begin(run)

    def alive(self) -> bool:
        if self._process.is_alive():
            return True
        return self._process.exitcode == _NOBODY_KNOWS and self._there()

    def wait(self, seconds: float) -> None:
        """Wait until the process ends, but no longer than ``seconds``."""
        if self._process.is_alive():
            self._process.join(seconds)
        elif self.alive():
            time.sleep(seconds)

    def signal(self, number: int) -> None:
        if self.alive() and self._there() and self._process.pid is not None:
            with suppress(ProcessLookupError):
                os.kill(self._process.pid, number)

    def kill(self, patience: float) -> None:
        """Kill the process, even if this one can open no more files, and wait up to ``patience`` seconds."""
        if self._process.is_alive():
            self._process.kill()
            self._process.join(patience)
        else:
            self.signal(signal.SIGKILL)

    def _there(self) -> bool:
        return self._known is not None and owners.running(self._known)

    def cause(self) -> RunError:
        """Return why the process ended without a final event."""
        error = RunError(self._cause())
        if self._process.exitcode == -signal.SIGKILL:
            with suppress(RunError):  # a damaged folder
                batch = self._run.spec.batch
                return error.with_works(batch=batch // 2) if batch > 1 else error
        return error

    def _cause(self) -> str:
        code = self._process.exitcode
        if code == -signal.SIGKILL:
            return "The training process was killed from outside, usually because memory ran out."
        if code is not None and code < 0:
            return f"The training process was ended by signal {-code} ({signal.Signals(-code).name})."
        if code == _NOBODY_KNOWS:
            return "The training process and the one that starts runs were killed from outside. Start the run again."
        if code is not None and code > STORAGE:
            return f"The run could not write its files: {disk.why(code - STORAGE)}."
        lines: list[str] = []
        with suppress(OSError):
            lines = (self._run.folder / "worker.log").read_text("utf-8", "replace").strip().splitlines()
        return ": ".join([f"The training process ended with an error (exit code {code})", *lines[-1:]])


def _main(folder: str, home: str, turn: float, after: int, of_class: str) -> None:
    """Run in the child process. ``after``: by how much its CPU priority is lowered. ``of_class``: the class's code."""
    os.environ[asking.CLASS_VARIABLE] = of_class
    processes.give_way(after, always=True)
    main(folder, home, turn)


def _made(run: Run, turn: float) -> Any:
    making: Any = processes.context()
    for attempt in range(_ATTEMPTS):
        # Evaluated here: the fork server may have been started before there was a class.
        given = (
            str(run.folder),
            str(disk.home()),
            turn,
            processes.TRAINS_AFTER if asking.class_is_on() else 0,
            os.environ.get(asking.CLASS_VARIABLE, ""),
        )
        process = making.Process(target=_main, args=given, name=run.id, daemon=True)
        try:
            process.start()
            return process
        except (EOFError, ConnectionError) as error:
            # The fork server was killed while starting a child; trying again starts a new server.
            if attempt + 1 == _ATTEMPTS:
                reason = str(error) or "the process that starts runs has ended"
                raise RunError(f"The training process could not be started: {reason}.") from error
            time.sleep(_BETWEEN)
        except OSError as error:
            raise RunError(
                f"The training process could not be started: {error.strerror or error}."
            ) from error
    raise AssertionError("unreachable")


def _looked_up(pid: int | None) -> Owner | None:
    try:
        return Owner(int(pid or 0), owners.started(psutil.Process(pid)))
    except (psutil.Error, ValueError):
        return None


# ----------------------------------------
# In the child process: set itself up, train, and write how it ended.


def main(folder: str, home: str, turn: float, threads: int | None = None) -> None:
    """Train the run in ``folder`` with the weights in ``home`` if ``turn`` is its latest. Errors of this package become
    its final message; any other is a bug and goes to the log."""
    run = Run(Path(folder).name, Path(folder))
    training.listen_for_stop()
    try:
        _print_to(run.folder / "worker.log")
        processes.settle_child(home, threads, orphaned=training.end_soon)
        with FileLock(run.folder / waiting.HOLD_LOCK), asking.acting_for(places.asker_of(run.folder)):
            if waiting.turn_number(run) == turn and not has_ended(
                run.events()
            ):  # neither queued again nor ended
                run.log.emit("worker", owner=owners.myself().to_dict(), niceness=processes.niceness())
                ending, message, works = _trained(run)
                try:
                    end_run(run, ending, message, works)
                except OSError:  # the disk may still take the event
                    run.log.emit(ending, message=message)
    except OSError as error:
        code = disk.number(error)
        if not run.folder.exists():
            return  # deleted by hand
        if code is None:
            raise
        os._exit(STORAGE + code)


def _trained(run: Run) -> tuple[str, str, Mapping[str, float]]:
    """Train; return the final event's type, its message, and settings that would work."""
    try:
        ending, message = training.train(run)
        return ending, f"{message} {run.why_stopped()}".strip() if ending == Status.STOPPED else message, {}
    except PeftLabError as error:
        return "failed", str(error), error.works
    except Exception as error:
        reason = disk.explained(error, run.folder)
        if reason is None:
            raise
        return "failed", reason, {}


def _print_to(path: Path) -> None:
    """Redirect all output of this process to a file; stdout is for the command line's result."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    sys.stdout.flush()
    sys.stderr.flush()
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)


# ----------------------------------------
# A run in a process that an engine such as Ray started, on this machine or another.
#
# The engine restarts it if the process or its node was lost. The run then resumes from its latest checkpoint, in the
# same folder, so that each step is counted once.


LOST = "The run's process or node was lost; the run continues elsewhere."


def carry_elsewhere(folder: str, home: str, turn: float, threads: int) -> str:
    """Train the run in ``folder`` in this process; return its status afterwards. ``turn``: the one that the engine was
    asked for; if its owner has queued the run again since, it is left alone. Raises RunError."""
    run = Run(Path(folder).name, Path(folder))
    if checkpoints.asked_to_go_on(run) == turn and not run.status().final:
        # A process lost before it began has left the turn that it queued.
        kinds = (event["type"] for event in reversed(run.events()))
        begun = next((kind for kind in kinds if kind in ("worker", "queued")), "") == "worker"
        turn = checkpoints.taken_over(run, LOST) if begun else waiting.turn_number(run)
    main(folder, home, turn, threads)
    return str(run.status())
