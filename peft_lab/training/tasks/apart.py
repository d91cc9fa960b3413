"""Read a learner's file in a separate process, with limits on time and memory, once per content.

Whatever the file contains, the calling process only waits, and can give up. ``python -m peft_lab.training.tasks.apart
ENDING`` reads a file's bytes from stdin and answers on stdout with one JSON document.
"""

from __future__ import annotations

import errno
import hashlib
import json
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from peft_lab.core import asking, disk
from peft_lab.core.errors import BadInput, RunError
from peft_lab.training.tasks import limited, own, pictures
from peft_lab.training.tasks.base import Row, Splits
from peft_lab.training.tasks.own import Content, OwnTask
from peft_lab.training.tasks.records import bad, shorten

#: Limits of the reading process: processor seconds, bytes of memory, and seconds on a busy machine. The largest file
#: that is accepted needs about a second and 70 MB; of images all are decoded, the largest of MAX_PIXELS.
CPU_SECONDS, MEMORY, SECONDS = 10, 256 * 2**20, 30.0
IMAGES_CPU_SECONDS, IMAGES_MEMORY, IMAGES_SECONDS = 20, 512 * 2**20, 60.0
KEPT = 16  # files whose content, or refusal, this process caches

_known: OrderedDict[tuple[str, str], Content | BadInput] = OrderedDict()
_lock = threading.Lock()


def load_file(path: str | Path, tick: Callable[[], object] = lambda: None) -> OwnTask:
    """Return the task in a file on this machine, or in a folder of images, outside a class; see :func:`load`. Raises
    BadInput also if it is missing, or is a device or a pipe."""
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


def _limits(ending: str) -> tuple[int, int, float]:
    """Return the processor seconds, the bytes of memory and the seconds that reading a file may take."""
    if ending == pictures.ZIP:
        return IMAGES_CPU_SECONDS, IMAGES_MEMORY, IMAGES_SECONDS
    return CPU_SECONDS, MEMORY, SECONDS


def _read(data: bytes, ending: str, tick: Callable[[], object]) -> Content:
    processor, _, seconds = _limits(ending)
    try:
        code, answer, last = limited.run(__name__, ending, data=data, seconds=seconds, tick=tick)
    except TimeoutError:
        raise bad(f"The file takes more than {processor} seconds to read. Keep a sample of it.") from None
    if code != 0:
        raise RunError(f"The process that reads the file ended: {last}.")
    parsed: dict[str, Any] = json.loads(answer)
    if "refused" in parsed:
        raise BadInput(parsed["refused"], parsed["field"])
    train, test = (
        tuple(Row(text, target, tuple(map(tuple, turns)), line) for text, target, turns, line in parsed[part])
        for part in ("train", "test")
    )
    labels = tuple(parsed["labels"])
    return Content(parsed["kind"], labels, Splits(train, test), parsed["images"], parsed["rewritten"])


# -- in the process of its own -----------------------------------------------------------------------------------


def main(ending: str) -> None:
    """Read the file from stdin, and answer on stdout."""
    seconds, memory, _ = _limits(ending)
    limited.limit(seconds, memory)
    try:
        most = pictures.MAX_BYTES if ending == pictures.ZIP else own.MAX_BYTES
        read = own.content(sys.stdin.buffer.read(most + 1), f"file{ending}")
        rows = {
            name: [(row.text, row.target, row.turns, row.line) for row in part]
            for name, part in vars(read.splits).items()
        }
        about = {name: getattr(read, name) for name in ("kind", "labels", "images", "rewritten")}
        answer = json.dumps({**about, **rows})
    except BadInput as refusal:
        answer = json.dumps({"refused": str(refusal), "field": refusal.field})
    except MemoryError:
        full = bad(f"The file takes more than {memory // 2**20} MB of memory to read. Keep a sample of it.")
        answer = json.dumps({"refused": str(full), "field": full.field})
    sys.stdout.write(answer)


if __name__ == "__main__":
    main(sys.argv[1])
