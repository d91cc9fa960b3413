"""The judge's process: ``python -m peft_lab.interview.write.warm``. It has imported torch and forks for each program.

Down its standard input, a socket, come limits, each with two descriptors. For them it forks a monitor, which forks the
process of the program, waits for its end or stops it, and says on the second descriptor how it ended. The program's
process reads its request from the first, locks itself down, runs the program, and writes the results there. So the
judge's process has nothing in its memory but libraries, and what a program breaks is its own.

With ``--once`` it judges one request from standard input without a fork, for systems that have none.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import socket
import sys
from typing import Any, BinaryIO

from peft_lab.interview.write import child, lock

LONGEST_REQUEST = 1_000_000  # bytes
LIMITS = 64  # bytes of a message: seconds, bytes of memory, niceness
_HIGH = 64  # a descriptor above all that the judge's process has


def main() -> None:
    """Serve until the other end of the socket is closed."""
    import torch

    torch.set_num_threads(1)  # no thread is started by this
    if "--once" in sys.argv:
        _judge(json.loads(sys.stdin.buffer.read(LONGEST_REQUEST)), sys.stdout.buffer)
        return
    if not hasattr(os, "fork"):
        return
    child.libraries()  # imported once, for all programs
    rules = lock.rules(lock.folders()) if lock.is_available() else None
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the system buries monitors
    gc.freeze()
    control = socket.socket(fileno=os.dup(0))
    while True:
        message, descriptors, _, _ = socket.recv_fds(control, LIMITS, 2)
        if not message:
            return
        if not os.fork():
            control.close()
            seconds, memory, niceness = message.split()
            os.nice(int(niceness))
            data, status = descriptors
            _monitor(data, status, float(seconds), int(memory), rules)
        for descriptor in descriptors:
            os.close(descriptor)


def _monitor(data: int, status: int, seconds: float, memory: int, rules: int | None) -> None:
    """Have a program judged in a process of its own, and report its end. Does not return."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    pid = os.fork()
    if not pid:
        try:
            os.close(status)
            _program(data, seconds, memory, rules)
        except BaseException:  # noqa: BLE001  the monitor sees the status
            os._exit(70)
        os._exit(0)
    os.close(data)
    stopped = False

    def stop(*_: object) -> None:
        nonlocal stopped
        stopped = True
        os.kill(pid, signal.SIGKILL)

    signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    _, ended, used = os.wait4(pid, 0)
    signal.setitimer(signal.ITIMER_REAL, 0)
    report = {
        "stopped": stopped,
        "code": os.waitstatus_to_exitcode(ended),
        "cpu": used.ru_utime + used.ru_stime,
    }
    os.write(status, json.dumps(report).encode())
    os._exit(0)


def _program(data: int, seconds: float, memory: int, rules: int | None) -> None:
    """Lock this process down and judge the request that comes from ``data``."""
    import fcntl

    os.setsid()
    null = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(null, number)
    data = fcntl.fcntl(data, fcntl.F_DUPFD, _HIGH)
    rules = None if rules is None else fcntl.fcntl(rules, fcntl.F_DUPFD, _HIGH)
    os.closerange(3, _HIGH)
    with os.fdopen(data, "rb", closefd=False) as stream:
        request = json.loads(stream.read(LONGEST_REQUEST))
    lock.limit(seconds, memory, locked=rules is not None)
    if rules is not None:
        lock.restrict(rules)
    with os.fdopen(data, "wb") as out:
        _judge(request, out)


def _judge(request: dict[str, Any], out: BinaryIO) -> None:
    """Write the results of a request's programs, or of its examples, a line each."""
    if "examples" in request:
        out.write(json.dumps(child.shown(request["programs"][0], request["examples"])).encode() + b"\n")
        out.flush()
        return
    for program in request["programs"]:
        for line in child.results(request["cases"], request["function"], program):
            out.write(json.dumps(line).encode() + b"\n")
            out.flush()
    out.flush()


if __name__ == "__main__":
    main()
