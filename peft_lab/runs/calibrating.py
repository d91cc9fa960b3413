"""Measure this machine's speed in a separate process, so that training times can be predicted.

Never beside a training, which would distort it: if one starts meanwhile, the measurement is discarded.
"""

from __future__ import annotations

import threading
from concurrent.futures import Future
from itertools import count
from typing import Any

from peft_lab.core.errors import RunError
from peft_lab.engine.timing import here
from peft_lab.runs import waiting
from peft_lab.workers import inspector

_lock = threading.Lock()
_numbers = count()
_asked: list[Future[dict[str, Any]]] = []  # only the latest


def refusal() -> str:
    """Return why the machine cannot be measured now; empty if it can."""
    if waiting.unfinished():
        return "A run is under way: beside it the machine cannot be measured. Wait until it has ended."
    return ""


def under_way() -> Future[dict[str, Any]] | None:
    """Return the latest measurement asked for, which may have ended; ``None`` if there was none."""
    return _asked[-1] if _asked else None


def begin() -> Future[dict[str, Any]]:
    """Measure, and store the result; joins a measurement that is under way.

    The future's result is what is stored (:func:`peft_lab.engine.timing.here.known`). It raises RunError if a
    run is under way or has started meanwhile, and OSError if nothing can be written.
    """
    with _lock:
        asked = under_way()
        if asked is not None and not asked.done():
            return asked
        made: Future[dict[str, Any]] = Future()
        _asked[:] = [made]
        number = next(_numbers)
    problem = refusal()
    if problem:
        made.set_exception(RunError(problem))
        return made
    worker = inspector.Inspector(threads=None)

    def settle(done: Future[dict[str, Any]]) -> None:
        worker.close()
        try:
            found = done.result()
            if waiting.unfinished():
                raise RunError(
                    "A run has started while the machine was measured; measure it again when it has ended."
                )
            here.keep(found)
        except Exception as error:  # noqa: BLE001  whoever asked has to know
            made.set_exception(error)
        else:
            made.set_result(found)

    worker.submit(measured, number).add_done_callback(settle)
    return made


def measured(_: int) -> dict[str, Any]:
    """Run :func:`peft_lab.engine.timing.here.measure`; a new number each time avoids a cached answer."""
    return here.measure()
