"""Which folders of the server a class may name as models: those below ``PEFT_LAB_CLASS_MODELS``, and no other.

The variable holds folders, separated as in ``PATH``; ``serve --class --models DIR`` sets it. Without a class any folder
may be named.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from peft_lab import disk
from peft_lab.classroom import mode

VARIABLE = "PEFT_LAB_CLASS_MODELS"


def allowed() -> tuple[Path, ...]:
    """The folders that the teacher allowed, without links in them."""
    named = os.environ.get(VARIABLE, "").split(os.pathsep)
    return tuple(disk.at_home(folder).resolve() for folder in named if folder)


def hidden(name: str) -> bool:
    """Whether this is a place on the server that nobody in this class may name, links followed."""
    if not mode.on():
        return False
    with suppress(OSError, ValueError, RuntimeError):  # text that is no path; a circle of links
        place = Path(name).resolve()
        return not any(place.is_relative_to(folder) for folder in allowed())
    return True
