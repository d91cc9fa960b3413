"""Cases in processes of their own, forked from this one with the slow imports done: limits, and what came out."""

from __future__ import annotations

import importlib
import multiprocessing
import resource
import signal
import time
import traceback
from collections.abc import Callable, Sequence
from typing import Any

import psutil

from bench.faults.rows import Outcome

_PATIENCE = 5.0
_BUSY = 4  # times as long a case may take on a busy machine: what counts is processor time


def apart(
    function: Callable[..., Any], arguments: Sequence[Any], seconds: float, memory: int
) -> tuple[Outcome, Any]:
    """Call a function in a process of its own; its result is ``None`` if it raised, hung or died.

    Args:
        seconds: processor time it may take. memory: bytes of address space beside those that this process has by now:
            a test's process has held models.
    """
    making = multiprocessing.get_context("fork")
    here, there = making.Pipe(duplex=False)
    child = making.Process(
        target=_call, args=(there, function, arguments, (round(seconds), memory)), daemon=True
    )
    start = time.monotonic()
    child.start()
    there.close()
    found: dict[str, Any] = {}
    try:
        if here.poll(_BUSY * seconds):
            found = here.recv()
    except EOFError:
        pass
    outcome = Outcome(seconds=time.monotonic() - start)
    outcome.hung = not found and child.is_alive()
    child.join(0 if outcome.hung else _PATIENCE)
    if child.is_alive():
        child.kill()
        child.join()
    outcome.hung = outcome.hung or child.exitcode == -signal.SIGXCPU
    if not found and not outcome.hung:
        outcome.faults.append(f"the process died (exit code {child.exitcode})")
    outcome.traceback = found.get("traceback", "")
    outcome.peak_bytes = found.get("peak", 0)
    return outcome, found.get("result")


def _call(pipe: Any, function: Callable[..., Any], arguments: Sequence[Any], limits: tuple[int, int]) -> None:
    spent = round(time.process_time())
    resource.setrlimit(resource.RLIMIT_CPU, (spent + limits[0], spent + limits[0] + 5))
    room = psutil.Process().memory_info().vms + limits[1]
    resource.setrlimit(resource.RLIMIT_AS, (room, room))
    found: dict[str, Any] = {}
    try:
        found["result"] = function(*arguments)
    except BaseException:  # noqa: BLE001  whatever it is, it is what the campaign looks for
        found["traceback"] = traceback.format_exc()
    found["peak"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    pipe.send(found)


def cli(arguments: Sequence[str], seconds: float, memory: int) -> Outcome:
    """The command line in a forked process. Right is a result (status 0) or one line on stderr (status 2)."""
    outcome, result = apart(invoke, arguments, seconds, memory)
    if result is None:
        return outcome
    status, said = result
    if "Traceback" in said:
        outcome.traceback = said
    lines = [line for line in said.splitlines() if line.startswith("error: ")]
    if status not in (0, 2):
        outcome.faults.append(f"exit status {status}: {said.strip()[-300:]}")
    elif status == 2 and (len(lines) != 1 or said.strip() != lines[0]):
        outcome.faults.append(f"not one line: {said[:300]!r}")
    return outcome


def invoke(*arguments: str) -> tuple[int, str]:
    """The command line in this process: its exit status and what it wrote to stderr. What it raises comes through."""
    from typer.testing import CliRunner

    from peft_lab.cli import app

    done = CliRunner().invoke(app, list(arguments))
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.stderr


def preload() -> None:
    """The slow imports, so that forked cases have them. Nothing is computed: OpenMP's threads do not survive a fork."""
    from peft_lab.core import processes

    for name in processes.PRELOADED:
        importlib.import_module(name)
