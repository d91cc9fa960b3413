"""The person on whose behalf a thread or a worker process acts.

In a class, every thread that touches a person's files acts for that person, or is refused: there is no default. A
page's thread gets the person from the browser's signed cookie (:func:`told_by`); other threads get it from the thread
that started them (:func:`carried`, :func:`acting_for`). Without a class there are no persons, and :func:`asker` is
``None``.
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
    """Return whether this process serves a class, or is a worker of one that does."""
    return bool(os.environ.get(CLASS_VARIABLE))


def here() -> str:
    """Return what to call the machine that holds the data: for a learner it is not the one they sit at."""
    return "your class's server" if class_is_on() else "this machine"


def join_code() -> str:
    """Return the code by which learners join.

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
        owner: their random name, which is also their folder's; :data:`OPERATOR` for the user of the machine itself.
        teacher: whether they joined with the teacher's code, or signed in as a teacher.
        login: when they signed in at their provider, in seconds since 1970; 0 if they joined with a code.
    """

    owner: str
    teacher: bool = False
    login: int = field(default=0, compare=False)


class NobodyAsks(PeftLabError):
    """A thread touched data of a class without acting for anybody."""

    def __init__(self) -> None:
        super().__init__(
            "Nobody is known to ask for this. Open the app's first page and join the class again."
        )


_told: Callable[[], Asker | None] = lambda: None  # noqa: E731  replaced by told_by
_acting: ContextVar[Asker | None] = ContextVar("acting", default=None)


def told_by(source: Callable[[], Asker | None]) -> None:
    """Register the function that names the person for threads without one of their own.

    Args:
        source: returns the person, or ``None`` if it does not know either.
    """
    global _told
    _told = source


def asker() -> Asker | None:
    """Return the person this thread acts for; ``None`` without a class.

    Raises:
        NobodyAsks: there is a class, and the person is unknown.
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
    """Make this thread act for ``who`` until the block is left."""
    token = _acting.set(who)
    try:
        yield
    finally:
        _acting.reset(token)


def carried(function: Callable[Arguments, Answer]) -> Callable[Arguments, Answer]:
    """Return the function, bound to the person of this thread: it acts for them in whichever thread calls it.

    Raises:
        NobodyAsks: there is a class, and the person is unknown.
    """
    who = asker()

    @wraps(function)
    def acting(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Answer:
        with acting_for(who):
            return function(*args, **kwargs)

    return acting


def in_person(function: Callable[Arguments, Answer]) -> Callable[Arguments, Answer]:
    """Mark a question whose answer depends on who asks.

    A worker process answers it on behalf of that person, and the answer is not reused for anybody else.
    """
    function.in_person = True  # type: ignore[attr-defined]
    return function


def is_in_person(function: Callable[..., object]) -> bool:
    """Return whether :func:`in_person` marked the question."""
    return bool(getattr(function, "in_person", False))


def answered_for(
    who: Asker | None, function: Callable[..., Answer], args: tuple[object, ...], **kwargs: object
) -> Answer:
    """Return the answer of ``function``, called on behalf of ``who``. Called in the worker process."""
    with acting_for(who):
        return function(*args, **kwargs)


# ----------------------------------------
# Which folders of the server a class may name as models: those below ``PEFT_LAB_CLASS_MODELS``, and no other.
#
# The variable holds folders, separated as in ``PATH``; ``serve --class --models DIR`` sets it. Without a class any
# folder may be named.


MODELS_VARIABLE = "PEFT_LAB_CLASS_MODELS"


def folder_allowed() -> tuple[Path, ...]:
    """Return the folders with models that the teacher allowed, with links resolved."""
    named = os.environ.get(MODELS_VARIABLE, "").split(os.pathsep)
    return tuple(disk.at_home(folder).resolve() for folder in named if folder)


def hidden_folder(name: str) -> bool:
    """Return whether this path may not be named in this class, with links resolved. False without a class."""
    if not class_is_on():
        return False
    with suppress(OSError, ValueError, RuntimeError):  # text that is no path; a circle of links
        place = Path(name).resolve()
        return not any(place.is_relative_to(folder) for folder in folder_allowed())
    return True
