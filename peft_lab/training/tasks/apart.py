"""Read a learner's file in a separate process, with limits on time and memory, once per content.

Whatever the file contains, the calling process only waits, and can give up. ``python -m peft_lab.training.tasks.apart
ENDING`` reads a file's bytes from stdin and answers on stdout with one JSON document.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

from peft_lab.core import asking, disk
from peft_lab.core.errors import BadInput, RunError
from peft_lab.training.tasks import own, pictures
from peft_lab.training.tasks.base import Row, Splits
from peft_lab.training.tasks.own import Content, OwnTask
from peft_lab.training.tasks.records import bad, shorten

#: Limits of the reading process: processor seconds, seconds on a busy machine, and bytes of memory. The largest file
#: that is accepted needs about a second and 70 MB.
CPU_SECONDS = 10
SECONDS = 30.0
MEMORY = 256 * 2**20
#: Its limits for images: all of them are decoded, the largest of MAX_PIXELS.
IMAGES_CPU_SECONDS = 20
IMAGES_SECONDS = 60.0
IMAGES_MEMORY = 512 * 2**20
KEPT = 16  # files whose content, or refusal, this process caches
_LOOK = 0.05
_SIGNAL = 128

_known: OrderedDict[tuple[str, str], Content | BadInput] = OrderedDict()
_lock = threading.Lock()


def load_file(path: str | Path, tick: Callable[[], object] = lambda: None) -> OwnTask:
    """Return the task in a file on this machine; see :func:`load`. A folder is read as a folder of images; in a class
    it is refused, as learners upload zips. Raises BadInput also if the file is missing, or is a device or a pipe: those
    are never read."""
    path = Path(path)
    try:
        if path.is_dir() and not asking.class_is_on():
            task = load(pictures.pack(path), f"{path.resolve().name}{pictures.ZIP}", tick)
            return replace(task, place=str(path.absolute()))
        images = path.suffix.lower() == pictures.ZIP
        most = pictures.MAX_BYTES if images else own.MAX_BYTES
        try:
            data = disk.read(path, most, pipes=False)
        except OSError as trouble:
            if trouble.errno != errno.EFBIG:
                raise
            raise (pictures if images else own).too_large(path.stat().st_size) from trouble
    except (OSError, ValueError) as trouble:  # ValueError: a NUL in the path
        reason = trouble.strerror if isinstance(trouble, OSError) else trouble
        raise bad(f"'{shorten(str(path))}' cannot be read: {reason}.") from trouble
    task = load(data, path.name, tick)
    return replace(task, place=str(path.absolute())) if task.images else task


def load(data: bytes, filename: str, tick: Callable[[], object] = lambda: None) -> OwnTask:
    """Return the task in an uploaded file, as :func:`peft_lab.training.tasks.own.parse` makes it.

    This process reads equal bytes once and caches the answer. ``tick`` is called every few hundredths of a second
    while the file is read; an exception from it ends the reading.

    Raises BadInput, also if the file takes too long to read. RunError: the reading process did not start or was killed.
    """
    own.check(data, filename)
    key = hashlib.sha256(data).hexdigest(), Path(filename).suffix.lower()
    with _lock:
        content = _known.get(key)
    if content is None:
        try:
            content = _read(data, key[1], tick)
        except BadInput as refusal:
            content = refusal
        with _lock:
            _known[key] = content
            while len(_known) > KEPT:
                _known.popitem(last=False)
    if isinstance(content, BadInput):
        raise BadInput(str(content), content.field)
    return own.task_of(filename, data, content)


def _read(data: bytes, ending: str, tick: Callable[[], object]) -> Content:
    root = str(Path(__file__).resolve().parents[3])
    search = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    command = [sys.executable, "-P", "-m", "peft_lab.training.tasks.apart", ending]
    try:
        child = subprocess.Popen(
            command,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": search},
        )  # fmt: skip
    except OSError as trouble:
        raise RunError(f"No process could be started to read the file: {trouble.strerror}.") from trouble
    stdin, child.stdin = child.stdin, None
    sender = threading.Thread(target=_send, args=(stdin, data), daemon=True)
    sender.start()
    try:
        answer, log = _answer(child, ending, tick)
    finally:
        if child.poll() is None:
            child.kill()
        child.wait()
        sender.join()
        for stream in (child.stdout, child.stderr):
            if stream is not None:
                stream.close()
    return _content(child.returncode, ending, answer, log)


def _send(stdin: IO[bytes] | None, data: bytes) -> None:
    if stdin is not None:
        with suppress(OSError), stdin:  # a process that has ended takes no more
            stdin.write(data)


def _answer(child: subprocess.Popen[bytes], ending: str, tick: Callable[[], object]) -> tuple[bytes, bytes]:
    deadline = time.monotonic() + (IMAGES_SECONDS if ending == pictures.ZIP else SECONDS)
    while True:
        tick()
        try:
            return child.communicate(timeout=_LOOK)
        except subprocess.TimeoutExpired:
            if time.monotonic() > deadline:
                raise _too_long(ending) from None


def _too_long(ending: str) -> BadInput:
    return bad(f"The file takes more than {_limits(ending)[0]} seconds to read. Keep a sample of it.")


def _limits(ending: str) -> tuple[int, int]:
    """Return the processor seconds and the bytes of memory that reading a file may take."""
    return (IMAGES_CPU_SECONDS, IMAGES_MEMORY) if ending == pictures.ZIP else (CPU_SECONDS, MEMORY)


def _content(code: int, ending: str, answer: bytes, log: bytes) -> Content:
    if code == -getattr(signal, "SIGXCPU", _SIGNAL):
        raise _too_long(ending)
    if code != 0:
        last_line = log.decode("utf-8", "replace").strip().splitlines()[-1:] or [f"exit code {code}"]
        raise RunError(f"The process that reads the file ended: {last_line[0]}.")
    parsed: dict[str, Any] = json.loads(answer)
    if "refused" in parsed:
        raise BadInput(parsed["refused"], parsed["field"])
    parts = (tuple(_row(*cells) for cells in parsed[part]) for part in ("train", "test"))
    return Content(
        parsed["kind"], tuple(parsed["labels"]), Splits(*parts), parsed["images"], parsed["rewritten"]
    )


def _row(text: str, target: str, turns: list[tuple[str, str]], line: int) -> Row:
    return Row(text, target, tuple((role, words) for role, words in turns), line)


# -- in the process of its own -----------------------------------------------------------------------------------


def main(ending: str) -> None:
    """Read the file from stdin, and answer on stdout."""
    seconds, memory = _limits(ending)
    with suppress(ImportError, ValueError, OSError):  # Windows has no such limits
        import resource

        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    try:
        most = pictures.MAX_BYTES if ending == pictures.ZIP else own.MAX_BYTES
        read = own.content(sys.stdin.buffer.read(most + 1), f"file{ending}")
        parts = {"train": read.splits.train, "test": read.splits.test}
        rows = {
            name: [(row.text, row.target, row.turns, row.line) for row in part]
            for name, part in parts.items()
        }
        about = {"labels": read.labels, "images": read.images, "rewritten": read.rewritten}
        answer = json.dumps({"kind": read.kind, **about, **rows})
    except BadInput as refusal:
        answer = json.dumps({"refused": str(refusal), "field": refusal.field})
    except MemoryError:
        full = bad(f"The file takes more than {memory // 2**20} MB of memory to read. Keep a sample of it.")
        answer = json.dumps({"refused": str(full), "field": full.field})
    sys.stdout.write(answer)


if __name__ == "__main__":
    main(sys.argv[1])
