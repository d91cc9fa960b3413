"""Answer questions that need torch in other processes, one or a pool of them, so the web server never imports it.

    report = inspector.ask(counting.count, "gpt2", "lora", {"r": 8})

A question is a module-level function with JSON-able arguments or dataclasses. Answers are cached by the question's
value, equal questions in progress share one answer, and a process that dies fails only its own question. No caller
waits for a process to start: the first answer just takes longer.
"""

from __future__ import annotations

import hashlib
import heapq
import json
import multiprocessing
import os
import pickle
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from concurrent.futures import CancelledError, Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from enum import StrEnum
from functools import cache
from multiprocessing import util
from typing import Any, TypeVar

from peft_lab.core import asking, disk, machine, processes
from peft_lab.core.disk import stamp
from peft_lab.core.errors import RunError, SimulationError, Unsupported

# ----------------------------------------
# Failures that may go away: weights can be fetched, memory freed, a process started again.
#
# A failure is cached for some seconds, and only then is an equal question asked again. A page that did not wait for an
# answer is redrawn when it has come, and asks again; without the cache it would start over what has just failed, and
# wait for ever.


#: Seconds for which a failure is cached. Waiting pages look at least every 1.75 s (``ui/components/waiting.py``).
TOLD_FOR = 5.0


class Failed(Future[Any]):
    """A cached answer that is an error. It expires after :data:`TOLD_FOR` seconds."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.set_exception(error)
        self.until = time.monotonic() + TOLD_FOR

    def expire(self) -> None:
        """Drop the failure, so that the next equal question is asked again."""
        self.until = 0.0


# ----------------------------------------
# Worker processes behind one queue of questions.
#
# While there are questions, a thread serves each process: it starts the process at the first question, submits one
# question after another, and ends when none waits. So callers never wait for a process to start; the first start takes
# seconds, while the fork server still imports.


Answer = TypeVar("Answer")
KEPT = 256  # answers
#: The most bytes of cached answers, which are stored pickled: 2 kB for a count, 20 kB for a simulated step. As objects
#: they would take nine times as much; unpickling one takes 0.4 ms.
KEPT_BYTES = 16_000_000
#: Characters of a question that its key spells out. The lengths of a file's rows take megabytes, which nobody counts.
_LONGEST = 1000
# Of a class: what may be named there holds for who answers, too.
_OF_A_CLASS = (asking.CLASS_VARIABLE, asking.MODELS_VARIABLE)
_ATTEMPTS = 2  # the fork server may be lost while it is asked for a child; asking again starts a new one


@dataclass(frozen=True)
class _Settings:
    """Settings from the environment that answers depend on."""

    home: str
    of_a_class: Mapping[str, str | None]


@dataclass(eq=False)
class _Question:
    key: str
    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    answer: Future[Any]
    asked: int = 0


class _Member:
    """One process and its current question. ``settings``: those that the process is started with."""

    def __init__(self, settings: _Settings | None) -> None:
        self.settings = settings
        self.executor: Executor | None = None
        self.question: _Question | None = None
        self.handed_over = False
        self.closed = False


class Workers:
    """Worker processes behind one queue of questions, and a cache of their answers. Safe to use from any thread."""

    def __init__(
        self,
        members: int,
        threads: int | None,
        after: int,
        kept: int,
        kept_bytes: int = KEPT_BYTES,
        waiting: int | None = None,
    ) -> None:
        """Create the queue of up to ``members`` processes; each starts with the first question that finds the others
        busy. A process computes on ``threads`` cores (``None``: all) and yields to pages in a class by ``after``;
        ``kept`` answers of ``kept_bytes`` together are cached; of more than ``waiting`` questions those asked
        longest ago are cancelled."""
        self._threads, self._after = threads, after
        self._most, self._most_bytes, self._most_waiting = kept, kept_bytes, waiting
        self._lock = threading.RLock()
        # What is waited for, refusals, failures for a while, and answers as they were sent.
        self._answers: OrderedDict[str, Future[Any] | bytes] = OrderedDict()
        self._held = 0  # bytes of those
        self._waiting: dict[Future[Any], _Question] = {}
        self._order: list[tuple[int, int, int, _Question]] = []
        self._serial = 0
        self._settings: _Settings | None = None
        self._members = [_Member(None) for _ in range(members)]

    def _put(
        self,
        urgency: int,
        newest_first: bool,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Future[Any]:
        """Return the answer to a question as a future, at once. Equal questions get the same answer. ``urgency``: 0
        runs first; among equals the ``newest_first`` or the oldest. Raises TypeError: an argument is neither
        JSON-able nor a dataclass."""
        key = question_key(function, args, kwargs)
        if getattr(function, "in_person", False):
            who = asking.asker()
            key, function, args = f"{who} {key}", asking.answered_for, (who, function, args)
        self._follow_settings()
        with self._lock:
            known = self._answers.get(key)
            over = isinstance(known, Failed) and time.monotonic() >= known.until
            if known is None or over or (isinstance(known, Future) and known.cancelled()):
                known = Future()
                self._answers[key] = known
                self._waiting[known] = _Question(key, function, args, kwargs, known)
            self._answers.move_to_end(key)
            question = self._waiting.get(known) if isinstance(known, Future) else None
            if question is not None and (newest_first or not question.asked):
                self._serial += 1
                question.asked = self._serial
                order = -self._serial if newest_first else self._serial
                heapq.heappush(self._order, (urgency, order, self._serial, question))
            self._trim()
        self._serve()
        if isinstance(known, bytes):  # each asker gets a copy of its own
            sent, known = known, Future()
            known.set_result(pickle.loads(sent))
        return known

    def forget(self) -> None:
        """Drop all cached answers. Call it when the files they were read from have changed."""
        with self._lock:
            self._answers.clear()
            self._held = 0

    def close(self) -> None:
        """End each process after its current question; the next question starts another. Returns at once."""
        with self._lock:
            old, self._members = self._members, [_Member(self._settings) for _ in self._members]
            dropped = list(self._waiting.values())
            dropped += [one.question for one in old if one.question is not None and not one.handed_over]
            self._waiting.clear()
            self._order.clear()
            for question in dropped:
                self._drop(question)
            for member in old:
                member.closed = True
        for member in old:
            if member.executor is not None:
                member.executor.shutdown(wait=False, cancel_futures=True)
        for question in dropped:
            question.answer.set_exception(RunError(_CLOSING))

    def _follow_settings(self) -> None:
        """Replace the processes and drop their answers if the lab folder or the class settings have changed."""
        settings = _Settings(str(disk.home()), {name: os.environ.get(name) for name in _OF_A_CLASS})
        with self._lock:
            if settings != self._settings:
                self._settings = settings
                self.forget()
                self.close()

    def _drop(self, question: _Question) -> None:
        if self._answers.get(question.key) is question.answer:
            del self._answers[question.key]

    def _trim(self) -> None:
        while self._most_waiting is not None and len(self._waiting) > self._most_waiting:
            oldest = min(self._waiting.values(), key=lambda question: question.asked)
            del self._waiting[oldest.answer]
            self._drop(oldest)
            oldest.answer.cancel()
        beyond = len(self._answers) - self._most
        for key in list(self._answers) if beyond > 0 or self._held > self._most_bytes else ():
            if beyond <= 0 and self._held <= self._most_bytes:
                break
            answer = self._answers[key]
            if isinstance(answer, bytes):
                self._held -= len(answer)
            elif not answer.done():
                continue
            beyond -= 1
            del self._answers[key]

    # -- serving ------------------------------------------------------------------------------------------------

    def _serve(self) -> None:
        """Give waiting questions to idle processes, each in a thread of its own."""
        chosen = []
        with self._lock:
            for member in self._members:
                if member.question is None and (question := self._next()) is not None:
                    member.question = question
                    chosen.append((member, question))
        for member, question in chosen:
            try:
                threading.Thread(
                    target=self._work, args=(member, question), name="workers", daemon=True
                ).start()
            except RuntimeError as error:  # the app is closing, or the machine is full
                refused: _Question | None = question
                while refused is not None:
                    refused = self._settle(member, refused, error=_not_started(error))

    def _next(self) -> _Question | None:
        while self._order:
            question = heapq.heappop(self._order)[-1]
            if self._waiting.pop(question.answer, None) is not None:
                return question
        return None

    def _work(self, member: _Member, question: _Question | None) -> None:
        """Answer the member's question, and others as long as some wait."""
        while question is not None:
            try:
                future = self._handed_over(member, question)
                if future is None:
                    return
                result = future.result()
            except BrokenProcessPool:
                member.executor = None
                ended = RunError("The process that answers questions about models has ended; try again.")
                question = self._settle(member, question, error=ended)
            except CancelledError:
                question = self._settle(member, question, error=RunError(_CLOSING))
            except BaseException as error:  # noqa: BLE001  whatever the question raises is its answer
                question = self._settle(member, question, error=error)
            else:
                question = self._settle(member, question, result)

    def _handed_over(self, member: _Member, question: _Question) -> Future[Any] | None:
        """Submit a question to the member's process, starting it if needed; ``None`` if it was closed meanwhile. Raises
        RunError: the process cannot be started, or the app is closing. BrokenProcessPool: it died at once."""
        for attempt in range(_ATTEMPTS):
            try:
                executor = member.executor or _started(member.settings, self._threads, self._after)
            except (EOFError, ConnectionError, BrokenProcessPool) as error:
                if attempt == _ATTEMPTS - 1:
                    raise _not_started(error) from error
                continue
            except Exception as error:
                raise _not_started(error) from error
            with self._lock:
                if member.closed:
                    executor.shutdown(wait=False, cancel_futures=True)
                    return None
                member.executor, member.handed_over = executor, True
            try:
                return executor.submit(question.function, *question.args, **question.kwargs)
            except BrokenProcessPool:  # it died since the last question, which nobody had to notice
                member.executor = None
                if attempt == _ATTEMPTS - 1:
                    raise
            except RuntimeError as error:
                raise _not_started(error) from error
        raise AssertionError("unreachable")

    def _settle(
        self, member: _Member, question: _Question, result: Any = None, error: BaseException | None = None
    ) -> _Question | None:
        """Deliver an answer to everyone waiting for it, and cache it; return the member's next question."""
        sent = pickle.dumps(result, pickle.HIGHEST_PROTOCOL) if error is None else b""
        with self._lock:
            if self._answers.get(question.key) is question.answer:
                if error is None:
                    self._answers[question.key] = sent
                    self._held += len(sent)
                # A step that cannot be simulated is an ordinary answer. Other failures may go away: weights can be
                # fetched, memory freed.
                elif not isinstance(error, SimulationError | Unsupported):
                    self._answers[question.key] = Failed(error)
            member.handed_over = False
            member.question = following = None if member.closed else self._next()
        if error is None:
            question.answer.set_result(result)
        elif not question.answer.done():
            question.answer.set_exception(error)
        return following


