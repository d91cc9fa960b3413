"""Run a program over an exercise's cases, and give the results back as plain trees. Imports nothing of this package.

A tree is JSON: numbers, strings, truth values and null as they are, ``{"list": [...]}`` for lists and tuples,
``{"dict": {...}}``, ``{"tensor": shape, "data": base64}`` with float64 values, ``{"raised": type, ...}`` for an
exception, and ``{"other": type}`` for anything else.
"""

from __future__ import annotations

import base64
import io
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping
from typing import Any

SEED = 20261130
PROGRAM = "<your program>"  # the file's name in tracebacks
MOST_NUMBERS, MOST_TEXT, DEEPEST = 100_000, 300, 20  # of one result
_PRINTED = 4000  # characters that are kept of what a program prints


class Printed(io.TextIOBase):
    """A stream that keeps its first characters and drops the others."""

    def __init__(self) -> None:
        super().__init__()
        self.text = ""

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        if len(self.text) < _PRINTED:
            self.text += text[: _PRINTED - len(self.text)]
        return len(text)


def encode(value: Any, depth: int = 0) -> Any:
    """Return a value as a tree."""
    import torch

    if value is None or type(value) in (bool, float):
        return value
    if type(value) is int and -(2**63) <= value < 2**63:
        return value
    if type(value) is str:
        return value[:MOST_TEXT]
    if isinstance(value, torch.Tensor):
        if value.numel() > MOST_NUMBERS:
            return {"other": f"tensor of {value.numel():,} numbers"}
        if value.is_complex() or value.layout != torch.strided or value.is_meta:
            return {"other": f"tensor of {value.dtype}, {value.layout} on {value.device}"}
        numbers = value.detach().to("cpu", torch.float64).contiguous()
        return {
            "tensor": list(numbers.shape),
            "data": base64.b64encode(numbers.numpy().astype("<f8").tobytes()).decode(),
        }
    if depth < DEEPEST and type(value) in (list, tuple):
        if len(value) > MOST_NUMBERS:
            return {"other": f"{type(value).__name__} of {len(value):,} items"}
        return {"list": [encode(item, depth + 1) for item in value]}
    if (
        depth < DEEPEST
        and type(value) is dict
        and len(value) <= MOST_NUMBERS
        and all(type(key) is str for key in value)
    ):
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
    kind = (
        "OutOfMemory"
        if isinstance(error, MemoryError) or "can't allocate memory" in message
        else type(error).__name__
    )
    return {"raised": kind[:MOST_TEXT], "message": message, "line": line}


def results(cases: str, function: str, program: str) -> dict[str, Any]:
    """Return the results of a program: ``cases``, the names and trees of all cases, and ``printed``.

    The cases are drawn before the program is run, so that it cannot change them.
    """
    import torch

    space: dict[str, Any] = {"__name__": "cases"}
    exec(compile(cases, "<cases>", "exec"), space)
    drawn: Iterable[tuple[str, Mapping[str, Any]]] = list(space["cases"](torch.Generator().manual_seed(SEED)))
    measure: Callable[..., Any] = space.get("measure", lambda answer, **arguments: answer(**arguments))
    sentinel, printed = object(), Printed()
    found: list[dict[str, Any]] = []
    broken = None
    own: dict[str, Any] = {"__name__": "program"}
    before = sys.stdout, sys.stderr
    sys.stdout = sys.stderr = printed
    try:
        try:
            torch.manual_seed(SEED)
            exec(compile(program, PROGRAM, "exec"), own)
            if own.get(function, sentinel) is sentinel:
                broken = {
                    "raised": "NameError",
                    "message": f"the program defines no '{function}'",
                    "line": None,
                }
        except BaseException as error:  # noqa: BLE001  whatever the program raises is its result
            broken = raised(error)
        for name, arguments in drawn:
            tree = broken
            if tree is None:
                try:
                    torch.manual_seed(SEED)
                    tree = encode(measure(own[function], **arguments))
                except BaseException as error:  # noqa: BLE001
                    tree = raised(error)
            found.append({"name": name, "result": tree})
    finally:
        sys.stdout, sys.stderr = before
    return {"cases": found, "printed": printed.text, "broken": broken is not None}


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
