"""SIGKILL to the process that answers, at random moments of a question: it is told, and the next is answered."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from typing import Any

from bench.faults.rows import Place, Row, counted
from bench.faults.watching import QUICK, finished
from peft_lab.core import inspector
from peft_lab.core.errors import PeftLabError
from peft_lab.runs import respond

TIMES = 40
TEXT = "A fine film."


def run(place: Place, times: int) -> Iterator[Row]:
    """One row."""
    (made,) = finished(QUICK)
    begun = time.monotonic()
    expected = respond.ask(made.id, [TEXT])
    cold = time.monotonic() - begun  # a process, its imports and two models
    row, chance, told = Row("the answering process, SIGKILL"), random.Random(0), dict[str, int]()
    for number in place.in_time(range(times)):
        row.tried += 1
        label = f"kill {number}"
        question = [TEXT, f"{number} fine films."]
        killing = threading.Thread(target=_kill, args=(chance.uniform(0, cold if number % 2 else 0.2),))
        killing.start()
        answer = row.guarded(f"{label}: asked", partial(respond.ask, made.id, question))
        killing.join()
        ending = "told" if isinstance(answer, PeftLabError) else "answered"
        told[ending] = told.get(ending, 0) + 1
        again: object = None
        for question in (
            [TEXT, f"{number} more."],
            [TEXT, f"{number}!"],
        ):  # a kill between two is told to the next
            again = row.guarded(f"{label}: asked again", partial(respond.ask, made.id, question))
            if isinstance(again, list):
                break
        if not isinstance(again, list) or again[0] != expected[0]:
            row.other(f"{label}: the next answer is {again!r:.200}")
    row.notes = f"{counted(told)}; the next answer was right each time"
    yield row


def _kill(after: float) -> None:
    time.sleep(after)
    executor: Any = inspector.get_inspector(inspector.Worker.ANSWERS)._members[0].executor
    for pid in list(executor._processes or ()) if executor is not None else ():
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
