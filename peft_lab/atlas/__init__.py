"""Declare every PEFT type briefly; everything else about it is derived from that, as for the methods.

To add a type, add an entry to ``content/<family>.yaml``. It then appears on the page, on the command line and in the
tests.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from peft_lab.atlas.base import (
    CONTENT,
    EACH,
    FAMILIES,
    OF_MODEL,
    ONCE,
    AtlasType,
    Each,
    Fields,
    OfModel,
    Once,
)
from peft_lab.core.content import Converter, by_name, read_entries
from peft_lab.core.errors import UnknownName

__all__ = ["FAMILIES", "AtlasType", "all_types", "entries", "get_entry", "lineage", "variants"]

VARIANTS = "variants"


def _lists(value: Any) -> Any:
    """Return a value with lists in place of tuples, which content has for both."""
    if isinstance(value, Mapping):
        return {name: _lists(inner) for name, inner in value.items()}
    return [_lists(inner) for inner in value] if isinstance(value, tuple) else value


_CONVERTERS: dict[Any, Converter] = {
    Each: by_name(EACH), Once: by_name(ONCE), OfModel: by_name(OF_MODEL), Fields: _lists,
}  # fmt: skip


@cache
def entries() -> dict[str, AtlasType]:
    """Return types and variants by name: all types family by family, then all variants. Raises ContentError: a file has
    a mistake."""
    return {
        entry.name: entry
        for name in (*FAMILIES, VARIANTS)
        for entry in read_entries(CONTENT / f"{name}.yaml", AtlasType, _CONVERTERS)
    }


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
    below: dict[str, list[AtlasType]] = {}
    for entry in entries().values():
        below.setdefault(get_entry(entry.parent).name if entry.parent else "", []).append(entry)
    return {name: tuple(children) for name, children in below.items()}


def get_entry(name: str) -> AtlasType:
    """Return a type or variant by name, ignoring case. Raises UnknownName: there is none; the message suggests the
    nearest."""
    known = entries()
    plain = name.strip().lower()
    if plain not in known:
        raise UnknownName("type in the atlas", name, known, "type")
    return known[plain]
