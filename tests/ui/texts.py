"""Every text that ``peft_lab/ui`` hands to Streamlit as Markdown, taken apart down to what it is put together from.

A part is the app's own where the code shows it: written out, a constant, a number, or through a function that makes
text safe or makes none but its own. What the code does not show stands in ``own_texts.txt``, one line a part, after
somebody has looked where it comes from.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

UI = Path(__file__).parents[2] / "peft_lab/ui"
# Streamlit's elements that read Markdown, and which of their arguments: a position or a name.
FIRST = (0, "body", "label", "help", "text", "title")
_TEXTS = """
    markdown caption write title header subheader toast button expander popover tabs checkbox toggle radio pills
    segmented_control selectbox multiselect select_slider slider text_input text_area number_input file_uploader
    download_button form_submit_button link_button badge success info warning error spinner status dialog html latex
    chat_message
"""
READS: dict[str, tuple[int | str, ...]] = {
    **dict.fromkeys(_TEXTS.split(), FIRST),
    "metric": (0, 1, 2, "label", "value", "delta", "help"),
    "progress": (1, "text"),
    "page_link": ("label", "help"),
    "image": (1, "caption"),
    "card": (0, 2, 3, 4, "label", "note", "text", "absent"),  # figures.card
}
# The same for functions of the app's own that hand on what they are given.
HAND_ON: dict[str, tuple[int | str, ...]] = {
    "shown": (2, "doing"), "choose": (2, "label", "text"), "link": (1, "label"), "open_button": (2, 4, "label", "link"),
}  # fmt: skip
# Functions that make foreign text safe, or make no text but their own.
MAKE_SAFE = {
    "plain",
    "code",
    "links.filled",
    "foreign.plain",
    "table.html_table",
    "html.escape",
    "form.error_line",
}
_FIGURES = (
    "badge len int float min max sum round count size seconds roughly span coarse percent titles topic_title"
)
_SAME = "str strip rstrip capitalize lower upper replace removesuffix sorted list tuple dict items values keys fromkeys"
OF_FIGURES, SAME_TEXT = set(_FIGURES.split()), set(_SAME.split())
NUMBERS = {"int", "float", "bool", "Source", "int | None", "float | None", "Source | str"}


@dataclass
class Scope:
    """A function, what is assigned in it, and the module around it."""

    file: str
    node: ast.AST
    module: dict[str, ast.AST]
    busy: set[str] = field(default_factory=set)

    def assigned(self, name: str) -> list[ast.AST] | None:
        """What ``name`` may be here; ``None`` where that cannot be told."""
        found: list[ast.AST] = []
        for node in ast.walk(self.node):
            if isinstance(node, ast.Assign):
                for target in node.targets:
                    if isinstance(target, ast.Name) and target.id == name:
                        found.append(node.value)
                    elif isinstance(target, ast.Tuple) and name in [
                        getattr(each, "id", "") for each in target.elts
                    ]:
                        index = [getattr(each, "id", "") for each in target.elts].index(name)
                        if not isinstance(node.value, ast.Tuple):
                            return None
                        found.append(node.value.elts[index])
            elif isinstance(node, ast.AnnAssign | ast.AugAssign | ast.NamedExpr):
                if isinstance(node.target, ast.Name) and node.target.id == name and node.value is not None:
                    found.append(node.value)
            elif isinstance(node, ast.For | ast.comprehension) and name in _names(node.target):
                if not isinstance(node.target, ast.Name):
                    return _of_tuples(node, name)
                if not isinstance(node.iter, ast.Tuple | ast.List):
                    return None
                found += node.iter.elts
            elif isinstance(node, ast.ExceptHandler) and node.name == name:
                return None
            elif _adds_to(node, name):
                found.append(node.args[-1])  # type: ignore[attr-defined]
        return found or None

    def annotation(self, name: str) -> str:
        for node in ast.walk(self.node):
            if isinstance(node, ast.FunctionDef):
                for each in (*node.args.args, *node.args.kwonlyargs):
                    if each.arg == name and each.annotation is not None:
                        return ast.unparse(each.annotation)
        return ""


def _adds_to(node: ast.AST, name: str) -> bool:
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
        return False
    return node.func.attr in ("append", "insert") and getattr(node.func.value, "id", "") == name


def _names(target: ast.AST) -> list[str]:
    return [node.id for node in ast.walk(target) if isinstance(node, ast.Name)]


def _of_tuples(node: ast.For | ast.comprehension, name: str) -> list[ast.AST] | None:
    """The parts that a loop over written-out tuples gives to ``name``; a counter of ``enumerate`` is a number."""
    if isinstance(node.iter, ast.Call) and getattr(node.iter.func, "id", "") == "enumerate":
        return [ast.Constant(0)] if _names(node.target)[0] == name else None
    if not isinstance(node.iter, ast.Tuple | ast.List) or not isinstance(node.target, ast.Tuple):
        return None
    index = [getattr(each, "id", "") for each in node.target.elts].index(name)
    rows = [
        row for row in node.iter.elts if isinstance(row, ast.Tuple) and len(row.elts) == len(node.target.elts)
    ]
    return [row.elts[index] for row in rows] if len(rows) == len(node.iter.elts) else None


def doubtful(node: ast.AST, scope: Scope) -> Iterator[str]:
    """The parts of a text of which the code does not show that they are the app's own."""
    match node:
        case ast.Constant():
            pass
        case ast.JoinedStr():
            for part in node.values:
                if isinstance(part, ast.FormattedValue) and not part.format_spec:
                    yield from doubtful(part.value, scope)
        case ast.IfExp():
            yield from (*doubtful(node.body, scope), *doubtful(node.orelse, scope))
        case ast.BinOp() if isinstance(node.op, ast.Add | ast.Mod):
            yield from (*doubtful(node.left, scope), *doubtful(node.right, scope))
        case ast.BinOp() | ast.Compare() | ast.UnaryOp():
            pass  # arithmetic
        case ast.BoolOp() | ast.List() | ast.Tuple() | ast.Set():
            for each in node.values if isinstance(node, ast.BoolOp) else node.elts:
                yield from doubtful(each, scope)
        case ast.GeneratorExp() | ast.ListComp() | ast.SetComp():
            yield from doubtful(node.elt, scope)
        case ast.Starred():
            yield from doubtful(node.value, scope)
        case ast.Dict():
            for each in node.values:
                yield from doubtful(each, scope)
        case ast.Call():
            yield from _of_call(node, scope)
        case ast.Subscript() if _is_constant(node.value):
            pass
        case ast.Subscript() if isinstance(node.value, ast.Call) and _last(node.value.func) == "titles":
            pass
        case ast.Name() | ast.Attribute() if _is_constant(node):
            pass
        case ast.Name():
            yield from _of_name(node.id, scope)
        case _:
            yield ast.unparse(node)


