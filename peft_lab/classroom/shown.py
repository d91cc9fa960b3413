"""The page, with its settings, that the teacher shows to the whole class at the moment."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from peft_lab.classroom import places
from peft_lab.core import asking, disk
from peft_lab.core.errors import PeftLabError, UnreadableFile

LONGEST = 20_000  # characters


@dataclass(frozen=True)
class Shown:
    """A page that is shown to the class.

    Attributes:
        page: its name. settings: the parameters of its address. at: when it was shown, in seconds since 1970.
    """

    page: str
    settings: Mapping[str, str] = field(default_factory=dict)
    at: float = 0.0


def _file() -> Path:
    return places.shared() / places.FOLDER / "shown.json"


def show(page: str, settings: Mapping[str, str]) -> None:
    """Show a page to the whole class, in place of the one shown before.

    Raises:
        NotATeacher: only a teacher may do this.
        PeftLabError: the settings are too long, or the file cannot be written.
    """
    places.require_teacher()
    text = json.dumps(asdict(Shown(page, dict(settings), time.time())))
    if len(text) > LONGEST:
        raise PeftLabError("This page's settings are too long to be shown to a class.")
    try:
        with disk.replacing(_file()) as scratch:
            scratch.write_text(text, "utf-8")
    except OSError as error:
        raise PeftLabError(f"It cannot be shown: {error.strerror or error}.") from error


def take_back() -> None:
    """Stop showing a page.

    Raises:
        NotATeacher: only a teacher may do this.
        PeftLabError: the file cannot be removed, so the page is still shown.
    """
    places.require_teacher()
    try:
        _file().unlink(missing_ok=True)
    except OSError as error:
        raise PeftLabError(
            f"It cannot be taken back and is still shown: {error.strerror or error}."
        ) from error


def shown() -> Shown | None:
    """Return the page shown to the class; ``None`` without one, without a class, or if the file is damaged."""
    if not asking.class_is_on():
        return None
    try:
        said = disk.read_json(_file())
        settings = {str(name): str(value) for name, value in said["settings"].items()}
        return Shown(str(said["page"]), settings, float(said["at"]))
    except (UnreadableFile, ValueError, KeyError, TypeError, AttributeError):
        return None
