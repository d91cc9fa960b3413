"""A worker process that takes questions before it is there: nobody who asks waits for its start.

The first process of an app takes seconds, for which the fork server still imports. What is asked meanwhile is handed
to it, in order, by the thread that started it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from typing import Any

_ATTEMPTS = 2  # the fork server may be lost while it is asked for a child; asking again starts a new one


class NotStarted(Exception):
    """No process takes the question; the words are the reason."""


@dataclass(frozen=True)
class _Question:
    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    answer: Future[Any]


class LatePool:
    """What ``start`` starts, in a thread that ends with it. Safe to use from any thread."""

    def __init__(self, start: Callable[[], Executor]) -> None:
        """``start`` has to return when the process is there."""
        self._start = start
        self._lock = threading.Lock()
        self._waiting: list[_Question] = []
        self._pool: Executor | None = None
        self._refused: NotStarted | None = None
        self._closed = False
        try:
            threading.Thread(target=self._work, name="late-pool", daemon=True).start()
        except RuntimeError as error:  # the app is closing, or the machine is full
            self._refuse(error)

    def submit(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Future[Any]:
        """The answer as a future, at once: what the function returns or raises, :class:`NotStarted`, or
        BrokenProcessPool when the process is lost before it has answered. It is cancelled by :meth:`close`.

        Raises:
            BrokenProcessPool: the process was lost before this question.
        """
        question = _Question(function, args, kwargs, Future())
        with self._lock:
            if self._pool is not None:
                return _taken(self._pool, question)
            if self._refused is None and not self._closed:
                self._waiting.append(question)
                return question.answer
        if self._refused is None:
            question.answer.cancel()
        else:
            question.answer.set_exception(self._refused)
        return question.answer

    def close(self) -> None:
        """End the process, or its start as soon as it is there. Waits for nothing."""
        with self._lock:
            self._closed = True
            dropped, self._waiting = self._waiting, []
            pool = self._pool
        if pool is not None:
            pool.shutdown(wait=False, cancel_futures=True)
        for question in dropped:
            question.answer.cancel()

    def _work(self) -> None:
        try:
            pool = self._started()
        except Exception as error:  # noqa: BLE001  whatever it was, those who asked have to know
            self._refuse(error)
            return
        with self._lock:
            closed = self._closed
            if not closed:
                self._pool = pool
                handed_over = [(question, _handed_over(pool, question)) for question in self._waiting]
                self._waiting = []
        if closed:
            pool.shutdown(wait=False, cancel_futures=True)
            return
        for question, inner in handed_over:
            inner.add_done_callback(partial(_pass_on, question.answer))

    def _started(self) -> Executor:
        for _ in range(_ATTEMPTS - 1):
            try:
                return self._start()
            except (EOFError, ConnectionError, BrokenProcessPool):
                continue
        return self._start()

    def _refuse(self, error: Exception) -> None:
        said = getattr(error, "strerror", None) or str(error) or "the process that starts others was ended"
        with self._lock:
            self._refused = NotStarted(said)
            refused, self._waiting = self._waiting, []
        for question in refused:
            question.answer.set_exception(self._refused)


def _taken(pool: Executor, question: _Question) -> Future[Any]:
    try:
        return pool.submit(question.function, *question.args, **question.kwargs)
    except BrokenProcessPool:
        raise
    except RuntimeError as error:  # the app is closing
        question.answer.set_exception(NotStarted(str(error)))
        return question.answer


def _handed_over(pool: Executor, question: _Question) -> Future[Any]:
    """As any question that waits in a pool: when the process is lost, so is it."""
    try:
        return _taken(pool, question)
    except BrokenProcessPool as lost:
        failed: Future[Any] = Future()
        failed.set_exception(lost)
        return failed


def _pass_on(outer: Future[Any], done: Future[Any]) -> None:
    if done is outer:
        return
    if done.cancelled():
        outer.cancel()
    elif (error := done.exception()) is not None:
        outer.set_exception(error)
    else:
        outer.set_result(done.result())
