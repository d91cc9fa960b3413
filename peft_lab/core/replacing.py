"""Temporary replacements of library functions: each has a name, a reason and a tripwire.

A replacement depends on how a library works inside, so any release of the library can break it or make it needless.
``tests/core/test_replacing.py`` has a tripwire for each: it fails when the library no longer has the function, no
longer calls it, or no longer needs the replacement. ``requirements.txt`` allows later releases of a major version;
the tripwires run with those of ``constraints.txt``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from peft_lab.core.errors import PeftLabError


@dataclass(frozen=True)
class Replacement:
    """One function of a library that :meth:`by` replaces.

    Attributes:
        name: its name in this package; the tripwire has the same.
        module: the module in which callers look the function up, such as ``torch.nn.functional``.
        attribute: its name there, with the class for a method: ``FrodLayer._calculate_frod_u_and_lambda``.
        reason: why the library's own function does not do.
    """

    name: str
    module: str
    attribute: str
    reason: str

    def original(self) -> Callable[..., Any]:
        """Return the library's function, or its replacement while one is in place.

        Raises:
            PeftLabError: the installed release has no such function.
        """
        owner, last = self._place()
        return getattr(owner, last)

    @contextmanager
    def by(self, stand_in: Callable[..., Any]) -> Iterator[None]:
        """Replace the library's function with ``stand_in`` until the block is left, for all threads of this process.

        Raises:
            PeftLabError: the installed release has no such function.
        """
        owner, last = self._place()
        before = getattr(owner, last)
        setattr(owner, last, stand_in)
        try:
            yield
        finally:
            setattr(owner, last, before)

    def _place(self) -> tuple[Any, str]:
        """Return the module or class that defines the function, and the function's name in it.

        Restoring it there leaves no trace.

        Raises:
            PeftLabError: the installed release has no such function.
        """
        try:
            owner: Any = import_module(self.module)
            *path, last = self.attribute.split(".")
            for part in path:
                owner = getattr(owner, part)
            vars(owner)[last]
        except (ImportError, AttributeError, KeyError):
            raise PeftLabError(
                f"PEFT Lab replaces {self.module}.{self.attribute}, which the installed release of "
                f"{self.module.partition('.')[0]} does not have: constraints.txt lists the releases that work."
            ) from None
        return owner, last
