"""Scripts carried out by processes that have torch, transformers and peft imported, and nothing of this package.

A test of a script costs the imports of each of its processes, 5 s of a processor; here they are made once for a test
runner, in a process that forks. Threads of torch do not survive a fork: that process computes nothing.
"""

from __future__ import annotations

import atexit
import json
import os
import select
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import IO

_FORKING = r"""
import gc, json, os, runpy, signal, sys, traceback
import torch, torch.distributed.fsdp, torch.distributed.tensor.parallel, transformers, peft, accelerate
import transformers.models.auto.modeling_auto, transformers.models.llama.modeling_llama

gc.freeze()
assert not any(name.startswith("peft_lab") for name in sys.modules)

def work(file, told):
    os.chdir(told["folder"])
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(told[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    os.environ.update(told["env"])
    sys.argv = [file, *told["args"]]
    sys.path[0] = os.path.dirname(os.path.abspath(file))
    code = 0
    try:
        runpy.run_path(file, run_name="__main__")
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)

for line in sys.stdin:
    file, each = json.loads(line)
    pids = []
    for told in each:
        pid = os.fork()
        if pid == 0:
            work(file, told)
        pids.append(pid)
    codes = {}
    while len(codes) < len(pids):
        pid, status = os.wait()
        codes[pid] = os.waitstatus_to_exitcode(status)
        if codes[pid]:  # as torchrun does: who is left would wait for it
            for other in set(pids) - set(codes):
                os.kill(other, signal.SIGKILL)
    print(json.dumps([codes[pid] for pid in pids]), flush=True)
"""


class Ended(Exception):
    """The processes did not end in time; they are killed."""


@cache
def _forking() -> subprocess.Popen[str]:
    env = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    env.pop("PYTHONPATH", None)
    process = subprocess.Popen(
        [sys.executable, "-c", _FORKING],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=env,
        cwd="/",
        start_new_session=True,
    )
    atexit.register(_end, process)
    return process


def _end(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        os.killpg(process.pid, 9)
    process.wait()


def _pipe(found: IO[str] | None) -> IO[str]:
    assert found is not None
    return found


def run(
    script: Path, args: Sequence[str] = (), ranks: Sequence[Mapping[str, str]] = ({},), timeout: float = 400
) -> subprocess.CompletedProcess[str]:
    """A script's processes, one for each of ``ranks``, which are their environments beside this one's.

    Returns:
        The exit code of the first of them whose own is not zero, and what all of them printed. Where one ends so, the
        others are killed.

    Raises:
        Ended: after ``timeout`` seconds.
    """
    folder, process = script.parent, _forking()
    beside = [str(folder / f".{script.stem}-{number}") for number in range(len(ranks))]
    names = [(f"{name}.out", f"{name}.err") for name in beside]
    told = [
        {"folder": str(folder), "args": list(args), "env": dict(env), "out": out, "err": err}
        for env, (out, err) in zip(ranks, names, strict=True)
    ]
    _pipe(process.stdin).write(json.dumps([str(script), told]) + "\n")
    _pipe(process.stdin).flush()
    if not select.select([_pipe(process.stdout)], [], [], timeout)[0]:
        _end(process)
        _forking.cache_clear()
        raise Ended(f"{script.name} did not end within {timeout:g} s")
    codes: list[int] = json.loads(_pipe(process.stdout).readline())
    printed, errors = ("".join(Path(pair[at]).read_text("utf-8") for pair in names) for at in (0, 1))
    for pair in names:
        for name in pair:
            Path(name).unlink()
    return subprocess.CompletedProcess(
        [str(script)], next((code for code in codes if code), 0), printed, errors
    )
