"""How long tests wait for what other processes and pages do.

Long, since what is waited for ends the wait: only a test that fails takes all of it, and a machine that is busy with
other workers' trainings may need minutes for what takes a second on a quiet one.
"""

from __future__ import annotations

import time
from collections.abc import Callable

SECONDS = 600.0
MILLISECONDS = 1000 * SECONDS  #: as Playwright counts


def until(condition: Callable[[], object]) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)
