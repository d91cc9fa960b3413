"""How many places the threads of a server take memory from, as glibc itself counts them."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import pytest

from peft_lab.ui.server import app
from tests.waits import SECONDS

THREADS = 12
COUNT = """
import ctypes, sys, threading
from peft_lab.ui.server import app as arenas

if sys.argv[1] == "few":
    arenas.few_arenas()
libc = ctypes.CDLL(None)
libc.malloc.restype = libc.fopen.restype = ctypes.c_void_p
together = threading.Barrier(int(sys.argv[2]))

def take():
    together.wait()
    libc.malloc(ctypes.c_size_t(1000))
    together.wait()  # none ends before all have asked: a thread that ends leaves its place to the next

threads = [threading.Thread(target=take) for _ in range(int(sys.argv[2]))]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
file = ctypes.c_void_p(libc.fopen(sys.argv[3].encode(), b"w"))
libc.malloc_info(0, file)
libc.fclose(file)
"""


def counted(how: str, folder: Path) -> int:
    told = folder / f"{how}.xml"
    subprocess.run([sys.executable, "-c", COUNT, how, str(THREADS), str(told)], check=True, timeout=SECONDS)
    return told.read_text("utf-8").count("<heap nr=")


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library has no such places")
@pytest.mark.slow
def test_threads_share_a_few(tmp_path: Path) -> None:
    assert counted("many", tmp_path) > app.MOST_ARENAS, "they would have shared them anyway: needless"
    assert counted("few", tmp_path) == app.MOST_ARENAS
