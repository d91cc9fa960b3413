"""Define a form: a frozen dataclass of fields, with the rules between them.

::

    @dataclass(frozen=True)
    class Step(Form):
        batch: int = whole(4, "Batch size", "Rows of a step.", least=1, most=limits.BATCH)
        seq: int = whole(512, "Tokens per row", "Longer rows are cut.", least=1, most=limits.SEQ)

        def rules(self) -> Iterator[BadInput]:
            if self.batch * self.seq > limits.TOKENS_IN_A_STEP:
                yield BadInput("...", "batch")

``Step.read({"batch": "8"})`` takes texts from an address or a command line, ``step.check()`` raises the first problem,
``step.address()`` returns the values for an address. The class is typed as any dataclass: ``step.batch`` is an int.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cache
from typing import Any, Self

from peft_lab.core.errors import BadInput, UnknownName
from peft_lab.core.field import Field, Kind, Options

_FIELD = "field"


class Form:
    """Base class of forms. Fields are made by :func:`whole`, :func:`number`, :func:`choice` and the like."""

    @classmethod
    def fields(cls) -> Mapping[str, Field]:
        """Return the fields by name, in the order in which they are declared."""
        return _fields(cls)

    @classmethod
    def field(cls, name: str) -> Field:
        """Return a field by its name or alias. Raises UnknownName with the nearest name."""
        known = _fields(cls)
        match = known.get(name) or next((one for one in known.values() if one.alias == name), None)
        if match is None:
            raise UnknownName("setting", name, _fields(cls), name)
        return match

    @classmethod
    def parse(cls, texts: Mapping[str, str]) -> tuple[dict[str, Any], dict[str, BadInput]]:
        """Parse texts by field name or alias; return the values, and an error for each text that cannot be read, by
        field. Raises UnknownName: there is no field of that name."""
        values, wrong = dict[str, Any](), dict[str, BadInput]()
        for name, text in texts.items():
            field = cls.field(name)
            try:
                values[field.name] = field.parse(text)
            except BadInput as error:
                error.field = field.name
                wrong[field.name] = error
        return values, wrong

    @classmethod
    def read(cls, texts: Mapping[str, str], start: Self | None = None) -> tuple[Self, dict[str, BadInput]]:
        """Return the form with the values of texts, and :meth:`parse`'s errors; other fields keep the value of
        ``start``."""
        values, wrong = cls.parse(texts)
        made: Any = replace(start or cls(), **values)  # type: ignore[type-var]
        return made, wrong

    def rules(self) -> Iterator[BadInput]:
        """Yield an error for each contradiction between fields, attributed to one of them. None by default."""
        yield from ()

    def problems(self) -> tuple[BadInput, ...]:
        """Return an error for each value that is out of range, unknown or contradictory: at most one per field."""
        errors = dict[str | None, BadInput]()
        for name, field in self.fields().items():
            try:
                field.check(getattr(self, name))
            except BadInput as error:
                errors[name] = error
        for broken in self.rules():
            errors.setdefault(broken.field, broken)
        return tuple(errors.values())

    def check(self) -> Self:
        """Return the form. Raises BadInput for the first problem."""
        for error in self.problems():
            raise error
        return self

    def by_name(self) -> dict[str, Any]:
        """Return the values by field name."""
        return {name: getattr(self, name) for name in self.fields()}

    def address(self, usual: Self | None = None) -> dict[str, tuple[Any, Any]]:
        """Return ``name: (value, default)`` for an address, which leaves defaults out."""
        default = usual or type(self)()
        return {
            field.key: (getattr(self, name), getattr(default, name)) for name, field in self.fields().items()
        }

    @classmethod
    def schema(cls) -> dict[str, Any]:
        """Return the form as JSON Schema."""
        properties = {name: field.schema() for name, field in cls.fields().items()}
        return {"type": "object", "properties": properties, "additionalProperties": False}


@cache
def _declarations(form: Any) -> Mapping[str, Field]:
    declared = (item for item in dataclasses.fields(form) if _FIELD in item.metadata)
    return {item.name: replace(item.metadata[_FIELD], name=item.name) for item in declared}


#: Typed here: a class made by a metaclass would not count as hashable.
_fields: Callable[[Any], Mapping[str, Field]] = _declarations


def _kept(field: Field, default: Any) -> Any:
    return dataclasses.field(default=default, metadata={_FIELD: field})


def _declared(kind: Kind, default: Any, label: str, about: str, **more: Any) -> Any:
    return _kept(Field("", label, kind, default, about, **more), default)


def whole(
    default: int | None, label: str, about: str, *, least: int | None = None, most: int | None = None, **more: Any
) -> Any:  # fmt: skip
    """Declare a whole number in a form; ``more``: other attributes of :class:`~peft_lab.core.field.Field`."""
    return _declared("int", default, label, about, min=least, max=most, **more)


def number(
    default: float | None, label: str, about: str, *, least: float | None = None, most: float | None = None, **more: Any
) -> Any:  # fmt: skip
    """Declare a number in a form."""
    return _declared("float", default, label, about, min=least, max=most, **more)


def yes_no(default: bool, label: str, about: str, **more: Any) -> Any:
    """Declare a switch in a form."""
    return _declared("bool", default, label, about, **more)


def choice(default: str, label: str, about: str, options: Options, **more: Any) -> Any:
    """Declare a choice among titled options in a form."""
    return _declared("choice", default, label, about, options=options, **more)


def names(
    default: tuple[str, ...], label: str, about: str, options: Options | None = None, **more: Any
) -> Any:
    """Declare a list of names in a form."""
    return _declared("modules", default, label, about, options=options, **more)


def text(default: str, label: str, about: str, **more: Any) -> Any:
    """Declare a text in a form."""
    return _declared("text", default, label, about, **more)


def again(form: type[Form], name: str, default: Any = None, **changes: Any) -> Any:
    """Declare a field of another form in this one, with another default or other attributes."""
    field = replace(form.field(name), **changes)
    usual = field.default if default is None else default
    return _kept(replace(field, default=usual), usual)


def form_of(name: str, fields: Iterable[Field], **defaults: Any) -> type[Form]:
    """Return a form class with these fields, such as a method's knobs; ``defaults`` replace the fields'."""
    declared = [(one.name, Any, _kept(one, defaults.get(one.name, one.default))) for one in fields]
    return dataclasses.make_dataclass(name, declared, bases=(Form,), frozen=True)


def required(form: type[Form], name: str) -> Any:
    """Declare another form's field in this form as required, without a default."""
    return dataclasses.field(kw_only=True, metadata={_FIELD: replace(form.field(name), empty="")})
