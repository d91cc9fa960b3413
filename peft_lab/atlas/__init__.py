"""Every PEFT type as a short declaration, from which everything else about it is derived as for the methods.

To add a type, add one ``AtlasType`` to a module of ``atlas/families``. It then appears on the page, on the
command line and in the tests.
"""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

from peft_lab.atlas import families
from peft_lab.atlas.base import FAMILIES, AtlasType
from peft_lab.core.errors import UnknownName

__all__ = ["FAMILIES", "AtlasType", "all_types", "entries", "get_entry", "lineage", "variants"]


@cache
def entries() -> dict[str, AtlasType]:
    """Return types and variants by name: all types family by family, then all variants."""
    found = [
        entry
        for module in sorted(pkgutil.iter_modules(families.__path__), key=lambda each: each.name)
        for entry in importlib.import_module(f"{families.__name__}.{module.name}").ENTRIES
    ]
    order = list(FAMILIES)
    found.sort(key=lambda entry: (bool(entry.variant), order.index(entry.family)))
    return {entry.name: entry for entry in found}


def all_types() -> dict[str, AtlasType]:
    """Return PEFT's types by name, without variants."""
    return {name: entry for name, entry in entries().items() if not entry.variant}


def variants(type_name: str) -> tuple[AtlasType, ...]:
    """Return the variants of a type, by PEFT's name for it."""
    return tuple(entry for entry in entries().values() if entry.variant and entry.type == type_name)


@cache
def lineage() -> dict[str, tuple[AtlasType, ...]]:
    """Return the children of each entry by its name, and under ``""`` the entries without a parent.

    >>> [entry.title for entry in lineage()["oft"]]
    ['BOFT', 'HRA', 'PSOFT']
    """
    found: dict[str, list[AtlasType]] = {}
    for entry in entries().values():
        found.setdefault(get_entry(entry.parent).name if entry.parent else "", []).append(entry)
    return {name: tuple(children) for name, children in found.items()}


def get_entry(name: str) -> AtlasType:
    """Return a type or variant by name, ignoring case.

    Raises:
        UnknownName: there is none; the message suggests the nearest.
    """
    known = entries()
    plain = name.strip().lower()
    if plain not in known:
        raise UnknownName("type in the atlas", name, known, "type")
    return known[plain]
