"""Lock a Linux process down, with Landlock and seccomp, so that it can compute and nothing else. Standard library only.

Landlock: only the folders of Python and torch can be read, and nothing can be written, removed, or connected to by TCP.
seccomp: a list of the calls that computing takes; every other one is refused, so there are no sockets, no new
processes or programs, no signals to others, no tracing, no change of owners, rights, times or limits. Neither can be
taken back, and root is held, too.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
import sys
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

_ARCHES = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1)}
_MACHINE = platform.machine()
#: Calls that are allowed, each with its numbers on x86-64 and 64-bit ARM (Linux's unistd.h); ``-``: it has none.
CALLS = [line.split() for line in Path(__file__).with_name("calls.txt").read_text("ascii").splitlines()]
#: Calls that are allowed with some values of one argument: their numbers, which argument, its values.
_SOME: Mapping[str, tuple[tuple[int, int], int, tuple[int, ...]]] = {
    "clone": ((56, 220), 0, (0x3D0F00, 0x7D0F00)),  # a thread, as glibc and musl make it
    "fcntl": ((72, 25), 1, (0, 1, 2, 3, 4, 1030)),  # no F_SETOWN, which has signals sent to others
    "ioctl": (
        (16, 29),
        1,
        (0x5401, 0x5413, 0x5450, 0x5451),
    ),  # whether it is a terminal, its size, close on exec
    "prctl": ((157, 167), 0, (15,)),  # a thread's name
    "prlimit64": ((302, 261), 2, (0,)),  # only asked for
}
_OWN = {"kill": (62, 129), "tgkill": (234, 131)}  # allowed to this process itself
_CLONE3, _SECCOMP = (435, 435), (317, 277)
_CREATE, _ADD, _RESTRICT = 444, 445, 446  # Landlock, everywhere
_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_EPERM, _ENOSYS = 1, 38
_READ, _WRITE, _LIST = 1 << 2, 1 << 1, 1 << 3
_LEAST_ABI = 3  # from which truncating is refused, too


class Refused(OSError):
    """The kernel did not lock this process."""


def _call(number: int, *arguments: object) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    result = libc.syscall(ctypes.c_long(number), *arguments)
    if result < 0:
        raise Refused(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return int(result)


@cache
def abi() -> int:
    """Return the version of Landlock that this kernel offers, 0 without Landlock, or where seccomp is not known."""
    if sys.platform != "linux" or _MACHINE not in _ARCHES:
        return 0
    try:
        known = "Seccomp:" in Path("/proc/self/status").read_text("ascii")
        return _call(_CREATE, None, ctypes.c_size_t(0), ctypes.c_uint32(1)) if known else 0
    except OSError:
        return 0


def is_available() -> bool:
    """Return whether processes can be locked down here."""
    return abi() >= _LEAST_ABI


def rules(readable: Iterable[Path]) -> int:
    """Return the descriptor of a set of rules under which only these files and folders can be read. ``/dev/null`` can
    be written."""
    version = abi()
    files = (1 << (13 + (version >= 2) + (version >= 3))) - 1 | (0x8000 if version >= 5 else 0)
    attributes = struct.pack("=QQQ", files, 3 if version >= 4 else 0, 3 if version >= 6 else 0)
    size = 8 if version < 4 else 16 if version < 6 else 24
    made = _call(_CREATE, attributes, ctypes.c_size_t(size), ctypes.c_uint32(0))
    for path, access in [*((path, _READ) for path in readable), (Path(os.devnull), _READ | _WRITE)]:
        try:
            opened = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except OSError:
            continue
        if path.is_dir():
            access |= _LIST
        rule = struct.pack("=Qi", access, opened)
        _call(_ADD, ctypes.c_int(made), ctypes.c_int(1), rule, ctypes.c_uint32(0))
        os.close(opened)
    return made


def folders() -> list[Path]:
    """Return what a program may read: Python's library and what torch needs, but nothing of this package."""
    import sysconfig
    from importlib.util import find_spec

    torch = find_spec("torch")
    assert torch is not None and torch.origin is not None
    own = Path(__file__).resolve().parents[2]
    places = {Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib")}
    found = [
        path for place in places if place.is_dir() for path in place.iterdir() if "-packages" not in path.name
    ]
    site = Path(torch.origin).resolve().parents[1]
    names = [
        "torch",
        "torchgen",
        "functorch",
        "numpy",
        "numpy.libs",
        "sympy",
        "mpmath",
        "typing_extensions.py",
    ]
    found += [site / name for name in names]
    found += [Path("/lib"), Path("/lib64"), Path("/usr/lib"), Path("/etc/ld.so.cache"), Path("/dev/urandom")]
    found += [Path("/proc/cpuinfo"), Path("/sys/devices/system/cpu")]  # torch chooses its kernels by them
    return [path for path in found if not own.is_relative_to(path.resolve())]


def _filter() -> bytes:
    """Return the seccomp program, in BPF."""
    arch, column = _ARCHES[_MACHINE]

    def load(offset: int) -> bytes:
        return struct.pack("=HBBI", 0x20, 0, 0, offset)

    def unless(value: int, skipped: int) -> bytes:
        return struct.pack("=HBBI", 0x15, 0, skipped, value)

    def end(action: int) -> bytes:
        return struct.pack("=HBBI", 0x06, 0, 0, action)

    made = load(4) + struct.pack("=HBBI", 0x15, 1, 0, arch) + end(_KILL) + load(0)
    for _, *numbers in CALLS:
        if numbers[column] != "-":
            made += unless(int(numbers[column]), 1) + end(_ALLOW)
    made += unless(_CLONE3[column], 1) + end(_ERRNO | _ENOSYS)  # glibc then takes clone
    some = {**_SOME, **{name: (numbers, 0, (os.getpid(),)) for name, numbers in _OWN.items()}}
    for numbers_of, argument, values in some.values():
        place = 16 + 8 * argument  # of its lower half
        block = load(place + 4) + struct.pack("=HBBI", 0x15, 1, 0, 0) + end(_ERRNO | _EPERM) + load(place)
        block += b"".join(unless(value, 1) + end(_ALLOW) for value in values) + end(_ERRNO | _EPERM)
        made += unless(numbers_of[column], len(block) // 8) + block
    return made + end(_ERRNO | _EPERM)


def restrict(made: int) -> None:
    """Lock this process down, for good: ``made`` comes from :func:`rules`. It must have one thread. Raises Refused: the
    kernel did not do it."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(38, ctypes.c_ulong(1), ctypes.c_ulong(0), ctypes.c_ulong(0), ctypes.c_ulong(0)):
        raise Refused(ctypes.get_errno(), "PR_SET_NO_NEW_PRIVS")
    _call(_RESTRICT, ctypes.c_int(made), ctypes.c_uint32(0))
    os.close(made)
    code = ctypes.create_string_buffer(_filter())
    program = struct.pack("HxxxxxxP", (len(code) - 1) // 8, ctypes.addressof(code))
    _call(_SECCOMP[_ARCHES[_MACHINE][1]], ctypes.c_ulong(1), ctypes.c_ulong(0), program)


def limit(seconds: float, memory: int, locked: bool) -> None:
    """Limit this process: seconds of the processor, bytes beside those it has, no files, no core dump. ``locked``:
    whether new processes are refused anyway; otherwise the system's limit is set to none."""
    import resource

    def at_most(which: int, most: int) -> None:
        _, hard = resource.getrlimit(which)
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(which, (most, most))

    if sys.platform == "linux":
        held = int(Path("/proc/self/statm").read_text("ascii").split()[0]) * resource.getpagesize()
        at_most(resource.RLIMIT_AS, held + memory)
    at_most(resource.RLIMIT_CPU, int(seconds) + 1)
    at_most(resource.RLIMIT_FSIZE, 0)
    at_most(resource.RLIMIT_CORE, 0)
    at_most(resource.RLIMIT_NOFILE, 64)
    if not locked:
        at_most(resource.RLIMIT_NPROC, 0)
