"""Define one setting: type, range, default, help; check and parse its values.

>>> rank = Field("r", "Rank r", "int", 8, "Width.", min=1, max=1024)
>>> rank.parse("16"), rank.nearest("2000")
(16, 1024)
>>> rank.check(0)
Traceback (most recent call last):
peft_lab.core.errors.BadInput: Rank r must be from 1 to 1,024; '0' is not.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from peft_lab.core.errors import BadInput, UnknownName, echoed, named

Values = Mapping[str, Any]
Kind = Literal["int", "float", "bool", "choice", "modules", "text"]
#: Titles by value; a callable where they depend on files or on what is installed.
Options = Mapping[Any, str] | Callable[[], Mapping[Any, str]]

_SENTENCE = re.compile(r"(?<!\bal)\.\s+")  # the end of a sentence; not after "et al."
_NUMBER = re.compile(r"[+-]?([0-9][0-9_,]*\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]{1,3})?", re.IGNORECASE)
_LONGEST = 60  # characters of a number
_YES, _NO = ("true", "yes", "1", "on"), ("false", "no", "0", "off")


@dataclass(frozen=True)
class Field:
    """One setting of a method or a form.

    Attributes:
        name: its name in addresses, options and files; of a method, the field in the PEFT config, if PEFT has one.
        label: the control's label.
        kind: ``modules`` is a tuple of names, of target modules or of ``options``.
        help: what it does. ``usual``: the usual range. ``paper``: what the paper used.
        min, max: the ends of a number's range, included. above: its lower end, if that is not included.
        stops: if given, the slider offers these values only (any value in range stays valid).
        choices: the values of a choice whose titles are its values. ``options``: titles by value.
        advanced: shown in a collapsed section.
        read_when: another field and those of its values for which this one is used; ``None`` if it always is.
        of: ``training`` for a setting of the optimizer, which leaves the model and its config unchanged;
            ``application`` for what applying the method does beyond PEFT's config, such as starting from a text.
        empty: what an empty control says, such as "no limit"; ``None`` is then a valid value.
        words: words that stand for values, such as ``few`` for 100 rows.
        spellings: other names of a choice's values.
        unit: what may stand after a number, such as ``%``.
        reader: reads a text in place of :meth:`parse`. Raises BadInput.
        alias: its name in addresses, and another one of its option, if shorter than ``name``.
        noun: what it is called in errors; by default a number's label, a choice's name.
        shared: the name under which pages share the learner's choice; empty if it belongs to one page.
    """

    name: str
    label: str
    kind: Kind
    default: Any
    help: str
    usual: str = ""
    paper: str = ""
    min: float | None = None
    max: float | None = None
    choices: tuple[str, ...] = ()
    stops: tuple[float, ...] = ()
    advanced: bool = False
    read_when: tuple[str, tuple[Any, ...]] | None = None
    of: Literal["method", "training", "application"] = "method"
    empty: str = ""
    options: Options | None = None
    words: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    reader: Callable[[str], Any] | None = None
    alias: str = ""
    noun: str = ""
    shared: str = ""
    above: float | None = None
    spellings: Mapping[str, str] = dataclasses.field(default_factory=dict)
    unit: str = ""

    @property
    def key(self) -> str:
        """Return the name in addresses."""
        return self.alias or self.name

    @property
    def titles(self) -> Mapping[str, str]:
        """Return the titles of a choice by value, in the order in which they are offered."""
        if self.options is None:
            return {choice: choice for choice in self.choices}
        return self.options() if callable(self.options) else self.options

    @property
    def full_help(self) -> str:
        """Return the help text with the usual range and the paper's value."""
        parts = [self.help]
        if self.usual:
            parts.append(f"Usual: {self.usual}.")
        if self.paper:
            parts.append(f"Paper: {self.paper}.")
        return " ".join(parts)

    def among(self, options: Options) -> Field:
        """Return the field with other options."""
        return replace(self, options=options)

    def in_terms_of(self, noun: str) -> Field:
        """Return the field with another noun in place of "row" in label and help."""
        named = {"row": noun, "Row": noun.capitalize()}

        def renamed(text: str) -> str:
            return re.sub(r"\b([Rr]ow)(?=s?\b)", lambda match: named[match[1]], text)

        return replace(self, label=renamed(self.label), help=renamed(self.help))

    def brief(self, value: Any) -> str:
        """Return the sentence of the help to show under the control: that on ``value`` ("b: from noise") if any, else
        the first."""
        sentences = [text.rstrip(".") + "." for text in _SENTENCE.split(self.help)]
        return next((text for text in sentences if text.startswith(f"{value}: ")), sentences[0])

    def check(self, value: Any) -> Any:
        """Return ``value`` converted to the field's type. Raises BadInput: the value has the wrong type or is out of
        range; the message gives the range, and ``nearest`` the nearest value that is valid. UnknownName: it is none of
        the options."""
        if value is None and self.empty:
            return None
        if self.kind == "bool":
            if not isinstance(value, bool):
                raise self._bad(value, "must be either true or false")
            return value
        if self.kind in ("int", "float"):
            return self._number(value)
        if self.kind == "choice":
            return self._chosen(value)
        if self.kind == "modules":
            return self._names(value)
        if not isinstance(value, str):
            raise self._bad(value, "must be text")
        return value

    def _number(self, value: Any) -> float | int:
        wrong_type = isinstance(value, bool) or not isinstance(value, int | float)
        endless = isinstance(value, float) and not math.isfinite(value)
        if wrong_type or endless or (self.kind == "int" and value != int(value)):
            raise self._bad(value, self._number_rule)
        if self.above is not None and value <= self.above:
            raise self._bad(value, f"must be {self.range}")
        if (self.min is not None and value < self.min) or (self.max is not None and value > self.max):
            near = min(
                max(value, value if self.min is None else self.min), value if self.max is None else self.max
            )
            raise self._bad(value, f"must be {self.range}", int(near) if self.kind == "int" else float(near))
        return int(value) if self.kind == "int" else float(value)

    @property
    def range(self) -> str:
        """Return the range of a number in words: ``from 1 to 1,024``."""
        low, high = (None if end is None else _figure(end) for end in (self.min, self.max))
        if self.above is not None:
            return f"above {_figure(self.above)}" + (f" and at most {high}" if high else "")
        if low is not None and high is not None:
            return f"from {low} to {high}"
        return (
            f"at least {low}" if low is not None else f"at most {high}" if high is not None else "any number"
        )

    @property
    def _number_rule(self) -> str:
        others = f", or {', '.join(self.words)}" if self.words else ""
        return f"must be a {'whole number' if self.kind == 'int' else 'number'}{others}"

    def _chosen(self, value: Any) -> Any:
        titles: dict[str, Any] = {as_text(one): one for one in self.titles}
        if isinstance(value, str) and value in titles:
            return titles[value]
        if isinstance(value, int | float) and value in titles.values():  # options that are numbers
            return value
        near = difflib.get_close_matches(str(value)[:_LONGEST], list(titles), n=1, cutoff=0.5)
        if self.options is None:
            raise self._bad(value, f"must be one of {', '.join(titles)}", near[0] if near else None)
        known = [name for name in titles if name]
        error = UnknownName(self.noun or self.name.replace("_", " "), str(value), known, self.name)
        error.nearest = near[0] if near else None
        raise error

    def _names(self, value: Any) -> tuple[str, ...]:
        if isinstance(value, str):
            value = value.split(",")
        if not isinstance(value, Iterable):
            raise self._bad(value, "must be a list of names")
        names = tuple(dict.fromkeys(str(name).strip() for name in value if str(name).strip()))
        if self.options is not None or self.choices:
            for name in names:
                self._chosen(name)
        return names

    def parse(self, text: str) -> Any:
        """Parse a value from a command line or an address: ``8``, ``10,000``, ``true``, ``q,v``. Raises BadInput as
        :meth:`check`."""
        text = text.strip()
        if text.lower() in self.words:
            return self.words[text.lower()]
        if not text and self.empty:
            return None
        if self.reader is not None:
            return self.check(self.reader(text))
        text = self.spellings.get(text.lower(), text)
        if self.unit:
            text = text.removesuffix(self.unit).rstrip()
        if self.kind == "bool":
            if text.lower() not in _YES + _NO:
                raise self._bad(text, "must be either true or false")
            return text.lower() in _YES
        if self.kind in ("int", "float"):
            if len(text) > _LONGEST or not _NUMBER.fullmatch(text):
                raise self._bad(text, self._number_rule)
            bare = text.replace(",", "").replace("_", "")
            exact = self.kind == "int" and bare.lstrip("+-").isdigit()
            value = int(bare) if exact else float(bare)
            if not exact and not math.isfinite(value):  # said as it was typed: 1e999 is read as infinite
                raise self._bad(text, self._number_rule)
            return self.check(value)
        return self.check(text)

    def text(self, value: Any) -> str:
        """Return a value as text for a URL; :meth:`parse` reads it back."""
        return as_text(value)

    def nearest(self, text: str) -> Any:
        """Return a text's value if it is valid, else the nearest valid value; ``None`` if unknown."""
        try:
            return self.parse(text)
        except BadInput as error:
            return error.nearest

    def schema(self) -> dict[str, Any]:
        """Return the field as JSON Schema."""
        kinds = {"int": "integer", "float": "number", "bool": "boolean", "modules": "array"}
        kind: Any = kinds.get(self.kind, "string")
        described: dict[str, Any] = {
            "type": [kind, "null"] if self.empty else kind, "title": self.label, "description": self.full_help,
            "default": list(self.default) if isinstance(self.default, tuple) else self.default,
        }  # fmt: skip
        if self.kind == "choice":
            described["enum"] = list(self.titles)
        if self.kind == "modules":
            described["items"] = {"type": "string"}
        ends = {"minimum": self.min, "maximum": self.max, "exclusiveMinimum": self.above}
        return described | {name: end for name, end in ends.items() if end is not None}

    def _bad(self, value: Any, rule: str, nearest: Any = None) -> BadInput:
        subject = self.noun[:1].upper() + self.noun[1:] if self.noun else self.label
        error = BadInput(f"{subject} {rule}; '{echoed(value)}' is not.", self.name)
        error.nearest = nearest
        return error


def _figure(number: float) -> str:
    return f"{int(number):,}" if number == int(number) else f"{number:g}"


def as_text(value: Any) -> str:
    """Return a value as text for a URL: ``true``, ``q_proj,v_proj``, ``0.0003``; empty for None."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple | list):
        return ",".join(str(item) for item in value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def is_read(field: Field, fields: Iterable[Field], values: Values) -> bool:
    """Return whether a field has an effect at the given values; a missing value does not disable it."""
    if field.read_when is None:
        return True
    name, wanted = field.read_when
    by_name = {other.name: other for other in fields}
    return name not in values or (values[name] in wanted and is_read(by_name[name], by_name.values(), values))


def read(fields: Iterable[Field], values: Values) -> dict[str, Any]:
    """Return the values that have an effect. Settings that differ only in other values are equivalent."""
    known = tuple(fields)
    return {
        field.name: values[field.name]
        for field in known
        if field.name in values and is_read(field, known, values)
    }


def field_named(fields: Sequence[Field], name: str, what: str) -> Field:
    """Return the field of that name. Raises UnknownName with the nearest; its message calls a field a ``what``."""
    return named(what, name, {field.name: field for field in fields}, name)
