"""The training code as an exported file holds it: the very functions that the run was made with, printed."""

from __future__ import annotations

import inspect
import re
from types import ModuleType
from typing import Any

#: A reference in a docstring to where something stands in this package, which an exported file is without.
_ROLE = re.compile(r":(?:func|class|mod|meth|data):`~?(?:[\w.]+\.)?(\w+)`")
#: What annotations name of the library that reads texts; in a file of its own any tokenizer will do.
_ELSEWHERE = {"PreTrainedTokenizerBase": "Any", "Follow": "Any", "AbstractContextManager[Phase]": "Any"}


def printed(*parts: Any) -> str:
    """The source of functions and classes, one after another."""
    return "\n\n".join(_plain(inspect.getsource(part)) for part in parts)


def constants(module: ModuleType, *names: str) -> str:
    """``NAME = value`` for constants of a module."""
    return "".join(f"{name} = {getattr(module, name)!r}\n" for name in names)


def _plain(source: str) -> str:
    for name, other in _ELSEWHERE.items():
        source = source.replace(name, other)
    return _ROLE.sub(r"``\1``", source)
