"""What the library says of itself: everything public is described, its errors and the shapes of its tensors are named.

A method without a docstring of its own has that of the base class whose method it carries out, as in ``help()``.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from peft_lab.core import errors

ROOT = Path(__file__).parents[1] / "peft_lab"
PACKAGES = ("methods", "engine", "training", "models", "studies", "advise", "drawing/trajectory")
FILES = [file for package in PACKAGES for file in sorted((ROOT / package).rglob("*.py"))]
assert all((ROOT / package).is_dir() for package in PACKAGES)
ERRORS = {name for name, found in vars(errors).items() if isinstance(found, type)}
TENSOR = re.compile(r"\bTensor\b")
SHAPE = re.compile(r"\bshapes?\b|dimension|\(\w+(, \w+)+\)|scalar|[Oo]ne number", re.ASCII)
Function = ast.FunctionDef | ast.AsyncFunctionDef
Named = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


@dataclass(frozen=True)
class Public:
    """Something public of a module. ``path``: the classes that it is in, then its name."""

    path: tuple[str, ...]
    node: Named

    @property
    def name(self) -> str:
        return ".".join(self.path)


def public(body: list[ast.stmt], inside: tuple[str, ...] = ()) -> Iterator[Public]:
    for node in body:
        if isinstance(node, Named) and not node.name.startswith("_"):
            yield Public((*inside, node.name), node)
            if isinstance(node, ast.ClassDef):
                yield from public(node.body, (*inside, node.name))


def classes(trees: list[ast.Module]) -> dict[str, list[ast.ClassDef]]:
    found: dict[str, list[ast.ClassDef]] = {}
    for tree in trees:
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                found.setdefault(node.name, []).append(node)
    return found


CLASSES = classes([ast.parse(file.read_text(encoding="utf-8")) for file in FILES])


def bases(node: ast.ClassDef) -> Iterator[ast.ClassDef]:
    for base in node.bases:
        name = ast.unparse(base).split("[")[0].split(".")[-1]
        for found in CLASSES.get(name, ()) if name != node.name else ():  # torch.nn.Linear has a namesake
            yield found
            yield from bases(found)


def described(found: Public, owner: ast.ClassDef | None) -> str:
    """The docstring, or that of the method that this one carries out; with none, an empty text."""
    text = ast.get_docstring(found.node)
    for base in () if text or owner is None else bases(owner):
        for node in base.body:
            if isinstance(node, Function) and node.name == found.node.name:
                text = text or ast.get_docstring(node)
    return text or ""


def raised(node: Function) -> set[str]:
    """The project's errors that a function raises itself, not inside another function."""
    found: set[str] = set()
    parts: list[ast.AST] = [*node.body]
    while parts:
        part = parts.pop()
        if isinstance(part, Function | ast.Lambda | ast.ClassDef):
            continue
        if isinstance(part, ast.Raise) and part.exc is not None:
            made = part.exc.func if isinstance(part.exc, ast.Call) else part.exc
            found |= {ast.unparse(made).split(".")[-1]} & ERRORS
        parts += ast.iter_child_nodes(part)
    return found


def takes_or_gives_tensors(node: Function) -> bool:
    given = (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)
    types = [each.annotation for each in given if each.annotation] + [node.returns] * (
        node.returns is not None
    )
    return any(TENSOR.search(ast.unparse(each)) for each in types if each)


def lacking(source: str) -> list[str]:
    """What a module's docstrings leave out, a line for each."""
    lines, owners = [], {}
    for found in public(ast.parse(source).body):
        if isinstance(found.node, ast.ClassDef):
            owners[found.path] = found.node
        text = described(found, owners.get(found.path[:-1]))
        if not text:
            lines.append(f"{found.name} has no docstring")
        elif isinstance(found.node, Function):
            told = text.partition("Raises")[2]
            lines += [
                f"{found.name} does not name {error} under Raises"
                for error in sorted(raised(found.node))
                if error not in told
            ]
            if takes_or_gives_tensors(found.node) and not SHAPE.search(text):
                lines.append(f"{found.name} does not say the shapes of its tensors")
    return lines


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_everything_public_says_what_it_is_and_what_it_raises(file: Path) -> None:
    assert lacking(file.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("def f(): pass", "f has no docstring"),
        ("class A:\n    'A.'\n    def f(self): pass", "A.f has no docstring"),
        ("class Made(MethodSpec):\n    'A.'\n    def anew(self): pass", "Made.anew has no docstring"),
        ("def f():\n    'F.'\n    raise BadInput('no')", "f does not name BadInput under Raises"),
        (
            "def f():\n    'BadInput.'\n    if g():\n        raise errors.BadInput",
            "f does not name BadInput under Raises",
        ),
        ("def f(x: torch.Tensor):\n    'F.'", "f does not say the shapes of its tensors"),
    ],
)
def test_what_is_left_out_is_found(source: str, message: str) -> None:
    assert lacking(source) == [message]


@pytest.mark.parametrize(
    "source",
    [
        "def _f(): pass",
        "class Made(MethodSpec):\n    'A.'\n    def formula(self, shape, values): pass",
        "def f():\n    '''F.\n\n    Raises:\n        BadInput: always.'''\n    raise BadInput('no')",
        "def f():\n    'F.'\n    def inner():\n        raise BadInput\n    raise ValueError",
        "def f(x: torch.Tensor):\n    'Of shape (rows, width).'",
    ],
)
def test_what_is_said_is_not_asked_for(source: str) -> None:
    assert lacking(source) == []
