"""Where things lie that belong to somebody: THE one place that decides who reaches what.

``PEFT_LAB_HOME``: weights, data, what was measured of this machine: everybody's.
``PEFT_LAB_HOME/class/<owner>``: one learner's runs, uploads, comparisons and practice files. Everything that reads or
writes any of them begins with :func:`mine`, so another's is not refused but cannot be named. Without a class, and for
who works on the machine itself, that is ``PEFT_LAB_HOME``.
"""

from __future__ import annotations

import re
from pathlib import Path

from peft_lab.core.asking import OPERATOR, Asker, asker
from peft_lab.core.errors import BadInput, PeftLabError
from peft_lab.models.assets import store as assets

FOLDER = "class"
_OWNER = re.compile(r"[0-9a-f]{32}")


class NotATeacher(PeftLabError):
    """Something that only the teacher may do."""

    def __init__(self) -> None:
        super().__init__("Only the teacher of this class can do that.")


def shared() -> Path:
    """What belongs to everybody, and what a single user has."""
    return assets.home()


def mine() -> Path:
    """Where everything lies that belongs to who asks.

    Raises:
        NobodyAsks: in a class, when it is not known who asks.
    """
    who = asker()
    return shared() if who is None else of(who.owner)


def of(owner: str) -> Path:
    """The folder of one owner. Raises BadInput for what is no owner's name."""
    if owner == OPERATOR:
        return shared()
    if not _OWNER.fullmatch(owner):
        raise BadInput("This is no learner's name.")
    return shared() / FOLDER / owner


def owners() -> list[str]:
    """Everybody who has joined, in no order that means anything."""
    folder = shared() / FOLDER
    if not folder.is_dir():
        return []
    return sorted(path.name for path in folder.iterdir() if _OWNER.fullmatch(path.name) and path.is_dir())


def everyones() -> list[Path]:
    """The folder of the machine's own user and those of all who joined: for the queue, which trains for all."""
    return [shared(), *(of(owner) for owner in owners())]


def asker_of(path: Path) -> Asker:
    """Whose file or folder this is, so that a thread which works on it can act for them."""
    below = shared() / FOLDER
    owner = path.relative_to(below).parts[:1] if path.is_relative_to(below) else ()
    return Asker(owner[0] if owner and _OWNER.fullmatch(owner[0]) else OPERATOR)


def require_mine(path: Path | str) -> None:
    """Let a file pass that lies in the folder of who asks; without a class any.

    Raises:
        BadInput: it lies elsewhere.
    """
    who = asker()
    if who is None or who.owner == OPERATOR:
        return
    if not Path(path).resolve().is_relative_to(mine().resolve()):
        raise BadInput("In a class only a file that you uploaded yourself can be used.", "own_data")


def require_teacher() -> None:
    """Raises NotATeacher when who asks is none, or there is no class."""
    who = asker()
    if who is None or not who.teacher:
        raise NotATeacher
