"""Answer questions that need torch in a separate process, so that the web server never imports it.

    report = inspector.ask(counting.count, "gpt2", "lora", {"r": 8})

A question is a module-level function with JSON-able arguments or dataclasses. Answers are cached by the question's
value, equal questions in progress share one answer, and a process that dies fails only the questions it had. Nobody
waits for a process to start: the first answer just takes longer.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import pickle
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from enum import StrEnum
from functools import cache, partial
from multiprocessing import util
from typing import Any, TypeVar

from peft_lab.core import asking, machine
from peft_lab.core.errors import RunError, SimulationError, Unsupported
from peft_lab.models.assets import store as assets
from peft_lab.models.assets.store import stamp
from peft_lab.workers import processes

# ----------------------------------------
# A failure that may be mended: weights can be fetched, memory freed, a process begun again.
#
# It is told for some seconds to whoever asks again, and only then is the question asked anew. A page that could not
# wait for its answer draws itself again when it has come, and asks; if a failure were forgotten at once, the page
# would begin anew what has just failed, and wait for good.


#: Seconds. Pages look for what they wait for every 1.75 s at the longest (``ui/components/waiting.py``).
TOLD_FOR = 5.0


class Failed(Future[Any]):
    """A cached answer that is an error. It expires after :data:`TOLD_FOR` seconds."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.set_exception(error)
        self.until = time.monotonic() + TOLD_FOR

    def expire(self) -> None:
        """Let the next equal question be asked anew."""
        self.until = 0.0


def is_over(kept: object) -> bool:
    """Return whether a cached answer is a failure that has expired, so that the question has to be asked again."""
    return isinstance(kept, Failed) and time.monotonic() >= kept.until


# ----------------------------------------
# A worker process that takes questions before it is there: nobody who asks waits for its start.
#
# The first process of an app takes seconds, for which the fork server still imports. What is asked meanwhile is
# handed to it, in order, by the thread that started it.


_ATTEMPTS = 2  # the fork server may be lost while it is asked for a child; asking again starts a new one


class NotStarted(Exception):
    """No process could be started for the question. The message is the reason."""


@dataclass(frozen=True)
class _Question:
    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    answer: Future[Any]


