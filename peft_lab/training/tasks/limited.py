"""Run a module in a process of its own, with limits on time and memory, so that no file can harm the calling one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from peft_lab.core.errors import RunError

_LOOK = 0.05  # seconds between two looks at the process
_SIGNAL = 128


def run(
    module: str, *given: str, data: bytes, seconds: float, tick: Callable[[], object] = lambda: None
) -> tuple[int, bytes, str]:
    """Run ``python -m module given`` with ``data`` as input; return its exit code, output and last words. An exception
    from ``tick`` ends it. Raises TimeoutError, RunError (it cannot be started)."""
    root = str(Path(__file__).resolve().parents[3])
    search = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    try:
        child = subprocess.Popen(
            [sys.executable, "-P", "-m", module, *given],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": search},
        )  # fmt: skip
    except OSError as trouble:
        raise RunError(f"No process could be started to read the file: {trouble.strerror}.") from trouble
    stdin, child.stdin = child.stdin, None

    def send() -> None:
        with suppress(OSError):  # a process that has ended takes no more
            if stdin is not None:
                with stdin:
                    stdin.write(data)

    sender = threading.Thread(target=send, daemon=True)
    sender.start()
    deadline = time.monotonic() + seconds
    try:
        while True:
            tick()
            try:
                answer, log = child.communicate(timeout=_LOOK)
                break
            except subprocess.TimeoutExpired:
                if time.monotonic() > deadline:
                    raise TimeoutError from None
    finally:
        if child.poll() is None:
            child.kill()
        child.wait()
        sender.join()
        for stream in (child.stdout, child.stderr):
            if stream is not None:
                stream.close()
    if child.returncode == -getattr(signal, "SIGXCPU", _SIGNAL):
        raise TimeoutError
    lines = log.decode("utf-8", "replace").strip().splitlines()
    return child.returncode, answer, lines[-1] if lines else f"exit code {child.returncode}"


def limit(seconds: int, memory: int) -> None:
    """Limit this process to processor seconds and bytes of memory, where the system can."""
    with suppress(ImportError, ValueError, OSError):  # Windows has no such limits
        import resource

        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
