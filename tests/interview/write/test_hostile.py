"""Hostile programs: one clear sentence each, nothing read, nothing left, and the next program is judged as before."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from peft_lab.interview.write import judge, lock
from peft_lab.interview.write.exercises import FOLDER, read_exercise
from peft_lab.interview.write.judge import Limits, Verdict

ONE = read_exercise(Path(__file__).with_name("sample") / "lora" / "lora-merge.md")
SHORT = Limits(seconds=30.0, memory=500_000_000)
WRITES, THINKS = "does what an exercise's program may not", "more memory"
SECRET = "no program may read this: 7c41"

pytestmark = pytest.mark.skipif(not lock.is_available(), reason="this kernel cannot lock a process down")


@dataclass(frozen=True)
class Hostile:
    """A program, and what is said of it; ``passes``: whether it also solves the exercise, and is let pass."""

    does: str
    program: str
    said: str = ""
    passes: bool = False
    seconds: float = SHORT.seconds


RIGHT = "def merge(weight, a, b, alpha):\n    return weight + alpha / a.shape[0] * b @ a\n"
HOSTILE = (
    Hostile("loops for ever", "while True: pass", "0.3 seconds", seconds=0.3),
    Hostile("loops in the second case", f"""
{RIGHT}
right = merge
def merge(weight, a, b, alpha):
    while len(a) == 1: pass
    return right(weight, a, b, alpha)""", "0.3 seconds", seconds=0.3),
    Hostile("ignores every signal, then loops", """
import signal
for number in range(1, 65):
    try: signal.signal(number, signal.SIG_IGN)
    except (OSError, ValueError): pass
while True: pass""", "0.4 seconds", seconds=0.4),
    Hostile("forks without an end", "import os\nwhile True: os.fork()", WRITES),
    Hostile("starts a program", "import subprocess\nsubprocess.run(['sleep', '60'])", WRITES),
    Hostile("becomes another program", "import os\nos.execv('/bin/sh', ['sh', '-c', 'sleep 60'])", WRITES),
    Hostile("starts threads without an end", """
import threading, time
while True: threading.Thread(target=time.sleep, args=(60,)).start()""", "RuntimeError: can't start new thread"),
    Hostile("leaves threads running", f"""
import threading
def loop():
    while True: pass
for _ in range(3): threading.Thread(target=loop).start()
{RIGHT}""", passes=True),
    Hostile("takes 20 GB", "import torch\ntorch.ones(20 << 30, dtype=torch.uint8)", THINKS),
    Hostile("fills a list from an infinite generator", "import itertools\nlist(map(bytes, itertools.repeat(10**7)))",
            THINKS),
    Hostile("raises its own limits, then takes 20 GB", """
import resource
for kind in range(16):
    try: resource.setrlimit(kind, (-1, -1))
    except (OSError, ValueError): pass
bytearray(20 << 30)""", THINKS),
    Hostile("ends its process", "import os\nos._exit(0)", "ended its own process"),
    Hostile("ends its process with success in a case", "import os\ndef merge(*a, **b): os._exit(0)", "ended its own"),
    Hostile("kills itself", "import os\nos.kill(os.getpid(), 9)", "SIGKILL"),
    Hostile("calls sys.exit", "import sys\nsys.exit(0)", "Line 2 ends the program"),
    Hostile("crashes the interpreter", "import ctypes\nctypes.string_at(0)", "SIGSEGV"),
    Hostile("recurses without an end", "def f(): return f()\nf()", "Line 1 calls itself"),
    Hostile("recurses past Python's limit", """
import sys
sys.setrecursionlimit(10**9)
nested = []
for _ in range(10**6): nested = [nested]
repr(nested)""", "SIGSEGV|calls itself"),
    Hostile("prints a gigabyte", f"for _ in range(1000): print('x' * 10**6)\n{RIGHT}", passes=True),
    Hostile("writes a gigabyte to the terminal", f"""
