"""Questions that need torch, answered in a process of their own so that the web server never imports it.

    report = inspector.ask(counting.count, "gpt2", "lora", {"r": 8})

A question is a module-level function with JSON-able arguments or dataclasses. Answers are kept by value, equal
questions that are under way are joined, and a process that dies fails only the questions it had. Nobody waits for
a process to start: the answer takes so much longer.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import pickle
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from enum import StrEnum
from functools import cache, partial
from multiprocessing import util
from typing import Any, TypeVar

from peft_lab import machine
from peft_lab.assets import store as assets
from peft_lab.assets.stamps import stamp
from peft_lab.classroom import asking, folders, mode
from peft_lab.errors import RunError, SimulationError, Unsupported
from peft_lab.workers import failed, processes
from peft_lab.workers.failed import Failed
from peft_lab.workers.late import LatePool, NotStarted

Answer = TypeVar("Answer")
KEPT = 256  # answers, as they were sent between processes: a count takes 2 kB then, 15 as an object
#: Characters of a question that its key spells out. The lengths of a file's rows take megabytes, which nobody counts.
_LONGEST = 1000
# Of a class: what may be named there holds for who answers, too.
_OF_A_CLASS = (mode.VARIABLE, folders.VARIABLE)


@dataclass(frozen=True)
class _Settings:
    """What the environment says that an answer depends on."""

    home: str
    of_a_class: Mapping[str, str | None]


class Inspector:
    """One worker process and the answers it has given. Safe to use from any thread."""

    def __init__(self, threads: int | None = 1, kept: int = KEPT, after: int = 0) -> None:
        """``after``: how far its process gives way to pages in a class (:func:`.processes.give_way`)."""
        self._threads, self._after = threads, after
        self._kept = kept
        self._lock = threading.Lock()
        self._pool: LatePool | None = None
        self._settings: _Settings | None = None
        # What is waited for, refusals, failures for a while, and answers as they were sent.
        self._answers: OrderedDict[str, Future[Any] | bytes] = OrderedDict()

    def submit(self, function: Callable[..., Answer], *args: Any, **kwargs: Any) -> Future[Answer]:
        """The answer as a future, at once. Errors of this package come back as themselves; see :meth:`ask`."""
        key = question_key(function, args, kwargs)
        call: tuple[Callable[..., Any], tuple[Any, ...]] = (function, args)
        if asking.is_in_person(function):
            who = asking.asker()
            key, call = f"{who} {key}", (asking.answered_for, (who, function, args))
        self._follow_settings()
        with self._lock:
            known = self._answers.get(key)
            if known is not None and not failed.is_over(known):
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
        """The answer, waited for.

        Raises:
            PeftLabError: whatever the function raises. RunError: the worker process died, or could not be started.
        """
        return self.submit(function, *args, **kwargs).result()

    def forget(self) -> None:
        """Drop all kept answers (after the files they were read from have changed)."""
        with self._lock:
            self._answers.clear()

    def close(self) -> None:
        """End the worker process; a later question starts another."""
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.close()

    def _follow_settings(self) -> None:
        """A process that works in another lab folder, or for a class where there is none, answers nobody else, nor do
        its answers."""
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
    """An answer that is there, as each who asks for it gets it: their own."""
    found: Future[Any] = Future()
    found.set_result(pickle.loads(sent))
    return found


def _started(*given: Any) -> ProcessPoolExecutor:
    """A pool whose process is there. It is made with the first question, which is one of no interest."""
    pool = ProcessPoolExecutor(1, processes.context(), _begin, given)
    pool.submit(os.getpid)
    return pool


def _begin(settings: _Settings, threads: int | None, after: int) -> None:
    """Begin a worker with this process's settings: those of the fork server are of its own start."""
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
    """A question by value: equal keys mean equal questions, about the same state of a model's folder. Raises TypeError
    for what is neither JSON-able nor a dataclass."""
    asked = json.dumps([args, kwargs], sort_keys=True, default=asdict)
    if len(asked) > _LONGEST:
        asked = hashlib.sha256(asked.encode()).hexdigest()
    stamped = [found for one in (*args, *kwargs.values()) if (found := stamp(_model(one)))]
    return f"{function.__module__}.{function.__qualname__}{asked}{stamped or ''}"


def _model(argument: object) -> str:
    """The model that an argument names or is about; empty where it is about none."""
    if isinstance(argument, Mapping):
        argument = argument.get("model")
    elif not isinstance(argument, str):
        argument = getattr(argument, "model", None)
    return argument if isinstance(argument, str) else ""


class Worker(StrEnum):
    """The answering processes that this process has, each for questions of one kind, so that none delays another."""

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
    """This process's inspector of that name."""
    return Inspector(threads=1 if worker is Worker.COUNTING else None)


def ask(function: Callable[..., Answer], *args: Any, **kwargs: Any) -> Answer:
    """:meth:`Inspector.ask` of the inspector that counts."""
    return get_inspector().ask(function, *args, **kwargs)


def submit(function: Callable[..., Answer], *args: Any, **kwargs: Any) -> Future[Answer]:
    """:meth:`Inspector.submit` of the inspector that counts."""
    return get_inspector().submit(function, *args, **kwargs)


def warm() -> None:
    """Start the fork server and the counting process in the background. Returns at once."""
    processes.start_server()
    submit(machine.cores)
