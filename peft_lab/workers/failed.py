"""A failure that may be mended: weights can be fetched, memory freed, a process begun again.

It is told for some seconds to whoever asks again, and only then is the question asked anew. A page that could not wait
for its answer draws itself again when it has come, and asks; if a failure were forgotten at once, the page would begin
anew what has just failed, and wait for good.
"""

from __future__ import annotations

import time
from concurrent.futures import Future
from typing import Any

#: Seconds. Pages look for what they wait for every 1.75 s at the longest (``ui/components/waiting.py``).
TOLD_FOR = 5.0


class Failed(Future[Any]):
    """A kept answer that is an error, for a while."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.set_exception(error)
        self.until = time.monotonic() + TOLD_FOR


def is_over(kept: object) -> bool:
    """Whether what was kept is a failure that has been told for long enough: the question is to be asked anew."""
    return isinstance(kept, Failed) and time.monotonic() >= kept.until