_CLOSING = "The app is closing, so the question was not answered."


def _not_started(error: BaseException) -> RunError:
    reason = getattr(error, "strerror", None) or str(error) or "the process that starts others has ended"
    return RunError(f"No process could be started for this question: {reason}.")


class Inspector(Workers):
    """One worker process that answers questions in the order in which they are asked."""

    def __init__(self, threads: int | None = 1, kept: int = KEPT, after: int = 0) -> None:
        """Make an inspector; its process starts with the first question. Arguments as in :class:`Workers`."""
        super().__init__(1, threads, after, kept)

    def submit(self, function: Callable[..., Answer], *args: Any, **kwargs: Any) -> Future[Answer]:
        """Return the answer, or the error that :meth:`ask` raises, as a future, at once. Raises TypeError as
        :func:`question_key`."""
        return self._put(0, False, function, args, kwargs)

    def ask(self, function: Callable[..., Answer], *args: Any, **kwargs: Any) -> Answer:
        """Wait for the answer and return it. Raises PeftLabError: whatever the function raises. RunError: the worker
        process died or could not start. TypeError: an argument is neither JSON-able nor a dataclass."""
        return self.submit(function, *args, **kwargs).result()


def _started(*given: Any) -> ProcessPoolExecutor:
    """Return a pool whose process is running: it starts at the first question, so one is asked in vain."""
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
    """Return a key for a question by its value and the state of a model's folder that it names. Raises TypeError: an
    argument is neither JSON-able nor a dataclass."""
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
    """Wait for the counting inspector's answer and return it. Raises PeftLabError: as :meth:`Inspector.ask`."""
    return get_inspector().ask(function, *args, **kwargs)


