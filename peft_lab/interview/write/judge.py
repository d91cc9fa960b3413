"""Judge a learner's program: run it in a locked-down process, compare its results with the solution's, name a mistake.

The solution's results never are in the learner's process. What comes from there is read by a strict decoder, so a
program passes only by giving the right results.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from peft_lab.core import asking, processes
from peft_lab.core.errors import BadInput, RunError, echoed
from peft_lab.interview.write import compare, lock
from peft_lab.interview.write.child import MOST_PRINTED, REPLACED
from peft_lab.interview.write.compare import Raised, Results, Test
from peft_lab.interview.write.exercises import Exercise, exercise

LONGEST = 50_000  # characters of a program
MOST_BYTES = 8_000_000  # of its results
_FORKS = hasattr(os, "fork")
_AT_ONCE = 2  # programs that are judged
_PATIENCE = 180.0  # seconds without a byte, torch's import among them
_ATTEMPTS = 2
_IMPORTING = 60.0  # seconds more where each process has to import torch
_SIGXCPU = 24
_PASSED_ON = ("PATH", "HOME", "LANG", "LD_LIBRARY_PATH", "SYSTEMROOT", "TMPDIR", "TEMP", "VIRTUAL_ENV")


@dataclass(frozen=True)
class Limits:
    """What a program may use: seconds by the clock, bytes of memory beside torch's."""

    seconds: float = 8.0
    memory: int = 2_000_000_000


LIMITS = Limits()
_OF_OWN = Limits(60.0, 4_000_000_000)  # of the exercises' own programs


@dataclass(frozen=True)
class Verdict:
    """The result of judging a program.

    Attributes:
        tests: the outcome of each case.
        mistake: the id of the typical mistake that it makes, if that is recognised.
        message: one sentence; empty if it passed.
        line: the line of the program that raised an exception.
        printed: the start of what it printed. seconds: how long judging took.
    """

    id: str
    passed: bool
    tests: tuple[Test, ...]
    mistake: str | None
    message: str
    line: int | None
    printed: str
    seconds: float


# ----------------------------------------
# Whether programs may be run here, and what holds them.


_UNLOCKED = "This server cannot isolate programs, so a class cannot run programs here."
_TRUST = "Run only programs that you trust."


def protection() -> str:
    """Return what holds a program on this system, in a sentence."""
    if _FORKS and lock.is_available():
        return "Your program runs without network, reads only Python and torch, and cannot write files."
    held = (
        "limited in time only"
        if not _FORKS
        else ("limited in time and in what it writes, but it can read your files and use the network")
    )
    return f"This system cannot lock a program down. Your program is {held}. {_TRUST}"


def refusal() -> str:
    """Return why no program may be run here, in a sentence; empty if it may."""
    if not asking.programs_are_run():
        return "Your teacher has not allowed programs to run on the class's server."
    return "" if not asking.class_is_on() or lock.is_available() else _UNLOCKED


def require_lock() -> None:
    """Raise BadInput if this system cannot lock programs down, as a class needs it."""
    if not lock.is_available():
        raise BadInput(
            f"{_UNLOCKED} Isolation needs Linux 6.2 or later with Landlock and seccomp.", "programs"
        )


# ----------------------------------------
# The judge's process.


class _Warm:
    """The process that has imported torch, and forks for each program. Started at the first request."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None

    def start(self) -> socket.socket:
        """Return the socket to the process, which is started if there is none."""
        with self._lock:
            if self._process is None or self._process.poll() is not None or self._control is None:
                self._control, theirs = socket.socketpair()
                self._process = subprocess.Popen(
                    _command(), stdin=theirs.fileno(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                    env=_environment(), cwd=tempfile.gettempdir(), start_new_session=True,
                )  # fmt: skip
                theirs.close()
            return self._control

    def send(self, message: str, descriptors: tuple[int, int]) -> None:
        """Send a message with two descriptors. If the process has ended, nobody reads it."""
        with suppress(BrokenPipeError, ConnectionError):
            socket.send_fds(self.start(), [message.encode()], descriptors)

    def close(self) -> None:
        """End the process; processes that it forked run to their own end."""
        with self._lock:
            if self._control is not None:
                self._control.close()
            if self._process is not None:
                self._process.kill()
                self._process.wait()
            self._process = self._control = None


def _command() -> list[str]:
    return [sys.executable, "-P", "-m", "peft_lab.interview.write.warm"]


def _environment() -> dict[str, str]:
    """Return the environment of the judge's process: no keys or codes of the server's."""
    passed = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    path = os.pathsep.join(
        filter(None, [str(Path(__file__).resolve().parents[3]), os.environ.get("PYTHONPATH")])
    )
    return {**passed, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}


_warm = _Warm()
atexit.register(_warm.close)


def warm() -> None:
    """Start the judge's process, which imports torch for some seconds. Returns at once."""
    if _FORKS and not refusal():
        _warm.start()


