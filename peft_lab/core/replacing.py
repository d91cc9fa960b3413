"""Functions of libraries that are replaced for a while: each has a name, a reason and a tripwire.

A replacement leans on how a library works inside, so it can go wrong, or come to be needless, with any release of it.
``tests/core/test_replacing.py`` has a tripwire for every one: it fails when the library no longer has the function, no
longer calls it, or no longer needs the replacement. ``requirements.txt`` allows later releases of a major version;
``make ends`` runs the tripwires with the newest that it allows, and with the oldest.
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
    """One function of a library, to be replaced with :meth:`by`.

    Attributes:
        name: what it is called here; each has a tripwire of that name.
        module: where the function is looked up when it is called, ``torch.nn.functional``.
        attribute: its name there, with the class if it is a method: ``FrodLayer._calculate_frod_u_and_lambda``.
        reason: why the library's own does not serve.
    """

    name: str
    module: str
    attribute: str
    reason: str

    def original(self) -> Callable[..., Any]:
        """The library's own function, or what stands in its place at the moment.

        Raises:
            PeftLabError: the installed release has none.
        """
        owner, last = self._place()
        return getattr(owner, last)

    @contextmanager
    def by(self, stand_in: Callable[..., Any]) -> Iterator[None]:
        """``stand_in`` instead of the library's own, for every thread of this process, until the block is left.

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
        """The module or class itself that holds the function, so that putting it back leaves nothing behind."""
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