def submit(function: Callable[..., Answer], *args: Any, **kwargs: Any) -> Future[Answer]:
    """Return the counting inspector's answer as a future, at once (:meth:`Inspector.submit`)."""
    return get_inspector().submit(function, *args, **kwargs)


def warm() -> None:
    """Start the fork server and the counting process in the background. Returns at once."""
    processes.start_server()
    submit(machine.cores)


# A page asks for nine simulations at once, and for others as soon as a setting moves. The latest questions matter most
# then, so of the most urgent waiting questions the one asked last runs next.


POOL_KEPT = 2048  # answers
WAITING = 96  # questions that may wait; of more, those asked longest ago are cancelled
MOST_MEMBERS = 4


class Pool(Workers):
    """Worker processes for questions of different urgency."""

    def __init__(
        self,
        members: int,
        threads: int | None = 1,
        after: int = 0,
        kept: int = POOL_KEPT,
        kept_bytes: int = KEPT_BYTES,
        waiting: int = WAITING,
    ) -> None:
        super().__init__(members, threads, after, kept, kept_bytes, waiting)

    def submit(self, urgency: int, function: Callable[..., Answer], *args: Any) -> Future[Answer]:
        """Return the answer as a future, at once. Asking again moves a waiting question to the front of its urgency (0
        runs first); it is cancelled when :data:`WAITING` newer questions wait. Raises TypeError: an argument is
        neither JSON-able nor a dataclass."""
        return self._put(urgency, True, function, args, {})


@cache
def get_pool() -> Pool:
    """Return this process's pool for simulations: one worker a core, from 2 to :data:`MOST_MEMBERS`."""
    return Pool(min(MOST_MEMBERS, max(2, machine.cores())), after=processes.SIMULATES_AFTER)
