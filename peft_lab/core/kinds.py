"""Check values read from JSON against Python types: a file may have been cut short or edited."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from peft_lab.core.errors import BadInput

_PLAIN = (str, int, bool, dict, list, NoneType)


def fits(kind: Any, value: Any) -> bool:
    """Return whether a value is of a type.

    A whole number is a float too, a truth value is no number, and a float is finite; a list may stand for a tuple.
    Of a dataclass it has to be an object.

    >>> fits(dict[str, float | None], {"loss": None, "rows": 3}), fits(list[int], [1, True])
    (True, False)
    """
    if kind is float:
        return type(value) is int or (type(value) is float and math.isfinite(value))
    if kind in _PLAIN:
        return type(value) is kind
    if kind is Any:
        return True
    if is_dataclass(kind):
        return type(value) is kind
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return any(fits(each, value) for each in inner)
    if origin is Literal:
        return type(value) is str and value in inner
    if issubclass(origin, Mapping):
        return isinstance(value, Mapping) and all(
            fits(inner[0], key) and fits(inner[1], each) for key, each in value.items()
        )
    return isinstance(value, list | tuple) and all(fits(inner[0], each) for each in value)


def misfit(kinds: Mapping[str, Any], data: Mapping[str, Any]) -> str:
    """Return the name of the first field whose value is not of its type, or an empty string.

    Missing fields count as None; unknown fields are ignored.
    """
    return next((name for name, kind in kinds.items() if not fits(kind, data.get(name))), "")


def read(cls: type, data: Any, what: str) -> dict[str, Any]:
    """Return the fields of a dataclass from a JSON object, with lists as tuples.

    Args:
        what: the object as the subject of a sentence, such as ``"A sweep"``.

    Raises:
        BadInput: a field is missing, unknown or of a wrong type.
    """
    if not isinstance(data, Mapping):
        raise BadInput(f"{what} cannot be {str(data)[:40]!r}.")
    kinds = get_type_hints(cls)
    for name in data:
        if name not in kinds:
            raise BadInput(f"{what} has nothing called '{str(name)[:40]}'.", str(name))
    for item in fields(cls):
        if item.name not in data and item.default is item.default_factory is MISSING:
            raise BadInput(f"{what} needs a value for '{item.name}'.", item.name)
    wrong = misfit({name: kinds[name] for name in data}, data)
    if wrong:
        raise BadInput(f"{what}'s {wrong} cannot be {str(data[wrong])[:40]!r}.", wrong)
    return {name: tuple(value) if isinstance(value, list) else value for name, value in data.items()}