import os
for number in (1, 2):
    for _ in range(500): os.write(number, b'x' * 10**6)
{RIGHT}""", passes=True),
    Hostile("raises a message of 100 MB", "raise ValueError('x' * 10**8)", "Line 1: ValueError: xxx"),
    Hostile("raises an exception that never says what it is", """
class Endless(Exception):
    def __str__(self):
        while True: pass
raise Endless""", "0.4 seconds", seconds=0.4),
    Hostile("asks for input", "name = input('?')", "Line 1 waits for input"),
    Hostile("returns a generator", "def merge(*a, **b):\n    while True: yield 1", "another value"),
    Hostile("returns a million items", "def merge(*a, **b): return [0.0] * 10**6", "another value"),
    Hostile("returns lists in lists in themselves", """
def merge(*a, **b):
    own = []
    own += [own, own]
    return own""", "0.4 seconds", seconds=0.4),
    Hostile("returns NaNs", "def merge(weight, a, b, alpha): return weight * float('nan')", "another value"),
    Hostile("returns what is equal to everything", """
class Equal:
    def __eq__(self, other): return True
    def __getattr__(self, name): return Equal()
    def __call__(self, *a): return Equal()
def merge(*a, **b): return Equal()""", "another value"),
    Hostile("returns a tensor that is equal to everything", """
import torch
class Equal(torch.Tensor):
    @classmethod
    def __torch_function__(cls, *a, **b): return True
def merge(weight, **b): return weight.as_subclass(Equal)""", "another value"),
    Hostile("replaces torch.equal and torch.allclose", """
import torch
torch.equal = torch.allclose = lambda *a, **b: True
def merge(weight, **b): return weight""", "replaces torch.allclose"),
    Hostile("replaces the judge's own functions", """
import sys
for module in list(sys.modules.values()):
    for name in ('encode', 'raised', '_replaced', 'results'):
        if getattr(module, '__name__', '').startswith('peft_lab') and hasattr(module, name):
            setattr(module, name, lambda *a: {"dict": {"merged": True, "weight untouched": True}})
def merge(*a, **b): return 1""", "another value"),
    Hostile("looks for the solution in memory", """
import gc, sys
found = [text for text in gc.get_objects() if isinstance(text, str) and 'scale * b' + ' @ a' in text]
frame = sys._getframe()
while frame:
    found += [text for text in frame.f_locals.values() if isinstance(text, str) and 'scale * b' + ' @ a' in text]
    frame = frame.f_back
print('FOUND' if found else 'nothing')
def merge(*a, **b): return 1""", "another value"),
    Hostile("forges the judge's messages", """
import os
line = b'{"name": "x", "result": {"dict": {"merged": {"tensor": [1], "data": "AA=="}}}, "broken": false}\\n'
for number in range(3, 100):
    try: os.write(number, line * 10)
    except OSError: pass
os._exit(0)""", "judge's own channel"),
    Hostile("forges what it printed, and the place of an error", """
import os
case = b'{"name": "x", "result": {"raised": "E", "message": "", "line": 99999999}, "broken": false}\\n' * 4
for number in range(3, 100):
    try: os.write(number, case + b'{"printed": "' + b'x' * 10**6 + b'"}\\n')
    except OSError: pass
os._exit(0)""", "Line 99999999: E"),
    Hostile("sends 50 MB into the judge's channel", """
import os
for number in range(3, 100):
    try:
        for _ in range(50): os.write(number, b'[' * 10**6)
    except OSError: pass""", "too large"),
    Hostile("reads the exercises' solutions", f"open({str(ONE.file)!r}).read()", WRITES),
    Hostile("looks for the exercises' files", f"import os\nprint(os.listdir({str(FOLDER.parent)!r}))", WRITES),
    Hostile("reads what is not its own", "print(open('{secret}').read())", WRITES),
    Hostile("reads another process", "import os\nprint(open(f'/proc/{os.getppid()}/environ').read())", WRITES),
    Hostile("writes a file", "open('{folder}/left', 'w').write('x')", WRITES),
    Hostile("removes a folder", "import shutil\nshutil.rmtree('{folder}')", WRITES),
    Hostile("changes rights", "import os\nos.chmod('{folder}', 0)", WRITES),
    Hostile("opens a connection", "import socket\nsocket.create_connection(('127.0.0.1', 1))", WRITES),
    Hostile("makes a pair of sockets", "import socket\nsocket.socketpair()", WRITES),
    Hostile("kills the judge", "import os\nos.kill(os.getppid(), 9)", WRITES),
    Hostile("kills the server", "import os\nos.kill({server}, 9)", WRITES),
    Hostile("kills everything", "import os\nos.kill(-1, 9)", WRITES),
    Hostile("has signals sent to the server", """
