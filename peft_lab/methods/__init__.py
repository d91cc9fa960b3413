"""The registry. A module in this package that defines ``METHOD`` is a method; nothing else has to list it."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

from peft_lab.errors import UnknownName
from peft_lab.methods.base import MethodSpec

_HELPERS = frozenset({"base", "knobs"})


@cache
def all_methods() -> dict[str, MethodSpec]:
    """Every method by slug, in teaching order. A broken method file fails here, loudly and by name."""
    found = []
    for info in pkgutil.iter_modules(__path__):
        if info.name in _HELPERS or info.name.startswith("_"):
            continue
        module = importlib.import_module(f"{__name__}.{info.name}")
        method = getattr(module, "METHOD", None)
        if not isinstance(method, MethodSpec):
            raise TypeError(f"peft_lab/methods/{info.name}.py defines no METHOD")
        found.append(method)
    found.sort(key=lambda method: (method.order, method.slug))
    return {method.slug: method for method in found}


def get_method(slug: str) -> MethodSpec:
    """A method by its slug.

    Raises:
        UnknownName: with the nearest slug.
    """
    try:
        return all_methods()[slug]
    except KeyError:
        raise UnknownName("method", slug, all_methods(), "method") from None
