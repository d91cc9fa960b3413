"""Read content: YAML files whose entries are checked against a dataclass, with the file and the line in each error.

A file holds a list of entries or one entry. Keys are the dataclass's fields, written with spaces, hyphens or
underscores (``listen for``). Lists fill tuples. Text fields take any scalar as it is written, without the line ends
after it. Converters make what a file cannot state itself: a calculation by its name, a citation, a fact.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, NewType, TypeVar, Union, get_args, get_origin, get_type_hints

import yaml

from peft_lab.core import references
from peft_lab.core.kinds import fits

#: The name of a constant in :mod:`peft_lab.core.references`, then the place: ``PEFT, add_weighted_adapter``.
Citation = NewType("Citation", str)
#: What a field's type is made from: the value as YAML has it, lists as tuples. Raises ValueError with a sentence.
Converter = Callable[[Any], Any]
Converters = Mapping[Any, Converter]

T = TypeVar("T")
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class ContentError(ValueError):
    """A mistake in a content file. Its text begins with the file and the line."""

    def __init__(self, path: Path, node: yaml.Node, sentence: str) -> None:
        self.path, self.line = path, node.start_mark.line + 1
        super().__init__(f"{path.parent.name}/{path.name}:{self.line}: {sentence}")


def cite(text: str) -> str:
    """Return a citation with the name at its start replaced by the reference.

    >>> cite("LORA, section 4.1")
    'Hu et al. 2021, LoRA, arXiv:2106.09685, section 4.1'

    Raises:
        ValueError: there is no such reference.
    """
    name, comma, place = text.partition(",")
    reference = getattr(references, name, None)
    if not name.isupper() or not isinstance(reference, str):
        known = [name for name in vars(references) if name.isupper()]
        raise ValueError(f"there is no reference '{name}' (core/references.py){_nearest(name, known)}")
    return f"{reference}{comma}{place}"


def by_name(known: Mapping[str, Any]) -> Converter:
    """Return a converter from a name to what it stands for. It raises ValueError, with the nearest, for other names."""

    def of(name: Any) -> Any:
        if name not in known:
            raise ValueError(f"there is no '{name}'{_nearest(str(name), known)}")
        return known[name]

    return of


def read_entries(path: Path, kind: type[T], converters: Converters | None = None) -> tuple[T, ...]:
    """Return the entries of a file, in its order.

    Args:
        kind: the dataclass of an entry.
        converters: by the type of a field, beside those of this module.

    Raises:
        ContentError: the file is no YAML list, or an entry has a missing, unknown or wrong field.
    """
    reader = _Reader(path, {Citation: cite, **(converters or {})})
    node = reader.compose()
    if not isinstance(node, yaml.SequenceNode):
        raise ContentError(path, node, "a list of entries is needed: each begins with '- '.")
    return tuple(reader.make(kind, entry, "an entry") for entry in node.value)


def read_entry(path: Path, kind: type[T], converters: Converters | None = None) -> T:
    """Return the one entry that a file is. Raises ContentError as :func:`read_entries` does."""
    reader = _Reader(path, {Citation: cite, **(converters or {})})
    made: T = reader.make(kind, reader.compose(), "the file")
    return made


class _Reader:
    """Build values of a type from the nodes of one file."""

    def __init__(self, path: Path, converters: Converters) -> None:
        self.path, self.converters = path, converters
        self.natural = yaml.constructor.SafeConstructor()

    def compose(self) -> yaml.Node:
        text = self.path.read_text(encoding="utf-8")
        try:
            node = yaml.compose(text, Loader=_LOADER)
        except yaml.MarkedYAMLError as error:
            place = yaml.ScalarNode("", "", error.problem_mark or error.context_mark)
            raise ContentError(self.path, place, f"this is no YAML: {error.problem}.") from None
        if node is None:
            raise ContentError(
                self.path, yaml.ScalarNode("", "", yaml.Mark("", 0, 0, 0, None, 0)), "it is empty."
            )
        return node

    def make(self, kind: Any, node: yaml.Node, what: str) -> Any:
        """Return a node's value as a ``kind``; ``what`` names it in errors."""
        if kind in self.converters:
            try:
                return self.converters[kind](self.value(node))
            except ValueError as error:
                if isinstance(error, ContentError):
                    raise
                raise ContentError(self.path, node, f"{what}: {error}.") from None
        if isinstance(kind, type) and is_dataclass(kind):
            return self.entry(kind, node, what)
        origin, inner = get_origin(kind), get_args(kind)
        if origin in (Union, UnionType):
            return self.union(inner, node, what)
        if origin is tuple and isinstance(node, yaml.SequenceNode) and inner[1:] in ((), (Ellipsis,)):
            return tuple(self.make(inner[0], item, what) for item in node.value)
        if origin is not None and origin not in (tuple, Literal) and issubclass(origin, Mapping):
            return {key: self.make(inner[1], item, f"{what} '{key}'") for key, item in self.pairs(node, what)}
        if kind is str and isinstance(node, yaml.ScalarNode):
            return node.value.rstrip("\n")
        value = self.value(node)
        if not fits(kind, value):
            allowed = f"one of {', '.join(inner)}" if origin is Literal else getattr(kind, "__name__", kind)
            raise ContentError(self.path, node, f"{what} cannot be {str(value)[:60]!r}; it is {allowed}.")
        return value

    def union(self, kinds: tuple[Any, ...], node: yaml.Node, what: str) -> Any:
        value = self.value(node)
        for kind in kinds:
            made = kind in self.converters or is_dataclass(kind) or get_origin(kind) not in (None, tuple)
            if kind is not NoneType and made and value is not None:
                return self.make(kind, node, what)
            if not made and fits(kind, value):
                return value
        raise ContentError(self.path, node, f"{what} cannot be {str(value)[:60]!r}.")

    def entry(self, kind: type, node: yaml.Node, what: str) -> Any:
        kinds = _hints(kind)
        needed = {item.name for item in fields(kind) if item.default is item.default_factory is MISSING}
        made = {}
        for key, item in self.pairs(node, what):
            name = key.replace(" ", "_").replace("-", "_")
            if name not in kinds:
                raise ContentError(self.path, item, f"{what} has no '{key}'{_nearest(name, kinds)}.")
            made[name] = self.make(kinds[name], item, f"'{key}'")
        if missing := sorted(needed - set(made)):
            raise ContentError(self.path, node, f"{what} needs '{missing[0].replace('_', ' ')}'.")
        try:
            return kind(**made)
        except ValueError as error:
            raise ContentError(self.path, node, f"{what}: {error}.") from None

    def pairs(self, node: yaml.Node, what: str) -> Iterator[tuple[str, yaml.Node]]:
        if not isinstance(node, yaml.MappingNode):
            raise ContentError(self.path, node, f"{what} needs fields, each as 'name: value'.")
        seen = set()
        for key, item in node.value:
            if key.value in seen:
                raise ContentError(self.path, key, f"{what} has '{key.value}' twice.")
            seen.add(key.value)
            yield key.value, item

    def value(self, node: yaml.Node) -> Any:
        """Return what YAML itself makes of a node, lists as tuples."""
        if isinstance(node, yaml.SequenceNode):
            return tuple(self.value(item) for item in node.value)
        if isinstance(node, yaml.MappingNode):
            return {key: self.value(item) for key, item in self.pairs(node, "it")}
        return self.natural.construct_object(node)


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


def _nearest(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name.replace(" ", "_"), list(known), n=1, cutoff=0.5)
    return f"; did you mean '{near[0].replace('_', ' ')}'?" if near else ""
