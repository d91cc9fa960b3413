"""Options from forms: a command gets an option for each field of a form, and the form that they give."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Annotated, Any

import typer

from peft_lab.ask.field import Field
from peft_lab.ask.form import Form
from peft_lab.core.errors import BadInput

_METAVARS = {"int": "INTEGER", "float": "FLOAT", "choice": "NAME", "modules": "NAMES", "text": "TEXT"}


def form_options(
    form: type[Form], names: Sequence[str] = ()
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a command the options of a form, in place of its argument ``given``: the values that were given, by field.

    Values are checked by the fields, not by typer.

    Args:
        names: the fields that become options; empty for all.
    """
    fields = [form.field(name) for name in names] or list(form.fields().values())

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def command(**arguments: Any) -> Any:
            texts = {field.name: arguments.pop(field.name) for field in fields}
            said = {name: _text(text) for name, text in texts.items() if text is not None}
            given, wrong = form.parse(said)
            for name, error in wrong.items():
                raise BadInput(f"{options_of(form.field(name))[-1]}: {error}", name) from None
            return function(**arguments, given=given)

        signature = inspect.signature(function, eval_str=True)
        parameters = list[inspect.Parameter]()
        for name, parameter in signature.parameters.items():
            if name == "given":
                parameters += [_parameter(field) for field in fields]
            else:
                parameters.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))
        command.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
        command.__annotations__ = {one.name: one.annotation for one in parameters}
        return command

    return decorate


def _text(value: str | bool) -> str:
    return value if isinstance(value, str) else str(value).lower()


def options_of(field: Field) -> list[str]:
    """Return the names of a field's option, the shorter one last."""
    return [f"--{name.replace('_', '-')}" for name in (field.name, field.alias) if name]


def _parameter(field: Field) -> inspect.Parameter:
    option = options_of(field)
    if field.kind == "bool":
        kind: Any = Annotated[bool | None, typer.Option(*option, help=field.help)]
    else:
        help_ = field.help
        if field.kind == "choice":
            help_ = f"{help_} One of {', '.join(field.titles)}."
        kind = Annotated[str | None, typer.Option(*option, metavar=_METAVARS[field.kind], help=help_)]
    return inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=kind)