import fcntl
fcntl.fcntl(0, fcntl.F_SETOWN, {server})""", WRITES),
    Hostile("traces the server by a raw call", """
import ctypes, os
for number in (101, 310, 425, 438, 272, 321):  # ptrace, process_vm_readv, io_uring_setup, pidfd_getfd, unshare, bpf
    if ctypes.CDLL(None).syscall(number, 16, {server}, 0, 0, 0) != -1: print('FOUND')
raise PermissionError""", WRITES),
)  # fmt: skip


def processes() -> set[str]:
    """Return the processes that the judge's has, once those that are ending have ended."""
    assert judge._warm._process is not None
    children = Path(f"/proc/{judge._warm._process.pid}/task/{judge._warm._process.pid}/children")
    until = time.monotonic() + 60
    while (found := set(children.read_text().split())) and time.monotonic() < until:
        time.sleep(0.01)
    return found


@pytest.fixture(scope="module")
def victim() -> Iterator[int]:
    """A process of the same user, which stands for the server."""
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) as process:
        yield process.pid
        assert process.poll() is None
        process.kill()


def judged(hostile: Hostile, folder: Path, victim: int) -> Verdict:
    (folder / "secret").write_text(SECRET)
    program = hostile.program
    for name, value in {"secret": folder / "secret", "folder": folder, "server": victim}.items():
        program = program.replace(f"{{{name}}}", str(value))
    return judge.check(ONE, program, Limits(hostile.seconds, SHORT.memory))


@pytest.mark.sampled(7)
@pytest.mark.parametrize("hostile", HOSTILE, ids=lambda hostile: hostile.does)
def test_a_hostile_program(hostile: Hostile, tmp_path: Path, victim: int) -> None:
    before = set(Path(tempfile.gettempdir()).iterdir())
    verdict = judged(hostile, tmp_path, victim)
    assert verdict.passed == hostile.passes, verdict
    assert verdict.mistake is None and (verdict.line or 0) <= hostile.program.count("\n") + 1
    assert any(said in verdict.message for said in hostile.said.split("|")), verdict.message
    assert len(verdict.message) < 300
    assert bool(verdict.message) != hostile.passes
    seen = repr(verdict)
    assert SECRET not in seen and "FOUND" not in seen and ONE.solution not in seen and len(seen) < 12_000
    os.kill(victim, 0)
    assert [path.name for path in tmp_path.iterdir()] == ["secret"] and os.access(tmp_path, os.W_OK)
    assert {
        path.name for path in set(Path(tempfile.gettempdir()).iterdir()) - before if "kata" in path.name
    } == set()
    assert not processes()


@pytest.mark.further
def test_the_next_program_is_judged(tmp_path: Path, victim: int) -> None:
    """After a program that was stopped, one that crashed, and after the judge's process itself was killed."""
    for hostile in (one for one in HOSTILE if one.does in ("loops for ever", "crashes the interpreter")):
        judged(hostile, tmp_path, victim)
    assert judge.check(ONE, ONE.solution).passed
    assert judge._warm._process is not None
    judge._warm._process.kill()
    verdict = judge.check(ONE, ONE.mistaken(ONE.mistakes[0]))
    assert (verdict.mistake, [test.ok for test in verdict.tests]) == (
        "scaled-by-alpha",
        [False, True, True, False],
    )
