"""Know the person on whose behalf a thread or a worker process acts, and the limits of one learner of a class.

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
from dataclasses import dataclass, field, fields, replace
from functools import wraps
from pathlib import Path
from typing import ParamSpec, TypeVar

from peft_lab.core import disk, units
from peft_lab.core.errors import BadInput, PeftLabError

# ----------------------------------------
# Whether this is a class: the environment variable ``PEFT_LAB_CLASS`` holds the code by which learners join.


CLASS_VARIABLE = "PEFT_LAB_CLASS"
#: "1" where the teacher lets learners run the programs that they write.
PROGRAMS_VARIABLE = "PEFT_LAB_CLASS_PROGRAMS"
SHORTEST = 6  # characters of a code


def class_is_on() -> bool:
    """Return whether this process serves a class, or is a worker of one that does."""
    return bool(os.environ.get(CLASS_VARIABLE))


def programs_are_run() -> bool:
    """Return whether programs that people write are run: always without a class, in one if its teacher says so."""
    return not class_is_on() or os.environ.get(PROGRAMS_VARIABLE) == "1"


def here() -> str:
    """Return what to call the machine that holds the data: for a learner it is not the one they sit at."""
    return "your class's server" if class_is_on() else "this machine"


def join_code() -> str:
    """Return the code by which learners join. Raises BadInput: it is too short to keep anybody out."""
    code = os.environ.get(CLASS_VARIABLE, "").strip()
    if len(code) < SHORTEST:
        raise BadInput(
            f"{CLASS_VARIABLE}, the code with which learners join, needs at least {SHORTEST} characters."
        )
    return code


Arguments = ParamSpec("Arguments")
Answer = TypeVar("Answer")
#: The owner of data in the lab folder itself: the user of the machine.
OPERATOR = ""


@dataclass(frozen=True)
class Asker:
    """One person in a class: ``owner``, a random name that is also their folder's (:data:`OPERATOR` for the user of the
    machine itself), whether they came as a ``teacher``, and when they signed in at their provider (``login``,
    seconds since 1970; 0 with a code)."""

    owner: str
    teacher: bool = False
    login: int = field(default=0, compare=False)


class NobodyAsks(PeftLabError):
    """A thread touched data of a class without acting for anybody."""

    def __init__(self) -> None:
        super().__init__(
            "Your class membership is unknown. Open the app's first page and join the class again."
        )


_told: Callable[[], Asker | None] = lambda: None  # noqa: E731  replaced by told_by
_acting: ContextVar[Asker | None] = ContextVar("acting", default=None)


def told_by(source: Callable[[], Asker | None]) -> None:
    """Register the function that names the person for threads without one of their own; it may return ``None``, too."""
    global _told
    _told = source


def asker() -> Asker | None:
    """Return the person this thread acts for; ``None`` without a class. Raises NobodyAsks: in a class, an unknown
    person."""
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
    """Return the function, acting for this thread's person anywhere. Raises NobodyAsks as :func:`asker`."""
    who = asker()

    @wraps(function)
    def acting(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Answer:
        with acting_for(who):
            return function(*args, **kwargs)

    return acting


def in_person(function: Callable[Arguments, Answer]) -> Callable[Arguments, Answer]:
    """Mark a question whose answer depends on who asks: a worker answers on their behalf and for nobody else."""
    function.in_person = True  # type: ignore[attr-defined]
    return function


def answered_for(who: Asker | None, function: Callable[..., Answer], args: tuple[object, ...]) -> Answer:
    """Return the answer of ``function``, called on behalf of ``who``. Called in the worker process."""
    with acting_for(who):
        return function(*args)


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


LIMITS_VARIABLE = "PEFT_LAB_CLASS_LIMITS"


@dataclass(frozen=True)
class Limits:
    """Limits for each learner of a class: ``runs`` that have not ended, ``steps`` of one, ``minutes`` of training
    within a day, ``megabytes`` of runs and uploads on disk; the number of ``learners``, and the age in ``days`` at
    which ended runs, uploads and absent learners are removed."""

    runs: int = 6
    steps: int = 500
    minutes: int = 60
    megabytes: int = 1000
    upload_megabytes: int = 20
    learners: int = 60
    days: int = 60

    @property
    def people(self) -> str:
        """Return how many learners may join, with the noun."""
        return units.several(self.learners, "learner")

    def in_words(self) -> str:
        """Return the limits of a learner as the end of a sentence."""
        runs = "1 run that has" if self.runs == 1 else f"{self.runs} runs that have"
        return (
            f"{runs} not ended, each of at most {self.steps:,} steps, {self.minutes:,} minutes of training per day, "
            f"{self.megabytes:,} MB of runs and {self.upload_megabytes:,} MB of uploads"
        )


def limits() -> Limits:
    """Return the limits of this class. Raises BadInput: the variable holds other than whole numbers above 0."""
    found = Limits()
    known = {each.name for each in fields(Limits)}
    for part in filter(None, (each.strip() for each in os.environ.get(LIMITS_VARIABLE, "").split(","))):
        name, _, value = (each.strip() for each in part.partition("="))
        if name not in known or not value.isascii() or not value.isdigit() or int(value) < 1:
            raise BadInput(
                f"{LIMITS_VARIABLE} contains '{part[:60]}'; it needs whole numbers above 0 for "
                f"{', '.join(sorted(known))}."
            )
        found = replace(found, **{name: int(value)})
    return found


def limits_of_asker() -> Limits | None:
    """Return the limits of this thread's person; ``None`` without a class, for its teacher and the machine's user."""
    who = asker()
    return None if who is None or who.teacher or who.owner == OPERATOR else limits()