def _is_constant(node: ast.AST) -> bool:
    return _last(node).strip("_").isupper()


def _last(node: ast.AST) -> str:
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


def _of_call(node: ast.Call, scope: Scope) -> Iterator[str]:
    name = _last(node.func)
    if ast.unparse(node.func) in MAKE_SAFE or name in OF_FIGURES:
        return
    if name == "join":
        yield from doubtful(node.args[0], scope)
    elif name in SAME_TEXT and isinstance(node.func, ast.Attribute):
        for each in (node.func.value, *node.args[1:]):
            yield from doubtful(each, scope)
    elif name in SAME_TEXT and node.args:
        yield from doubtful(node.args[0], scope)
    elif isinstance(node.func, ast.Name) and isinstance(scope.module.get(name), ast.FunctionDef):
        inner = Scope(scope.file, scope.module[name], scope.module, scope.busy)
        if name not in scope.busy:
            scope.busy.add(name)
            for part in ast.walk(inner.node):
                if isinstance(part, ast.Return | ast.Yield) and part.value is not None:
                    yield from doubtful(part.value, inner)
            scope.busy.discard(name)
    else:
        yield ast.unparse(node)


def _of_name(name: str, scope: Scope) -> Iterator[str]:
    if scope.annotation(name) in NUMBERS:
        return
    values = scope.assigned(name)
    if values is None or name in scope.busy:
        yield name if values is None else ""
        return
    scope.busy.add(name)
    for value in values:
        yield from doubtful(value, scope)
    scope.busy.discard(name)


def shown(file: Path) -> Iterator[tuple[int, str, str]]:
    """Line, name and the doubtful parts of every text that a module hands to Streamlit."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    module: dict[str, ast.AST] = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    imported = {
        alias.asname or alias.name.split(".")[-1]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    } - {"st"}
    within = {id(node) for function in module.values() for node in ast.walk(function)}
    for function in [*module.values(), tree]:
        for node in ast.walk(function):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute | ast.Name):
                continue
            inside = function is not tree or id(node) not in within
            name, method = _last(node.func), isinstance(node.func, ast.Attribute)
            foreign_module = method and _root(node.func) in imported and name != "card"
            read = (READS | HAND_ON if method else HAND_ON).get(name)
            if inside and read and (name in HAND_ON or not foreign_module):
                scope = Scope(file.name, function, module)
                for text in _texts(node, read):
                    for part in doubtful(text, scope):
                        if part:
                            yield node.lineno, name, part


def _root(node: ast.AST) -> str:
    while isinstance(node, ast.Attribute):
        node = node.value
    return getattr(node, "id", "")


def _texts(node: ast.Call, which: tuple[int | str, ...]) -> Iterator[ast.AST]:
    for index, argument in enumerate(node.args):
        if index in which:
            yield argument
    for keyword in node.keywords:
        if keyword.arg in which:
            yield keyword.value


@cache
def all_shown() -> dict[str, list[str]]:
    """For every doubtful part, as ``file: expression``, where it is shown."""
    found: dict[str, list[str]] = {}
    for file in sorted(UI.rglob("*.py")):
        name = file.relative_to(UI).as_posix()
        for line, element, part in shown(file):
            found.setdefault(f"{name}: {part}", []).append(f"{name}:{line} in {element}")
    return found


if __name__ == "__main__":
    print("\n".join(all_shown()))
