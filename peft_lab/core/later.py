"""Name torch at the top of a module without importing it there: the web server, which never computes, never loads it.

    from peft_lab.core.later import torch

Code that is copied out of the package imports torch itself.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any


class Later:
    """A module that is imported when one of its names is first used."""

    def __init__(self, module: str) -> None:
        vars(self)["_module"] = module

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # what looks a value over asks for these
            raise AttributeError(name)
        found = getattr(import_module(self._module), name)
        if isinstance(found, type) or not callable(found):  # functions may be replaced
            vars(self)[name] = found
        return found

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"{name} is to be set on {self._module} itself")


if TYPE_CHECKING:
    import torch as torch
else:
    torch = Later("torch")
