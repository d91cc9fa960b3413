"""Run a program over an exercise's cases, and give the results back as plain trees. Imports nothing of this package.

A tree is JSON: numbers, strings, truth values and null as they are, ``{"list": [...]}`` for lists and tuples,
``{"dict": {...}}``, ``{"tensor": shape, "data": base64}`` with float64 values, ``{"raised": type, ...}`` for an
exception, and ``{"other": type}`` for anything else.
"""

from __future__ import annotations

import base64
import io
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import redirect_stderr, redirect_stdout
from typing import Any

SEED = 20261130
PROGRAM = "<your program>"  # the file's name in tracebacks
REPLACED = "Replaced"  # the kind of exception that stands for a replaced function
MOST_NUMBERS, MOST_TEXT, DEEPEST = 100_000, 300, 20  # of one result
MOST_PRINTED = 4000  # characters that are kept of what a program prints


class Printed(io.TextIOBase):
    """A stream that keeps its first characters and drops the others."""

    def __init__(self) -> None:
        super().__init__()
        self.text = ""

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        if len(self.text) < MOST_PRINTED:
            self.text += text[: MOST_PRINTED - len(self.text)]
        return len(text)


def encode(value: Any, depth: int = 0) -> Any:
    """Return a value as a tree."""
    import torch

    if value is None or type(value) is bool:
        return value
    if isinstance(value, float):
        return float(value)
    if type(value) is int and -(2**63) <= value < 2**63:
        return value
    if type(value) is str:
        return value[:MOST_TEXT]
    if type(value) in (torch.Tensor, torch.nn.Parameter):
        if value.numel() > MOST_NUMBERS:
            return {"other": f"tensor of {value.numel():,} numbers"}
        if value.is_complex() or value.layout != torch.strided or value.is_meta:
            return {"other": f"tensor of {value.dtype}, {value.layout} on {value.device}"}
        numbers = value.detach().to("cpu", torch.float64).contiguous().numpy().astype("<f8")
        return {"tensor": list(value.shape), "data": base64.b64encode(numbers.tobytes()).decode()}
    if isinstance(value, list | tuple | dict) and (depth >= DEEPEST or len(value) > MOST_NUMBERS):
        return {"other": f"{type(value).__name__[:MOST_TEXT]} of {len(value):,} items"}
    if isinstance(value, list | tuple):
        return {"list": [encode(item, depth + 1) for item in value]}
    if isinstance(value, dict) and {type(key) for key in value} <= {str}:
        return {"dict": {key[:MOST_TEXT]: encode(item, depth + 1) for key, item in value.items()}}
    return {"other": type(value).__name__[:MOST_TEXT]}


def raised(error: BaseException) -> dict[str, Any]:
    """Return an exception as a tree: its type, its message in one line, and the last line of the program it passed."""
    try:
        message = " ".join(str(error)[:10_000].split())[:MOST_TEXT]
    except BaseException:  # noqa: BLE001  a learner's own __str__
        message = ""
    lines = [
        line for frame, line in traceback.walk_tb(error.__traceback__) if frame.f_code.co_filename == PROGRAM
    ]
    line = lines[-1] if lines else None
    if isinstance(error, SyntaxError) and error.filename == PROGRAM:
        line, message = error.lineno, str(error.msg)[:MOST_TEXT]
    full = isinstance(error, MemoryError) or "can't allocate memory" in message
    kind = "MemoryError" if full else type(error).__name__[:MOST_TEXT]
    return {"raised": kind, "message": message, "line": line}


def libraries() -> dict[tuple[str, str], Any]:
    """Return what the tests use of Python and torch, by where it is: a program may not replace it.

    Imports what torch itself imports at a program's first optimizer, which replaces ``torch.manual_seed``, and at its
    first ``backward`` from a given gradient.
    """
    import builtins

    import torch
    import torch._dynamo
    import torch.fx.experimental.symbolic_shapes

    nn = torch.nn
    places = (builtins, torch, torch.linalg, torch.autograd, nn, nn.functional, nn.init)
    classes = (torch.Tensor, torch.Generator, nn.Module, nn.Linear, nn.Embedding, nn.LayerNorm, nn.Parameter)
    return {
        (place.__name__, name): value
        for place in (*places, *classes)
        for name, value in vars(place).items()
        if callable(value)
    }


def _replaced(before: Mapping[tuple[str, str], Any]) -> dict[str, Any] | None:
    """Return the tree for a program that has replaced something of the libraries; None if it has not."""
    after = libraries()
    place = next((place for place, value in before.items() if after.get(place) is not value), None)
    return None if place is None else {"raised": REPLACED, "message": ".".join(place), "line": None}


def results(cases: str, function: str, program: str) -> Iterator[dict[str, Any]]:
    """Yield of each case its ``name`` and ``result``, a program's tree, and last what it ``printed``.

    The cases are drawn before the program is run, so that it cannot change them. ``broken`` marks the result of a
    program that could not be run at all.
    """
    import torch

    space: dict[str, Any] = {"__name__": "cases"}
    exec(compile(cases, "<cases>", "exec"), space)
    drawn: list[tuple[str, Mapping[str, Any]]] = list(space["cases"](torch.Generator().manual_seed(SEED)))
    measure: Callable[..., Any] = space.get("measure", lambda answer, **arguments: answer(**arguments))
    own: dict[str, Any] = {"__name__": "program"}
    printed = Printed()
    before = libraries()
    with redirect_stdout(printed), redirect_stderr(printed):
        try:
            torch.manual_seed(SEED)
            exec(compile(program, PROGRAM, "exec"), own)
            own[function]
            broken = _replaced(before)
        except KeyError as error:
            broken = raised(error)
            if function not in own and broken["line"] is None:
                broken |= {"raised": "NameError", "message": f"the program does not define '{function}'"}
        except BaseException as error:  # noqa: BLE001  whatever the program raises is its result
            broken = raised(error)
        for name, arguments in drawn:
            tree = broken
            if tree is None:
                try:
                    torch.manual_seed(SEED)
                    tree = encode(measure(own[function], **arguments))
                    tree = _replaced(before) or tree
                except BaseException as error:  # noqa: BLE001
                    tree = raised(error)
            yield {"name": name, "result": tree, "broken": broken is not None}
    yield {"printed": printed.text}


def shown(program: str, examples: Iterable[str]) -> list[str]:
    """Return what the last expression of each example gives, as Python shows it."""
    import ast

    import torch

    own: dict[str, Any] = {"torch": torch}
    exec(compile(program, PROGRAM, "exec"), own)
    found = []
    for example in examples:
        torch.manual_seed(SEED)
        *first, last = ast.parse(example).body
        exec(compile(ast.Module(first, []), "<example>", "exec"), own)
        if not isinstance(last, ast.Expr):
            raise ValueError(f"the last line is no expression: {example.splitlines()[-1]}")
        found.append(repr(eval(compile(ast.Expression(last.value), "<example>", "eval"), own)))
    return found
