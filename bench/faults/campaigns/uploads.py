"""Hostile files of a learner: each is taken or refused in one sentence, within limits on time and memory.

They go the way of an upload (``peft_lab.training.tasks.apart``), so what is measured is what a page does with them.
"""

from __future__ import annotations

import os
import resource
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from bench.faults.rows import Outcome, Place, Row
from bench.faults.upload_cases import cases
from peft_lab.core.errors import BadInput
from peft_lab.training.tasks import apart

TIMES = 200
_LONGEST = 800  # characters of a refusal


def tried(name: str, data: bytes) -> Outcome:
    """One upload, as the app reads it."""
    return _told(lambda: apart.load(data, name))


def _told(read: Callable[[], Any]) -> Outcome:
    outcome, start = Outcome(), time.monotonic()
    try:
        read()
    except BadInput as refusal:
        message = str(refusal)
        if (
            "\n" in message
            or not message.endswith(".")
            or len(message) > _LONGEST
            or not message.isprintable()
        ):
            outcome.faults.append(f"not one clear sentence: {message!r:.200}")
    except Exception:  # noqa: BLE001  whatever it is, it is what the campaign looks for
        outcome.traceback = traceback.format_exc()
    outcome.seconds = time.monotonic() - start
    outcome.hung = outcome.seconds > apart.SECONDS + 5
    outcome.peak_bytes = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    return outcome


def places() -> list[tuple[str, Outcome]]:
    """Paths for ``--own`` that are no files, or files that cannot be read."""
    with tempfile.TemporaryDirectory() as folder:
        pipe, loop, hidden = Path(folder) / "pipe.csv", Path(folder) / "loop.csv", Path(folder) / "zero.csv"
        os.mkfifo(pipe)
        loop.symlink_to(loop)
        hidden.symlink_to("/dev/zero")
        endless = [
            "/dev/zero",
            "/dev/urandom",
            "/dev/null",
            "/dev/tty",
            str(hidden),
            str(pipe),
            str(loop),
            folder,
        ]
        others = ("/proc/self/mem", "/proc/kmsg", "/no/such.csv", "a\0b.csv", "x" * 5000 + ".csv", "", "~")
        return [(f"--own {path:.40}", _told(partial(apart.load_file, path))) for path in (*endless, *others)]


def run(place: Place, times: int) -> Iterator[Row]:
    """A row for files that are uploaded, one for what is named to the command line."""
    answered = "taken, or refused in one sentence"
    files = ((what, tried(name, data)) for what, name, data in cases(times))
    yield Row("hostile uploads").take(place.in_time(files), answered)
    yield Row("devices, pipes, links and folders for `--own`").take(places(), answered)