@dataclass
class _Answer:
    """What came from a program's process: its lines, whether there were too many (``cut``), whether it took too long
    (``stopped``), and its ``code`` as :attr:`subprocess.Popen.returncode`."""

    lines: bytes
    cut: bool
    stopped: bool
    code: int


def _ask(request: dict[str, Any], limits: Limits) -> _Answer:
    """Have a request answered by a process of its own. Raises RunError: the judge's process cannot be started, or
    ended."""
    sent = json.dumps(request).encode()
    if not _FORKS:
        return _ask_once(sent, limits)
    niceness = processes.SIMULATES_AFTER if asking.class_is_on() else 0
    for _ in range(_ATTEMPTS):
        ours, theirs = socket.socketpair()
        status, reported = os.pipe()
        with ours, os.fdopen(status, "rb") as end:
            try:
                _warm.send(f"{limits.seconds} {limits.memory} {niceness}", (theirs.fileno(), reported))
            finally:
                theirs.close()
                os.close(reported)
            ours.settimeout(_PATIENCE)
            lines = bytearray()
            try:
                ours.sendall(sent)
                ours.shutdown(socket.SHUT_WR)
                while len(lines) <= MOST_BYTES and (chunk := ours.recv(1 << 16)):
                    lines += chunk
            except TimeoutError:  # the judge's process hangs
                _warm.close()
            except OSError:
                pass  # the program's ended before it had read or written all
            ours.close()
            if report := end.read():
                ended = json.loads(report)
                cut = len(lines) > MOST_BYTES
                return _Answer(bytes(lines), cut, ended["stopped"], ended["code"])
        _warm.close()  # somebody ended it, or it cannot import torch
    raise RunError("The judge's process has ended; try again. 'peft-lab doctor' checks this installation.")


