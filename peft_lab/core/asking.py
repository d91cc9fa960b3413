"""Who asks, in whichever thread or process the answer is made.

In a class every thread that touches somebody's files acts for somebody, or is refused: there is no default.
A page's thread is told by its browser's signed cookie (:func:`told_by`), others by whoever started them
(:func:`carried`, :func:`acting_for`). Without a class nobody is asked.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import wraps
from pathlib import Path
from typing import ParamSpec, TypeVar

from peft_lab.core import disk
from peft_lab.core.errors import BadInput, PeftLabError

# ----------------------------------------
# Whether this is a class: the environment variable ``PEFT_LAB_CLASS`` holds the code by which learners join.


CLASS_VARIABLE = "PEFT_LAB_CLASS"
SHORTEST = 6  # characters of a code


def class_is_on() -> bool:
    """Whether this process serves a class, or works for one."""
    return bool(os.environ.get(CLASS_VARIABLE))


def here() -> str:
    """What the machine is called on which all of this lies: of a learner it is not the one before them."""
    return "your class's server" if class_is_on() else "this machine"


def join_code() -> str:
    """The learners' code.

    Raises:
        BadInput: it is too short to keep anybody out.
    """
    code = os.environ.get(CLASS_VARIABLE, "").strip()
    if len(code) < SHORTEST:
        raise BadInput(
            f"{CLASS_VARIABLE} is the code by which learners join: at least {SHORTEST} characters."
        )
    return code


Arguments = ParamSpec("Arguments")
Answer = TypeVar("Answer")
#: The owner of what lies in the lab folder itself: whoever has an account on the machine.
OPERATOR = ""


@dataclass(frozen=True)
class Asker:
    """One person in a class.

    Attributes:
        owner: their random name, that of their folder; :data:`OPERATOR` for who works on the machine itself.
        teacher: whether they came with the teacher's code, or signed in as one.
        login: when they signed in at their provider, in seconds since 1970; 0 for who came with a code.
    """

    owner: str
    teacher: bool = False
    login: int = field(default=0, compare=False)


class NobodyAsks(PeftLabError):
    """Something of a class was touched on behalf of nobody."""

    def __init__(self) -> None:
        super().__init__(
            "Nobody is known to ask for this. Open the app's first page and join the class again."
        )


_told: Callable[[], Asker | None] = lambda: None  # noqa: E731  replaced by told_by
_acting: ContextVar[Asker | None] = ContextVar("acting", default=None)


def told_by(source: Callable[[], Asker | None]) -> None:
    """Let ``source`` say who asks in threads that nobody has told; ``None`` where it does not know either."""
    global _told
    _told = source


def asker() -> Asker | None:
    """Who asks; ``None`` without a class.

    Raises:
        NobodyAsks: in a class, when it is not known.
    """
    acting = _acting.get()
    if acting is not None or not class_is_on():
        return acting
    found = _told()
    if found is None:
        raise NobodyAsks
    return found


@contextmanager
def acting_for(who: Asker | None) -> Iterator[None]:
    """What this thread does meanwhile is done for ``who``."""
    token = _acting.set(who)
    try:
        yield
    finally:
        _acting.reset(token)


def carried(function: Callable[Arguments, Answer]) -> Callable[Arguments, Answer]:
    """The function, acting for who asks now, whichever thread calls it later."""
    who = asker()

    @wraps(function)
    def acting(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Answer:
        with acting_for(who):
            return function(*args, **kwargs)

    return acting


def in_person(function: Callable[Arguments, Answer]) -> Callable[Arguments, Answer]:
    """Mark a question to a worker process whose answer depends on who asks: it is answered for them, and kept for
    nobody else."""
    function.in_person = True  # type: ignore[attr-defined]
    return function


def is_in_person(function: Callable[..., object]) -> bool:
    return bool(getattr(function, "in_person", False))


def answered_for(
    who: Asker | None, function: Callable[..., Answer], args: tuple[object, ...], **kwargs: object
) -> Answer:
    """Called in the worker process: ``function`` for ``who``."""
    with acting_for(who):
        return function(*args, **kwargs)


# ----------------------------------------
# Which folders of the server a class may name as models: those below ``PEFT_LAB_CLASS_MODELS``, and no other.
#
# The variable holds folders, separated as in ``PATH``; ``serve --class --models DIR`` sets it. Without a class any
# folder may be named.


MODELS_VARIABLE = "PEFT_LAB_CLASS_MODELS"


def folder_allowed() -> tuple[Path, ...]:
    """The folders that the teacher allowed, without links in them."""
    named = os.environ.get(MODELS_VARIABLE, "").split(os.pathsep)
    return tuple(disk.at_home(folder).resolve() for folder in named if folder)


def hidden_folder(name: str) -> bool:
    """Whether this is a place on the server that nobody in this class may name, links followed."""
    if not class_is_on():
        return False
    with suppress(OSError, ValueError, RuntimeError):  # text that is no path; a circle of links
        place = Path(name).resolve()
        return not any(place.is_relative_to(folder) for folder in folder_allowed())
    return True
