"""Define the one exception hierarchy, and temporary replacements of library functions, with reasons and tripwires.

Pages and the command line catch :class:`PeftLabError` only and show its message, which is one sentence in the
learner's terms. Anything else that escapes is a bug and is meant to look like one.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from types import MappingProxyType
from typing import Any, Self, TypeVar

T = TypeVar("T")

_NAME = 80  # characters of a name that is not known; a model's folder may have as many
_LISTED = 12  # known names in a message


def in_short(error: BaseException, most: int = 300) -> str:
    """Return the message of another library's error in one line of at most ``most`` characters, or its type."""
    return " ".join(str(error).split())[:most] or type(error).__name__


def echoed(text: object, most: int = 60) -> str:
    """Return input as a message repeats it: at most ``most`` characters, with ``…`` in place of the rest."""
    said = str(text)
    return said if len(said) <= most else f"{said[: most - 1]}…"


class PeftLabError(Exception):
    """Base of every error this package raises on purpose. Pickling keeps its message and its fields. ``works``:
    settings with which the same would work, by name, as far as they are known."""

    works: Mapping[str, float] = MappingProxyType({})

    def with_works(self, **works: float) -> Self:
        """Return this error with the settings that would work."""
        self.works = works
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.args, self.__dict__)


def _rebuild(kind: type[PeftLabError], args: tuple[Any, ...], fields: dict[str, Any]) -> PeftLabError:
    """Rebuild a pickled error without its constructor, which may take other arguments than the message."""
    error = kind.__new__(kind)
    error.args = args
    error.__dict__.update(fields)
    return error


class BadInput(PeftLabError):
    """A choice that cannot work. ``field`` names the control or option beside which to show the message; ``nearest`` is
    the nearest value that works there, if that is known."""

    nearest: Any = None

    def __init__(self, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field


class UnknownName(BadInput):
    """A name that is not registered. The message suggests the nearest known name, or lists those that contain it, or
    all; :data:`_LISTED` at most. ``other`` says what else than a name is taken.
    """

    def __init__(
        self, what: str, name: str, known: Iterable[str], field: str | None = None, *, other: str = ""
    ) -> None:
        known = list(known)
        name = echoed(name, _NAME)
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
        listed = [one for one in known if name.lower() in one.lower()] or known
        more = f" and {len(listed) - _LISTED:,} more" if len(listed) > _LISTED else ""
        rest = f", or {other}" if other else ""
        all_ = f" Known: {', '.join(listed[:_LISTED])}{more}{rest}." if known else ""
        hint = f" Did you mean '{near[0]}'?" if near else all_
        super().__init__(f"There is no {what} called '{name}'.{hint}", field)


def named(what: str, name: str, known: Mapping[str, T], field: str | None = None) -> T:
    """Return what is known by a name. Raises :class:`UnknownName`."""
    if name not in known:
        raise UnknownName(what, name, known, field)
    return known[name]


class Unsupported(BadInput):
    """A method that cannot run on this kind of model. The message is the method's reason."""


class AssetError(PeftLabError):
    """Weights or data that are missing, could not be fetched, or failed verification."""

    def __init__(self, message: str, asset: str = "") -> None:
        super().__init__(message)
        self.asset = asset


class UnreadableFile(PeftLabError):
    """A JSON file that is missing, too large or invalid. The message names the file and the reason."""


class RunError(PeftLabError):
    """A training run that could not start, failed or was lost."""


class SimulationError(PeftLabError):
    """A step that could not be simulated. The message is the reason."""


# A replacement depends on how a library works inside, so any release of the library can break it or make it needless.
# ``tests/core/test_replacing.py`` has a tripwire for each: it fails when the library no longer has the function, no
# longer calls it, or no longer needs the replacement. ``requirements.txt`` allows later releases of a major version;
# the tripwires run with those of ``constraints.txt``.


@dataclass(frozen=True)
class Replacement:
    """One function of a library that :meth:`by` replaces: ``attribute`` (with the class for a method) of the ``module``
    in which callers look it up, by its ``name`` in this package, which its tripwire has too; ``reason``: why the
    library's own does not do."""

    name: str
    module: str
    attribute: str
    reason: str

    def original(self) -> Callable[..., Any]:
        """Return the library's function, or its replacement. Raises PeftLabError: the installed release has none."""
        owner, last = self._place()
        return getattr(owner, last)

    @contextmanager
    def by(self, stand_in: Callable[..., Any]) -> Iterator[None]:
        """Replace the library's function until the block is left, for all threads. Raises PeftLabError without one."""
        owner, last = self._place()
        before = getattr(owner, last)
        setattr(owner, last, stand_in)
        try:
            yield
        finally:
            setattr(owner, last, before)

    def _place(self) -> tuple[Any, str]:
        """Return the module or class that defines the function, so that restoring it leaves no trace, and its name
        there. Raises PeftLabError: the installed release has no such function."""
        try:
            owner: Any = import_module(self.module)
            *path, last = self.attribute.split(".")
            for part in path:
                owner = getattr(owner, part)
            vars(owner)[last]
        except (ImportError, AttributeError, KeyError):
            raise PeftLabError(
                f"PEFT Lab replaces {self.module}.{self.attribute}, which the installed release of "
                f"{self.module.partition('.')[0]} does not have. constraints.txt lists the releases that work."
            ) from None
        return owner, last