class LatePool:
    """An executor that accepts questions before its process has started. Safe to use from any thread.

    A thread starts the process, hands it the questions that wait, and ends.
    """

    def __init__(self, start: Callable[[], Executor]) -> None:
        """Begin the start in a thread. ``start`` returns an executor whose process is running."""
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
        """Return the answer as a future, at once.

        The future holds what the function returns or raises, :class:`NotStarted` if no process starts, or
        BrokenProcessPool if the process dies before it answers. :meth:`close` cancels it.

        Raises:
            BrokenProcessPool: the process died before this question.
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
        """End the process, or end it as soon as its start completes. Returns at once."""
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
    """Submit a question to a running pool; if the app is closing, return a future that has failed.

    Raises:
        BrokenProcessPool: the process died before this question.
    """
    try:
        return pool.submit(question.function, *question.args, **question.kwargs)
    except BrokenProcessPool:
        raise
    except RuntimeError as error:  # the app is closing
        question.answer.set_exception(NotStarted(str(error)))
        return question.answer


def _handed_over(pool: Executor, question: _Question) -> Future[Any]:
    """Submit a question that waited; if the process is lost, return a future that has failed."""
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


Answer = TypeVar("Answer")
KEPT = 256  # answers, as they were sent between processes: a count takes 2 kB then, 15 as an object
#: Characters of a question that its key spells out. The lengths of a file's rows take megabytes, which nobody counts.
_LONGEST = 1000
# Of a class: what may be named there holds for who answers, too.
_OF_A_CLASS = (asking.CLASS_VARIABLE, asking.MODELS_VARIABLE)


@dataclass(frozen=True)
class _Settings:
    """Settings from the environment that answers depend on."""

    home: str
    of_a_class: Mapping[str, str | None]


class Inspector:
    """One worker process and a cache of its answers. Safe to use from any thread."""

    def __init__(self, threads: int | None = 1, kept: int = KEPT, after: int = 0) -> None:
        """Make an inspector; its process starts with the first question.

        Args:
            threads: how many cores the process computes on; ``None`` for all.
            kept: how many answers to cache.
            after: how much its process yields to pages in a class (:func:`.processes.give_way`).
        """
        self._threads, self._after = threads, after
        self._kept = kept
        self._lock = threading.Lock()
        self._pool: LatePool | None = None
        self._settings: _Settings | None = None
        # What is waited for, refusals, failures for a while, and answers as they were sent.
        self._answers: OrderedDict[str, Future[Any] | bytes] = OrderedDict()

    def submit(self, function: Callable[..., Answer], *args: Any, **kwargs: Any) -> Future[Answer]:
        """Return the answer as a future, at once. It holds the errors that :meth:`ask` raises.

        Raises:
            TypeError: an argument is neither JSON-able nor a dataclass.
        """
        key = question_key(function, args, kwargs)
        call: tuple[Callable[..., Any], tuple[Any, ...]] = (function, args)
        if asking.is_in_person(function):
            who = asking.asker()
            key, call = f"{who} {key}", (asking.answered_for, (who, function, args))
        self._follow_settings()
        with self._lock:
            known = self._answers.get(key)
            if known is not None and not is_over(known):
                self._answers.move_to_end(key)
                return known if isinstance(known, Future) else read(known)
            outer: Future[Answer] = Future()
            self._answers[key] = outer
            while len(self._answers) > self._kept:
                self._answers.popitem(last=False)
            pool = self._running_pool()
            try:
                inner = pool.submit(call[0], *call[1], **kwargs)
            except BrokenProcessPool:
                # It died since the last question, which nobody had to notice; a new one takes this question.
                self._pool = None
                pool = self._running_pool()
                inner = pool.submit(call[0], *call[1], **kwargs)
        inner.add_done_callback(lambda done: self._settle(key, pool, done, outer))
        return outer

    def ask(self, function: Callable[..., Answer], *args: Any, **kwargs: Any) -> Answer:
        """Wait for the answer and return it.

        Raises:
            PeftLabError: whatever the function raises. RunError: the worker process died or could not start.
            TypeError: an argument is neither JSON-able nor a dataclass.
        """
        return self.submit(function, *args, **kwargs).result()

    def forget(self) -> None:
        """Drop all cached answers. Call it when the files they were read from have changed."""
        with self._lock:
            self._answers.clear()

    def close(self) -> None:
        """End the worker process; the next question starts another."""
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.close()

    def _follow_settings(self) -> None:
        """Replace the process and drop its answers if the lab folder or the class settings have changed."""
        settings = _Settings(str(assets.home()), {name: os.environ.get(name) for name in _OF_A_CLASS})
        with self._lock:
            if settings == self._settings:
                return
            pool, self._pool, self._settings = self._pool, None, settings
            self._answers.clear()
        if pool is not None:
            pool.close()

    def _running_pool(self) -> LatePool:
        if self._pool is None:
            self._pool = LatePool(partial(_started, self._settings, self._threads, self._after))
        return self._pool

    def _settle(self, key: str, pool: LatePool, inner: Future[Answer], outer: Future[Answer]) -> None:
        error = (
            RunError("The question was dropped: the app is closing.")
            if inner.cancelled()
            else inner.exception()
        )
        broken = isinstance(error, BrokenProcessPool | NotStarted)
        if isinstance(error, NotStarted):
            error = RunError(f"No process could be started for this question: {error}.")
        elif broken:
            error = RunError("The process that answers questions about models was ended; try again.")
        if error is None:
            if self._answers.get(key) is outer:  # a pool's member keeps nothing, and weighs nothing
                sent = pickle.dumps(inner.result(), pickle.HIGHEST_PROTOCOL)
                with self._lock:
                    if self._answers.get(key) is outer:
                        self._answers[key] = sent
            outer.set_result(inner.result())
            return
        # What cannot be is an answer like any other. Other failures may be mended (weights fetched, memory freed).
        if isinstance(error, SimulationError | Unsupported):
            outer.set_exception(error)
            return
        with self._lock:
            if self._answers.get(key) is outer:
                if inner.cancelled():  # closed: whoever asks now means the next process
                    del self._answers[key]
                else:
                    self._answers[key] = Failed(error)
            if broken and self._pool is pool:
                self._pool = None
        outer.set_exception(error)


def read(sent: bytes) -> Future[Any]:
    """Return a finished future with its own copy of a cached answer."""
    found: Future[Any] = Future()
    found.set_result(pickle.loads(sent))
    return found


def _started(*given: Any) -> ProcessPoolExecutor:
    """Return a pool whose process is running.

    The pool starts its process at the first question, so one is asked whose answer is ignored.
    """
    pool = ProcessPoolExecutor(1, processes.context(), _begin, given)
    pool.submit(os.getpid)
    return pool


def _begin(settings: _Settings, threads: int | None, after: int) -> None:
    """Set up a worker process with this process's settings, because the fork server's environment may be older."""
    for name, value in settings.of_a_class.items():
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value
    processes.give_way(after)
    processes.settle_child(settings.home, threads)
    # A worker that has asked another would wait for it at its own end, for ever: nothing tells that one to end.
    util.Finalize(None, _end_children, exitpriority=100)


def _end_children() -> None:
    for child in multiprocessing.active_children():
        child.terminate()


def question_key(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    """Return a key for a question by its value.

    Equal keys mean equal questions about the same state of a model's folder.

    Raises:
        TypeError: an argument is neither JSON-able nor a dataclass.
    """
    asked = json.dumps([args, kwargs], sort_keys=True, default=asdict)
    if len(asked) > _LONGEST:
        asked = hashlib.sha256(asked.encode()).hexdigest()
    stamped = [found for one in (*args, *kwargs.values()) if (found := stamp(_model(one)))]
    return f"{function.__module__}.{function.__qualname__}{asked}{stamped or ''}"


def _model(argument: object) -> str:
    """Return the model that an argument names or holds; empty if there is none."""
    if isinstance(argument, Mapping):
        argument = argument.get("model")
    elif not isinstance(argument, str):
        argument = getattr(argument, "model", None)
    return argument if isinstance(argument, str) else ""


class Worker(StrEnum):
    """The worker processes of this process, one for each kind of question, so that none delays another."""

    COUNTING = "counting"
    MODELS = "models"  #: shapes of models by foreign names
    ANSWERS = "answers"  #: what runs models; a slow reply never delays a count
    ATLAS = "atlas"  #: its short runs, a minute each: no reply waits for one
    MEMORY = "memory"
    CLAIMS = "claims"
    CHOOSE = "choose"
    FLIPS = "flips"  #: what would change an advice takes many times as long as the advice, which must not wait for it


@cache
def get_inspector(worker: Worker = Worker.COUNTING) -> Inspector:
    """Return this process's inspector for one kind of question."""
    return Inspector(threads=1 if worker is Worker.COUNTING else None)


def ask(function: Callable[..., Answer], *args: Any, **kwargs: Any) -> Answer:
    """Wait for the counting inspector's answer and return it.

    Raises:
        PeftLabError: as :meth:`Inspector.ask`.
    """
    return get_inspector().ask(function, *args, **kwargs)


def submit(function: Callable[..., Answer], *args: Any, **kwargs: Any) -> Future[Answer]:
    """Return the counting inspector's answer as a future, at once (:meth:`Inspector.submit`)."""
    return get_inspector().submit(function, *args, **kwargs)


def warm() -> None:
    """Start the fork server and the counting process in the background. Returns at once."""
    processes.start_server()
    submit(machine.cores)