def _ask_once(sent: bytes, limits: Limits) -> _Answer:
    """Answer a request in a process that first has to import torch."""
    try:
        done = subprocess.run(
            [*_command(), "--once"],
            input=sent,
            capture_output=True,
            env=_environment(),
            timeout=limits.seconds + _IMPORTING,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        return _Answer((error.stdout or b"")[:MOST_BYTES], False, True, 1)
    return _Answer(done.stdout[:MOST_BYTES], len(done.stdout) > MOST_BYTES, False, done.returncode)


# ----------------------------------------
# From lines to results.


@dataclass(frozen=True)
class _Results:
    """A program's results. ``broken``: whether it could not be run at all; ``readable``: whether all were."""

    values: Results
    printed: str = ""
    broken: bool = False
    readable: bool = True


def _results(lines: bytes, most: int | None = None) -> _Results:
    """Return the first ``most`` results from lines that anybody may have written."""
    values: list[tuple[str, Any]] = []
    printed, broken, readable = "", False, True
    try:
        for line in lines.splitlines():
            match json.loads(line):
                case {"name": str(name), "result": result, "broken": bool(marked)} if (
                    most is None or len(values) < most
                ):
                    values.append((name, compare.decode(result)))
                    broken = marked
                case {"printed": str(text)}:
                    printed = text[:MOST_PRINTED]
    except (ValueError, RecursionError):
        readable = False
    return _Results(values, printed, broken, readable)


@lru_cache(maxsize=64)
def _right(one: Exercise) -> Results:
    """Return the results of an exercise's solution."""
    return _own_results(one, (one.solution,))[0]


@lru_cache(maxsize=64)
def _wrong(one: Exercise) -> dict[str, Results]:
    """Return the results of an exercise's wrong programs, by the mistakes' ids."""
    found = _own_results(one, tuple(map(one.mistaken, one.mistakes)))
    return {each.id: results for each, results in zip(one.mistakes, found, strict=True)}


def _own_results(one: Exercise, programs: Sequence[str]) -> list[Results]:
    request = {"cases": one.cases, "function": one.function, "programs": programs}
    answer = _ask(request, _OF_OWN)
    values = _results(answer.lines).values
    size = len(values) // len(programs)
    if answer.code or not values or size * len(programs) != len(values):
        raise RunError(f"The exercise '{one.id}' cannot be judged here: its own programs did not end well.")
    return [values[start : start + size] for start in range(0, len(values), size)]


@lru_cache(maxsize=64)
def examples(name: str | Exercise) -> tuple[tuple[str, str], ...]:
    """Return an exercise's examples, each as its code and what the solution gives. Raises UnknownName: there is no such
    exercise. RunError: the judge's process does not run."""
    one = exercise(name) if isinstance(name, str) else name
    answer = _ask({"programs": [one.solution], "examples": one.examples}, _OF_OWN)
    if answer.code:
        raise RunError(f"The examples of '{one.id}' cannot be computed here.")
    return tuple(zip(one.examples, json.loads(answer.lines), strict=True))


# ----------------------------------------
# The verdict.


def check(name: str | Exercise, program: str, limits: Limits = LIMITS) -> Verdict:
    """Return how a program does in an exercise.

    Raises:
        UnknownName: there is no such exercise.
        BadInput: no program may be run here, it is empty or too long, or the person's last one is still judged.
        RunError: the judge's process does not run.
    """
    one = exercise(name) if isinstance(name, str) else name
    if reason := refusal():
        raise BadInput(reason, "program")
    if not program.strip() or len(program) > LONGEST:
        raise BadInput(f"A program must have 1 to {LONGEST:,} characters.", "program")
    with _turn():
        right = _right(one)
        started = time.perf_counter()
        answer = _ask({"cases": one.cases, "function": one.function, "programs": [program]}, limits)
        seconds = time.perf_counter() - started
        found = _results(answer.lines, len(right))
        tests = compare.tests(right, found.values, one.tolerance)
        sentence = _ending(answer, found, len(right), limits)
        passed = not sentence and all(test.ok for test in tests)
        mistake = None
        if not passed and not sentence and not found.broken:
            mistake = compare.recognise(right, found.values, _wrong(one), one.tolerance)
    line = None
    if not passed and not sentence:
        failed, value = next(
            (test, got[1]) for test, got in zip(tests, found.values, strict=False) if not test.ok
        )
        if isinstance(value, Raised) and (value.line or 0) <= program.count("\n") + 1:
            line = value.line
        named = next((each.sentence for each in one.mistakes if each.id == mistake), "")
        sentence = named or _failing(one, failed, value)
    return Verdict(one.id, passed, tests, mistake, sentence, line, found.printed, seconds)


_turns = threading.Lock()
_slots = threading.BoundedSemaphore(_AT_ONCE)
_busy: set[str] = set()


@contextmanager
def _turn() -> Iterator[None]:
    """Wait for a turn; in a class each person has one program judged at a time."""
    who = asking.asker() if asking.class_is_on() else None
    owner = None if who is None else who.owner
    if owner is not None:
        with _turns:
            if owner in _busy:
                raise BadInput("Your last program is still being judged. Wait for its result.", "program")
            _busy.add(owner)
    try:
        with _slots:
            yield
    finally:
        if owner is not None:
            _busy.discard(owner)


def _ending(answer: _Answer, found: _Results, cases: int, limits: Limits) -> str:
    """Return in a sentence how a program's process ended before its time; empty if it did not."""
    if answer.stopped or answer.code == -_SIGXCPU:
        return f"Your program took longer than {limits.seconds:g} seconds. Does it contain an endless loop?"
    if answer.cut:
        return "Your program's results are too large: more than any test asks for."
    if not found.readable:
        return "Your program wrote into the judge's own channel, so its results cannot be read."
    if len(found.values) >= cases and not answer.code:
        return ""
    if answer.code == -signal.SIGSEGV:
        return "Your program crashed its process, as endless recursion does (SIGSEGV)."
    if answer.code < 0:
        return f"Your program's process was ended by the signal {signal.Signals(-answer.code).name}."
    return "Your program ended its own process before all results were there."


def _failing(one: Exercise, test: Test, value: Any) -> str:
    """Return in a sentence why a test failed."""
    if not isinstance(value, Raised):
        if test.got.rpartition(": ")[2] == "None":
            return _NONE.format(one.function)
        return f"'{test.name}' returns another value than expected."
    if value.kind == REPLACED:
        return f"Your program replaces {value.message}, which the tests use."
    said = f": {echoed(value.message, 200)}" if value.message else "."
    if value.line is None and value.kind in (
        "AttributeError",
        "TypeError",
    ):  # in the tests, with what they were given
        if "NoneType" in value.message:
            return _NONE.format(one.function)
        return f"The tests cannot use what '{one.function}' returns: {value.kind}{said}"
    place, known = f"Line {value.line}" if value.line else "Your program", _RAISED.get(value.kind)
    return f"{place} {known}" if known else f"{place}: {value.kind}{said}"


_NONE = "'{}' returns None: it has no return statement yet, or not on every path."
#: What a learner is told of some exceptions, after the line.
_RAISED = {
    "PermissionError": "does what an exercise's program may not: read or write files, use the network, or reach other "
    "processes.",
    "BlockingIOError": "starts more threads or processes than a program may.",
    "MemoryError": "asks for more memory than a program may use.",
    "RecursionError": "calls itself without an end.",
    "SystemExit": "ends the program; return a value instead.",
    "KeyboardInterrupt": "interrupts the program; return a value instead.",
    "EOFError": "waits for input, and nobody answers here.",
}
