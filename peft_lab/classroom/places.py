"""Find the folders of users, and store the page that the teacher shows. This module alone decides who can reach what.

``PEFT_LAB_HOME`` holds what everybody shares: weights, data, and measurements of this machine.
``PEFT_LAB_HOME/class/<owner>`` holds one learner's runs, uploads, comparisons and practice files. All code that reads
or writes any of them starts from :func:`mine`, so it cannot even name another learner's folder. Without a class, and
for the user of the machine itself, :func:`mine` is ``PEFT_LAB_HOME``.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from peft_lab.core import asking, disk
from peft_lab.core.asking import OPERATOR, Asker, asker
from peft_lab.core.errors import BadInput, PeftLabError, UnreadableFile

FOLDER = "class"
_OWNER = re.compile(r"[0-9a-f]{32}")


class NotATeacher(PeftLabError):
    """An action reserved for the teacher."""

    def __init__(self) -> None:
        super().__init__("Only the teacher can do this.")


def shared() -> Path:
    """Return the folder that everybody shares, which is also the folder of a single user."""
    return disk.home()


def mine() -> Path:
    """Return the folder of the person this thread acts for. Raises NobodyAsks: there is a class, and the person is
    unknown."""
    who = asker()
    return shared() if who is None else of(who.owner)


def of(owner: str) -> Path:
    """Return the folder of one owner. Raises BadInput: the text is no owner's name."""
    if owner == OPERATOR:
        return shared()
    if not _OWNER.fullmatch(owner):
        raise BadInput("There is no such learner.")
    return shared() / FOLDER / owner


def owners() -> list[str]:
    """Return the names of all who have joined, sorted; they are random, so the order has no meaning."""
    folder = shared() / FOLDER
    if not folder.is_dir():
        return []
    return sorted(path.name for path in folder.iterdir() if _OWNER.fullmatch(path.name) and path.is_dir())


def everyones() -> list[Path]:
    """Return the folders of the machine's own user and of all who joined. The queue trains for all of them."""
    return [shared(), *(of(owner) for owner in owners())]


def asker_of(path: Path) -> Asker:
    """Return the person who owns a file or folder, so that a thread can act for them.

    Files outside the class folder belong to the user of the machine.
    """
    below = shared() / FOLDER
    owner = path.relative_to(below).parts[:1] if path.is_relative_to(below) else ()
    return Asker(owner[0] if owner and _OWNER.fullmatch(owner[0]) else OPERATOR)


def require_mine(path: Path | str) -> None:
    """Check that a file lies in the folder of the person this thread acts for. Without a class any file passes. Raises
    BadInput: the file lies elsewhere."""
    who = asker()
    if who is None or who.owner == OPERATOR:
        return
    if not Path(path).resolve().is_relative_to(mine().resolve()):
        raise BadInput("This file is not yours. In a class, use a file that you uploaded.", "own_data")


def require_teacher() -> None:
    """Check that this thread acts for a teacher. Raises NotATeacher: it does not, or there is no class."""
    who = asker()
    if who is None or not who.teacher:
        raise NotATeacher


LONGEST_PAGE = 20_000  # characters


@dataclass(frozen=True)
class ShownPage:
    """A page that is shown to the class.

    Attributes:
        page: its name. settings: the parameters of its address. at: when it was shown, in seconds since 1970.
    """

    page: str
    settings: Mapping[str, str] = field(default_factory=dict)
    at: float = 0.0


def _file() -> Path:
    return shared() / FOLDER / "shown.json"


def show_page(page: str, settings: Mapping[str, str]) -> None:
    """Show a page to the whole class, in place of the one shown before. Raises NotATeacher: only a teacher may do this.
    PeftLabError: the settings are too long, or the file cannot be written."""
    require_teacher()
    text = json.dumps(asdict(ShownPage(page, dict(settings), time.time())))
    if len(text) > LONGEST_PAGE:
        raise PeftLabError("This page has too many settings to show to a class. Change fewer of them.")
    try:
        with disk.replacing(_file()) as scratch:
            scratch.write_text(text, "utf-8")
    except OSError as error:
        raise PeftLabError(f"The page cannot be shown to the class: {error.strerror or error}.") from error


def take_back_page() -> None:
    """Stop showing a page. Raises NotATeacher: only a teacher may do this. PeftLabError: the file cannot be removed, so
    the page is still shown."""
    require_teacher()
    try:
        _file().unlink(missing_ok=True)
    except OSError as error:
        raise PeftLabError(
            f"The page is still shown to the class, as it cannot be removed: {error.strerror or error}."
        ) from error


def shown_version() -> str:
    """Return a text that changes with each page that is shown or taken back; "0" without one. Reads no content."""
    try:
        found = _file().stat()
    except OSError:
        return "0"
    return f"{found.st_ino}.{found.st_mtime_ns}"


def shown_page() -> ShownPage | None:
    """Return the page shown to the class; ``None`` without one, without a class, or if the file is damaged."""
    if not asking.class_is_on():
        return None
    try:
        said = disk.read_json(_file())
        settings = {str(name): str(value) for name, value in said["settings"].items()}
        return ShownPage(str(said["page"]), settings, float(said["at"]))
    except (UnreadableFile, ValueError, KeyError, TypeError, AttributeError):
        return None
