"""In a run's child: who wants it to stop, and what becomes of it when the process that made it is gone.

A Stop is a file in the run's folder (:meth:`peft_lab.runs.store.Run.ask_to_stop`). SIGTERM, and the end of the app or
command, mean the same: the run ends after its current step and saves what it has.
"""

from __future__ import annotations

import os
import signal
import threading
import time

from peft_lab.runs.store import Run

GRACE = 8.0  # seconds that a step and the saving may take once nobody waits for the run

_asked = threading.Event()


def asked(run: Run) -> bool:
    """Whether the run is to end after its current step."""
    return _asked.is_set() or run.asked_to_stop()


def listen() -> None:
    """Take SIGTERM for a Stop. A process that still is there after :data:`GRACE` ends without saving."""

    def wind_down(_number: int, _frame: object) -> None:
        threading.Thread(target=end_soon, name="winding-down", daemon=True).start()

    signal.signal(signal.SIGTERM, wind_down)


def end_soon() -> None:
    """Stop after the current step, or end without saving when that takes too long. Does not return."""
    _asked.set()
    time.sleep(GRACE)
    os._exit(1)
