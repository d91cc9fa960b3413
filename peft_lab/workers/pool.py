"""Several inspectors behind one queue: questions run in parallel, the most urgent first, and share answers.

A page asks for nine simulations at once, and for others as soon as a setting moves. The latest questions matter most
then, so of the most urgent waiting questions the one asked last runs next.
"""

from __future__ import annotations

import heapq
import pickle
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, TypeVar

from peft_lab.core import machine
from peft_lab.core.errors import AssetError, RunError
from peft_lab.workers import inspector, processes
from peft_lab.workers.inspector import Failed, Inspector, question_key, read

Answer = TypeVar("Answer")
KEPT = 2048  # answers
#: Bytes of them. They are kept as they were sent between processes, 20 kB for a simulated step: in memory it would take
#: nine times as much, and to read it again takes 0.4 ms.
KEPT_BYTES = 16_000_000
WAITING = 96  # questions that may wait; of more, those asked longest ago are cancelled
MOST_MEMBERS = 4


@dataclass
class _PooledQuestion:
    function: Callable[..., Any]
    args: tuple[Any, ...]
    answer: Future[Any]
    asked: int = 0


class Pool:
    """Worker processes behind one queue of questions. Safe to use from any thread."""

    def __init__(
        self,
        members: Sequence[Inspector],
        kept: int = KEPT,
        waiting: int = WAITING,
        kept_bytes: int = KEPT_BYTES,
    ) -> None:
        self._idle = list(members)
        self._kept, self._most_waiting, self._most_bytes = kept, waiting, kept_bytes
        self._lock = threading.RLock()
        # What is waited for, refusals, failures for a while, and answers as they were sent.
        self._answers: OrderedDict[str, Future[Any] | bytes] = OrderedDict()
        self._held = 0  # bytes of those
        self._waiting: dict[str, _PooledQuestion] = {}
        self._order: list[tuple[int, int, str]] = []
        self._serial = 0

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
        key = question_key(function, args, {})
        with self._lock:
            known = self._answers.get(key)
            if known is None or inspector.is_over(known) or (isinstance(known, Future) and known.cancelled()):
                known = Future()
                self._answers[key] = known
                self._waiting[key] = _PooledQuestion(function, args, known)
            self._answers.move_to_end(key)
            if key in self._waiting:
                self._serial += 1
                self._waiting[key].asked = self._serial
                heapq.heappush(self._order, (urgency, -self._serial, key))
            self._trim()
        self._dispatch()
        return known if isinstance(known, Future) else read(known)

    def _trim(self) -> None:
        while len(self._waiting) > self._most_waiting:
            oldest = min(self._waiting, key=lambda key: self._waiting[key].asked)
            self._waiting.pop(oldest).answer.cancel()
            del self._answers[oldest]
        beyond = len(self._answers) - self._kept
        if beyond <= 0 and self._held <= self._most_bytes:
            return
        for key in list(self._answers):
            if beyond <= 0 and self._held <= self._most_bytes:
                break
            answer = self._answers[key]
            if isinstance(answer, bytes):
                self._held -= len(answer)
            elif not answer.done():
                continue
            beyond -= 1
            del self._answers[key]

    def _dispatch(self) -> None:
        while True:
            with self._lock:
                key = self._next() if self._idle else None
                if key is None:
                    return
                question, member = self._waiting.pop(key), self._idle.pop()
            question.answer.set_running_or_notify_cancel()
            inner = member.submit(question.function, *question.args)
            inner.add_done_callback(partial(self._settle, key, question, member))

    def _next(self) -> str | None:
        while self._order:
            _, _, key = heapq.heappop(self._order)
            if key in self._waiting:
                return key
        return None

    def _settle(self, key: str, question: _PooledQuestion, member: Inspector, inner: Future[Any]) -> None:
        error = inner.exception()
        with self._lock:
            self._idle.append(member)
            # A process that was lost or weights that are missing may be mended; all else stays as it is.
            if isinstance(error, RunError | AssetError) and self._answers.get(key) is question.answer:
                self._answers[key] = Failed(error)
        if error is None:
            self._keep(key, question, inner.result())
            question.answer.set_result(inner.result())
        else:
            question.answer.set_exception(error)
        self._dispatch()

    def _keep(self, key: str, question: _PooledQuestion, result: Any) -> None:
        sent = pickle.dumps(result, pickle.HIGHEST_PROTOCOL)
        with self._lock:
            if self._answers.get(key) is question.answer:
                self._answers[key] = sent
                self._held += len(sent)


@cache
def get_pool() -> Pool:
    """Return this process's pool for simulations: one worker a core, from 2 to :data:`MOST_MEMBERS`."""
    size = min(MOST_MEMBERS, max(2, machine.cores()))
    # its members keep nothing: what the pool lets go of would stay with them
    return Pool([Inspector(threads=1, kept=0, after=processes.SIMULATES_AFTER) for _ in range(size)])
