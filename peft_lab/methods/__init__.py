"""The method registry. A folder here whose ``spec`` defines ``METHOD`` is a method; nothing else has to list it.

    methods/<slug>/spec.py          METHOD: formula, checks, how it is applied
                   about.yaml       title, paper, knobs, learning rates
                   recording.py     RunRecorder: what a run notes for the method's own picture
    studies/experiments/<slug>.yaml its "Try it"
    interview/content/<kind>/<slug>.yaml  its questions, claims and discoveries, with calculations and checks by name

All but the spec are optional.
"""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
from functools import cache
from types import ModuleType

from peft_lab.core.errors import named
from peft_lab.methods.base import MethodSpec

_SHARED = frozenset({"shared", "counting", "recording"})


@cache
def all_methods() -> dict[str, MethodSpec]:
    """Return every method by slug, in teaching order. Raises TypeError naming a spec that defines no METHOD."""
    found = []
    for slug in folders():
        method = getattr(importlib.import_module(f"{__name__}.{slug}.spec"), "METHOD", None)
        if not isinstance(method, MethodSpec):
            raise TypeError(f"peft_lab/methods/{slug}/spec.py defines no METHOD")
        found.append(method)
    found.sort(key=lambda method: (method.order, method.slug))
    return {method.slug: method for method in found}


def folders() -> tuple[str, ...]:
    """Return the names of the methods' folders, without importing any of them."""
    return tuple(
        info.name for info in pkgutil.iter_modules(__path__) if info.ispkg and info.name not in _SHARED
    )


def module_of(package: str, name: str) -> ModuleType | None:
    """Import a module of a package by name, usually a method's slug; return ``None`` if it does not exist."""
    name = f"{package}.{name}"
    return None if importlib.util.find_spec(name) is None else importlib.import_module(name)


def get_method(slug: str) -> MethodSpec:
    """Return a method by its slug.

    Raises:
        UnknownName: there is none; the message suggests the nearest slug.

    >>> get_method("lora").title
    'LoRA'
    >>> get_method("lroa")
    Traceback (most recent call last):
    peft_lab.core.errors.UnknownName: There is no method called 'lroa'. Did you mean 'lora'?
    """
    return named("method", slug, all_methods(), "method")
