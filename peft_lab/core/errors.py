"""The one exception hierarchy.

Pages and the command line catch :class:`PeftLabError` only and show its message, which is one sentence in the
learner's terms. Anything else that escapes is a bug and is meant to look like one.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

_NAME = 80  # characters of a name that is not known; a model's folder may have as many


def in_short(error: BaseException, most: int = 300) -> str:
    """Return the message of another library's error in one line of at most ``most`` characters, or its type."""
    return " ".join(str(error).split())[:most] or type(error).__name__


def echoed(text: object, most: int = 60) -> str:
    """Return input as a message repeats it: at most ``most`` characters, with ``…`` in place of the rest.

    >>> echoed("q_proj"), echoed("x" * 5000, 8)
    ('q_proj', 'xxxxxxx…')
    """
    said = str(text)
    return said if len(said) <= most else f"{said[: most - 1]}…"


class PeftLabError(Exception):
    """Base of every error this package raises on purpose. Pickling keeps its message and its fields."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.args, self.__dict__)


def _rebuild(kind: type[PeftLabError], args: tuple[Any, ...], fields: dict[str, Any]) -> PeftLabError:
    """Rebuild a pickled error without its constructor.

    A subclass's constructor may take arguments other than the message.
    """
    error = kind.__new__(kind)
    error.args = args
    error.__dict__.update(fields)
    return error


class BadInput(PeftLabError):
    """A choice that cannot work.

    ``field`` names the control or option beside which to show the message, if any; ``nearest`` is the nearest value
    that works there, if that is known.
    """

    nearest: Any = None

    def __init__(self, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field


class UnknownName(BadInput):
    """A name that is not registered. The message suggests the nearest known name, or lists all."""

    def __init__(self, what: str, name: str, known: Iterable[str], field: str | None = None) -> None:
        known = list(known)
        name = echoed(name, _NAME)
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
        hint = f" Did you mean '{near[0]}'?" if near else f" Known: {', '.join(known)}." if known else ""
        super().__init__(f"There is no {what} called '{name}'.{hint}", field)


class Unsupported(BadInput):
    """A method that cannot run on this kind of model. The message is the method's reason."""


class AssetError(PeftLabError):
    """Weights or data that are missing, could not be fetched, or failed verification."""


class UnreadableFile(PeftLabError):
    """A JSON file that is missing, too large or invalid. The message names the file and the reason."""


class RunError(PeftLabError):
    """A training run that could not start, failed or was lost."""


class SimulationError(PeftLabError):
    """A step that could not be simulated. The message is the reason."""
