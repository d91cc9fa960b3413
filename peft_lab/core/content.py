"""Read content: YAML files whose entries are checked against a dataclass, with the file and the line in each error;
check values read from JSON against Python types.

A file holds a list of entries or one entry. Keys are the dataclass's fields, written with spaces, hyphens or
underscores (``listen for``). Lists fill tuples. Text fields take any scalar as it is written, without the line ends
after it. Converters make what a file cannot state itself: a calculation by its name, a citation, a fact. As in YAML
1.2, only ``true`` and ``false`` are truth values: ``yes`` and ``no`` are words.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, NamedTuple, NewType, TypeVar, Union, get_args, get_origin, get_type_hints

import yaml

from peft_lab.core import references
from peft_lab.core.errors import BadInput
from peft_lab.core.references import RELATIONS, Fact, fact

_PLAIN = (str, int, bool, dict, list, NoneType)


def fits(kind: Any, value: Any) -> bool:
    """Return whether a value is of a type. A whole number is a float too, a truth value is no number, a float must be
    finite; a list may stand for a tuple.

    >>> fits(dict[str, float | None], {"loss": None, "rows": 3}), fits(list[int], [1, True])
    (True, False)"""
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
    """Return the first field whose value is not of its type, or an empty string. Missing fields count as None."""
    return next((name for name, kind in kinds.items() if not fits(kind, data.get(name))), "")


def read_typed(cls: type, data: Any, what: str) -> dict[str, Any]:
    """Return the fields of a dataclass from a JSON object (``what`` it is, such as ``"A sweep"``), with lists as
    tuples. Raises BadInput: a field is missing, unknown or of a wrong type."""
    if not isinstance(data, Mapping):
        raise BadInput(f"{what} cannot be {str(data)[:40]!r}.")
    kinds = get_type_hints(cls)
    for name in data:
        if name not in kinds:
            raise BadInput(f"{what} has no field '{str(name)[:40]}'.", str(name))
    for item in fields(cls):
        if item.name not in data and item.default is item.default_factory is MISSING:
            raise BadInput(f"{what} needs a value for '{item.name}'.", item.name)
    wrong = misfit({name: kinds[name] for name in data}, data)
    if wrong:
        raise BadInput(f"{what}'s {wrong} cannot be {str(data[wrong])[:40]!r}.", wrong)
    return {name: tuple(value) if isinstance(value, list) else value for name, value in data.items()}


#: The name of a constant in :mod:`peft_lab.core.references`, then the place: ``PEFT, add_weighted_adapter``. Several
#: are separated by semicolons.
Citation = NewType("Citation", str)
#: Text in which ``{LORA}`` stands for that reference.
CitingText = NewType("CitingText", str)
#: Makes a value from what YAML has, lists as tuples; for ``str`` and its NewTypes from the text as it is written.
#: Raises ValueError with a sentence.
Converter = Callable[[Any], Any]

T = TypeVar("T")


class Through(NamedTuple):
    """A type read as ``kind`` and then converted by ``make``."""

    kind: Any
    make: Converter


#: By the type of a field.
Converters = Mapping[Any, Converter | Through]

_CITED = re.compile(r"\{([A-Z][A-Z0-9_]*)\}")
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class ContentError(ValueError):
    """A mistake in a content file. Its text begins with the file and the line."""

    def __init__(self, path: Path, node: yaml.Node, sentence: str) -> None:
        self.path, self.line = path, node.start_mark.line + 1
        super().__init__(f"{path.parent.name}/{path.name}:{self.line}: {sentence.replace('?.', '?')}")


def cite(text: str) -> str:
    """Return a citation, or several: ``LORA, section 4.1`` with the reference for the name. Raises ValueError for
    others."""
    parts = [part.partition(",") for part in str(text).split("; ")]
    return "; ".join(f"{_reference(name)}{comma}{place}" for name, comma, place in parts)


def fill_citations(text: str) -> str:
    """Return a text with the references that it names in braces. Raises ValueError: there is no such reference."""
    return _CITED.sub(lambda found: _reference(found[1]), str(text))


def _reference(name: str) -> str:
    reference = getattr(references, name, None)
    if not name.isupper() or not isinstance(reference, str):
        known = [name for name in vars(references) if name.isupper()]
        raise ValueError(f"there is no reference '{name}' (core/references.yaml){_nearest(name, known)}")
    return reference


def by_name(known: Mapping[str, T], noun: str = "") -> Callable[[Any], T]:
    """Return a converter from names to what they name; it raises ValueError, with the nearest ``noun``, for others."""

    def of(name: Any) -> T:
        if name not in known:
            raise ValueError(f"there is no {noun} '{name}'{_nearest(str(name), known)}".replace("  ", " "))
        return known[name]

    return of


def read_fact(stated: Any) -> Fact:
    """Return a fact from its fields: ``{subject: lora, relation: merges, when: {tasks: many}}``, beside which there are
    ``object`` (a name, a number or two) and ``holds``. Raises ValueError for others."""
    if not isinstance(stated, Mapping) or not {"subject", "relation"} <= set(stated):
        raise ValueError("a fact needs 'subject' and 'relation'")
    if unknown := sorted(set(stated) - {"subject", "relation", "object", "holds", "when"}):
        raise ValueError(f"a fact has no field '{unknown[0]}'")
    relation, holds = stated["relation"], stated.get("holds", "always")
    if relation not in RELATIONS:
        raise ValueError(f"there is no relation '{relation}'{_nearest(str(relation), RELATIONS)}")
    if holds not in ("always", "sometimes", "never"):
        raise ValueError(f"a fact holds always, sometimes or never, not '{holds}'")
    subject, about, when = stated["subject"], stated.get("object", ""), stated.get("when", {})
    words = str | tuple[str, ...]
    if not (fits(words, subject) and fits(str | float | tuple[float, float], about)):
        raise ValueError(
            "a fact's subject is one or several names; its object is a name, a number or two numbers"
        )
    if not fits(Mapping[str, words], when):
        raise ValueError("a fact's 'when' is answers by question: {tasks: many}")
    return fact(subject, relation, about, holds, **when)


def mistake(path: Path, sentence: str, *words: str) -> ContentError:
    """Return an error that shows after reading, at the first line with the last of ``words``, below those before."""
    line, start, lines = 0, 0, path.read_text(encoding="utf-8").splitlines()
    for text in words:
        whole = re.compile(re.escape(text) + r"(?![\w-])")
        line = next((place for place in range(start, len(lines)) if whole.search(lines[place])), line)
        start = line + 1
    return ContentError(path, yaml.ScalarNode("", "", yaml.Mark("", 0, line, 0, None, 0)), sentence)


def read_entries(
    path: Path, kind: type[T], converters: Converters | None = None, **stated: Any
) -> tuple[T, ...]:
    """Return the entries of a file as dataclasses. ``stated``: fields of every entry that the file's name or folder
    states. Raises ContentError: the file is no YAML list, or an entry has a missing, unknown or wrong field."""
    reader = _Reader(path, converters, stated)
    return tuple(reader.make(kind, entry, "an entry") for entry in reader.compose(entries=True).value)


def by_id(path: Path, entries: Iterable[T]) -> dict[str, T]:
    """Return entries by their ``id``. Raises ContentError if two have the same."""
    known: dict[str, T] = {}
    for entry in entries:
        name = str(vars(entry)["id"])
        if name in known:
            raise mistake(path, f"there are two entries named '{name}'.", f"id: {name}", f"id: {name}")
        known[name] = entry
    return known


def read_table(
    paths: Iterable[Path], kind: type[T], key: str, converters: Converters | None = None
) -> dict[str, T]:
    """Return the entries of several files by the field ``key``, in order. Raises ContentError: two have the same key,
    too."""
    table: dict[str, T] = {}
    for path in paths:
        reader = _Reader(path, converters)
        for node in reader.compose(entries=True).value:
            entry = reader.make(kind, node, "an entry")
            name = getattr(entry, key)
            if name in table:
                raise ContentError(path, node, f"there is another entry named '{name}'.")
            table[name] = entry
    return table


class Table(Mapping[str, T]):
    """Entries by name, read from disk at the first access."""

    def __init__(self, read: Callable[[], Mapping[str, T]]) -> None:
        self._read = cache(read)

    def __getitem__(self, name: str) -> T:
        return self._read()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._read())

    def __len__(self) -> int:
        return len(self._read())


def read_entry(path: Path, kind: type[T], converters: Converters | None = None, text: str | None = None) -> T:
    """Return the single entry of a file, or of its beginning ``text``. Raises ContentError as :func:`read_entries`."""
    reader = _Reader(path, converters, text=text)
    made: T = reader.make(kind, reader.compose(), "the file")
    return made


_OWN: Converters = {Citation: cite, CitingText: fill_citations, Fact: read_fact}
_BOOL = "tag:yaml.org,2002:bool"


class _Reader:
    """Builds values of a type from the nodes of one file."""

    def __init__(
        self, path: Path, converters: Converters | None, stated: Mapping[str, Any] | None = None,
        text: str | None = None,
    ) -> None:  # fmt: skip
        self.path, self.text, self.converters = path, text, {**_OWN, **(converters or {})}
        self.stated = stated or {}
        self.natural = yaml.constructor.SafeConstructor()

    def compose(self, entries: bool = False) -> yaml.Node:
        """Return the file's node, which holds a list if ``entries`` are wanted."""
        text = self.path.read_text(encoding="utf-8") if self.text is None else self.text
        try:
            node = yaml.compose(text, Loader=_LOADER)
        except yaml.MarkedYAMLError as error:
            place = yaml.ScalarNode("", "", error.problem_mark or error.context_mark)
            raise ContentError(self.path, place, f"this is not valid YAML: {error.problem}.") from None
        if node is None:
            raise mistake(self.path, "it is empty.")
        if entries and not isinstance(node, yaml.SequenceNode):
            raise ContentError(self.path, node, "a list of entries is needed: each begins with '- '.")
        return node

    def make(self, kind: Any, node: yaml.Node, what: str) -> Any:
        """Return a node's value as a ``kind``; ``what`` names it in errors."""
        if kind in self.converters and (kind is not str or isinstance(node, yaml.ScalarNode)):
            converter = self.converters[kind]
            if isinstance(converter, Through):
                value, convert = self.make(converter.kind, node, what), converter.make
            else:
                text = str in (kind, getattr(kind, "__supertype__", None))
                text = text and isinstance(node, yaml.ScalarNode)
                value, convert = node.value.rstrip("\n") if text else self.value(node), converter
            try:
                return convert(value)
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
            made = {}
            for key, item in self.pairs(node, what):
                if not fits(inner[0], key):
                    near = _nearest(key, get_args(inner[0]))
                    raise ContentError(self.path, item, f"{what} has no '{key}'{near}.")
                made[key] = self.make(inner[1], item, f"{what} '{key}'")
            return made
        if kind is str and isinstance(node, yaml.ScalarNode):
            return node.value.rstrip("\n")
        value = self.value(node)
        if isinstance(kind, type) and issubclass(kind, Enum):
            if value in (known := [each.value for each in kind]):
                return kind(value)
            raise ContentError(
                self.path, node, f"{what} cannot be '{value}'; it is one of {', '.join(known)}."
            )
        if not fits(kind, value):
            allowed = f"one of {', '.join(inner)}" if origin is Literal else getattr(kind, "__name__", kind)
            raise ContentError(self.path, node, f"{what} cannot be {str(value)[:60]!r}; it is {allowed}.")
        return value

    def union(self, kinds: tuple[Any, ...], node: yaml.Node, what: str) -> Any:
        value = self.value(node)
        classes: list[Any] = [kind for kind in kinds if is_dataclass(kind)]
        if len(classes) > 1 and isinstance(value, dict):  # the one that has most of the fields
            named = {key.replace(" ", "_") for key in value}
            return self.make(max(classes, key=lambda kind: len(named & set(_hints(kind)))), node, what)
        for kind in kinds:
            made = kind in self.converters or is_dataclass(kind) or get_origin(kind) not in (None, tuple)
            made = made or (isinstance(kind, type) and issubclass(kind, Enum))
            made = made and (kind is not str or isinstance(value, str))
            if kind is not NoneType and made and value is not None:
                return self.make(kind, node, what)
            if not made and fits(kind, value):
                return value
        if str in kinds and isinstance(node, yaml.ScalarNode):
            return self.make(str, node, what)
        raise ContentError(self.path, node, f"{what} cannot be {str(value)[:60]!r}.")

    def entry(self, kind: type, node: yaml.Node, what: str) -> Any:
        kinds = _hints(kind)
        needed = {item.name for item in fields(kind) if item.default is item.default_factory is MISSING}
        made = dict(self.stated) if what == "an entry" else {}
        for key, item in self.pairs(node, what):
            name = key.replace(" ", "_").replace("-", "_")
            if name not in kinds or (what == "an entry" and name in self.stated):
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
        if node.tag == _BOOL and node.value.lower() not in ("true", "false"):
            return node.value
        return self.natural.construct_object(node)


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


def _nearest(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name.replace(" ", "_"), list(known), n=1, cutoff=0.5)
    return f"; did you mean '{near[0].replace('_', ' ')}'?" if near else ""
