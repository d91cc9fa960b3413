"""Read content: YAML files whose entries are checked against a dataclass, with the file and the line in each error.

A file holds a list of entries or one entry. Keys are the dataclass's fields, written with spaces, hyphens or
underscores (``listen for``). Lists fill tuples. Text fields take any scalar as it is written, without the line ends
after it. Converters make what a file cannot state itself: a calculation by its name, a citation, a fact. As in YAML
1.2, only ``true`` and ``false`` are truth values: ``yes`` and ``no`` are words.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from enum import Enum
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, NamedTuple, NewType, TypeVar, Union, get_args, get_origin, get_type_hints

import yaml

from peft_lab.core import facts, references
from peft_lab.core.kinds import fits

#: The name of a constant in :mod:`peft_lab.core.references`, then the place: ``PEFT, add_weighted_adapter``. Several
#: are separated by semicolons.
Citation = NewType("Citation", str)
#: Text in which ``{LORA}`` stands for that reference.
CitingText = NewType("CitingText", str)
T = TypeVar("T")


class Through(NamedTuple):
    """Read a value as ``kind``, then convert it with ``make``."""

    kind: Any
    make: Callable[[Any], Any]


#: What a field's type is made from: the value as YAML has it, lists as tuples, or as another type; for a NewType of
#: ``str`` the text as it is written. The function raises ValueError with a sentence.
Converters = Mapping[Any, Callable[[Any], Any] | Through]

_CITED = re.compile(r"\{([A-Z][A-Z0-9_]*)\}")
_BOOL = "tag:yaml.org,2002:bool"
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class ContentError(ValueError):
    """A mistake in a content file. Its text begins with the file and the line."""

    def __init__(self, path: Path, node: yaml.Node, sentence: str) -> None:
        self.path, self.line = path, node.start_mark.line + 1
        super().__init__(f"{path.parent.name}/{path.name}:{self.line}: {sentence}")


def cite(text: str) -> str:
    """Return a citation, or several, with the name at its start replaced by the reference.

    >>> cite("LORA, section 4.1")
    'Hu et al. 2021, LoRA, arXiv:2106.09685, section 4.1'

    Raises:
        ValueError: there is no such reference.
    """
    parts = [part.partition(",") for part in str(text).split("; ")]
    return "; ".join(f"{_reference(name)}{comma}{place}" for name, comma, place in parts)


def fill_citations(text: str) -> str:
    """Return a text with the references that it names in braces.

    >>> fill_citations("a count, beside {BITFIT}, table 2")
    'a count, beside Ben Zaken et al. 2021, BitFit, arXiv:2106.10199, table 2'

    Raises:
        ValueError: there is no such reference.
    """
    return _CITED.sub(lambda found: _reference(found[1]), str(text))


def _reference(name: str) -> str:
    reference = getattr(references, name, None)
    if not name.isupper() or not isinstance(reference, str):
        known = [name for name in vars(references) if name.isupper()]
        raise ValueError(f"there is no reference '{name}' (core/references.py){_nearest(name, known)}")
    return reference


def named(known: Mapping[str, T], noun: str) -> Callable[[Any], T]:
    """Return a converter from a name to what it stands for, such as a function.

    >>> named({"double": 2}, "factor")("double")
    2
    """

    def look_up(name: Any) -> T:
        if name not in known:
            raise ValueError(f"there is no {noun} '{name}'{_nearest(str(name), known)}")
        return known[name]

    return look_up


@dataclass(frozen=True)
class StatedFact:
    """A fact as content states it: the arguments of :func:`peft_lab.core.facts.fact` by name."""

    subject: str | tuple[str, ...]
    relation: str
    object: str | float | tuple[float, float] = ""
    holds: facts.Holds = "always"
    when: Mapping[str, str | tuple[str, ...]] = field(default_factory=dict)

    def fact(self) -> facts.Fact:
        """Return the fact. Raises ValueError for an unknown relation."""
        if self.relation not in facts.RELATIONS:
            raise ValueError(
                f"there is no relation '{self.relation}'{_nearest(self.relation, facts.RELATIONS)}"
            )
        return facts.fact(self.subject, self.relation, self.object, self.holds, **self.when)


_OWN: Converters = {
    Citation: cite,
    CitingText: fill_citations,
    facts.Fact: Through(StatedFact, StatedFact.fact),
}


def read_entries(path: Path, kind: type[T], converters: Converters | None = None) -> tuple[T, ...]:
    """Return the entries of a file, in its order.

    Args:
        kind: the dataclass of an entry.
        converters: by the type of a field, beside those of this module.

    Raises:
        ContentError: the file is no YAML list, or an entry has a missing, unknown or wrong field.
    """
    reader = _Reader(path, {**_OWN, **(converters or {})})
    return tuple(reader.make(kind, node, "an entry") for node in reader.list_nodes())


def read_table(
    paths: Iterable[Path], kind: type[T], key: str, converters: Converters | None = None
) -> dict[str, T]:
    """Return the entries of several files by the field ``key``, in their order.

    Raises:
        ContentError: as :func:`read_entries`, or two entries have the same key.
    """
    table: dict[str, T] = {}
    for path in paths:
        reader = _Reader(path, {**_OWN, **(converters or {})})
        for node in reader.list_nodes():
            entry = reader.make(kind, node, "an entry")
            name = getattr(entry, key)
            if name in table:
                raise ContentError(path, node, f"there is another entry '{name}'.")
            table[name] = entry
    return table


class Table(Mapping[str, T]):
    """Entries by name, read when the first is asked for."""

    def __init__(self, read: Callable[[], Mapping[str, T]]) -> None:
        self._read = cache(read)

    def __getitem__(self, name: str) -> T:
        return self._read()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._read())

    def __len__(self) -> int:
        return len(self._read())


def read_entry(path: Path, kind: type[T], converters: Converters | None = None) -> T:
    """Return the one entry that a file is. Raises ContentError as :func:`read_entries` does."""
    reader = _Reader(path, {**_OWN, **(converters or {})})
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

    def list_nodes(self) -> list[yaml.Node]:
        node = self.compose()
        if not isinstance(node, yaml.SequenceNode):
            raise ContentError(self.path, node, "a list of entries is needed: each begins with '- '.")
        nodes: list[yaml.Node] = node.value
        return nodes

    def make(self, kind: Any, node: yaml.Node, what: str) -> Any:
        """Return a node's value as a ``kind``; ``what`` names it in errors."""
        if kind in self.converters:
            converter = self.converters[kind]
            if isinstance(converter, Through):
                value, convert = self.make(converter.kind, node, what), converter.make
            else:
                text = getattr(kind, "__supertype__", None) is str and isinstance(node, yaml.ScalarNode)
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
                    raise ContentError(
                        self.path, item, f"{what} has no '{key}'{_nearest(key, get_args(inner[0]))}."
                    )
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
        for kind in kinds:
            made = kind in self.converters or is_dataclass(kind) or get_origin(kind) not in (None, tuple)
            made = made or (isinstance(kind, type) and issubclass(kind, Enum))
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
        if node.tag == _BOOL and node.value.lower() not in ("true", "false"):
            return node.value
        return self.natural.construct_object(node)


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


def _nearest(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name.replace(" ", "_"), list(known), n=1, cutoff=0.5)
    return f"; did you mean '{near[0].replace('_', ' ')}'?" if near else ""
