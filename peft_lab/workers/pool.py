"""Several processes behind one queue: questions run in parallel, the most urgent first, and share answers.

A page asks for nine simulations at once, and for others as soon as a setting moves. The latest questions matter most
then, so of the most urgent waiting questions the one asked last runs next.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from functools import cache
from typing import Any

from peft_lab.core import machine
from peft_lab.workers import processes
from peft_lab.workers.inspector import KEPT_BYTES, Answer, Workers

KEPT = 2048  # answers
WAITING = 96  # questions that may wait; of more, those asked longest ago are cancelled
MOST_MEMBERS = 4


class Pool(Workers):
    """Worker processes for questions of different urgency."""

    def __init__(
        self,
        members: int,
        threads: int | None = 1,
        after: int = 0,
        kept: int = KEPT,
        kept_bytes: int = KEPT_BYTES,
        waiting: int = WAITING,
    ) -> None:
        super().__init__(members, threads, after, kept, kept_bytes, waiting)

    def submit(self, urgency: int, function: Callable[..., Answer], *args: Any) -> Future[Answer]:
        """Return the answer as a future, at once.

        Equal questions get the same answer; asking again moves a waiting question to the front of its urgency. The
        future is cancelled when :data:`WAITING` newer questions wait; ask again if the answer is still needed.

        Args:
            urgency: 0 runs first.
            function: a module-level function; its arguments must be JSON-able or dataclasses.

        Raises:
            TypeError: an argument is neither JSON-able nor a dataclass.
        """
        return self._put(urgency, True, function, args, {})


@cache
def get_pool() -> Pool:
    """Return this process's pool for simulations: one worker a core, from 2 to :data:`MOST_MEMBERS`."""
    return Pool(min(MOST_MEMBERS, max(2, machine.cores())), after=processes.SIMULATES_AFTER)
