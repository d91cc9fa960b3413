"""What a machine can see of bad English in the texts that the package can show: '1 stops', a word twice in a row."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
FILES = [file for folder in ("peft_lab", "pages") for file in sorted((ROOT / folder).rglob("*.py"))]
CONTENT = sorted((ROOT / "peft_lab").rglob("*.yaml"))
#: The pattern, and a text that has the fault. A placeholder reads as ``{}``.
FAULTS = {
    "a plural after one": (
        r"\b(?:1|[Oo]ne) (?:stops|rows|runs|seeds|steps|tokens|tasks|methods|models|questions|layers)\b(?!')",
        "1 stops visited",
    ),
    "a word twice": (r"\b(?!(?:that|had|per)\b)([A-Za-z]{2,}) \1\b", "of the the path"),
    "'is no' for 'is not a'": (
        r"\b(?:is|are|holds) no (?:whole|number|valid|text|path|file)\b",
        "it is no number",
    ),
    "a space before a stop": (r"[a-z] [.,;:](?: |$)", "stopped , then"),
    "a space too many": (r"[a-z,;:] {2,}[a-zA-Z]", "then  stopped"),
    "emoji": (r"[\U0001F300-\U0001FAFF]", "well done \N{PARTY POPPER}"),
}
#: Stylesheets, scripts, drawings, queries, formulas, patterns and code are no sentences.
NO_PROSE = re.compile(r"<svg|</|\{\n|=>|SELECT|INSERT|\\text|\\cdot|\(\?|def |import | = |M\{\}")


def texts(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield every sentence of a module but its docstrings, with the places for values as ``{}``."""
    silent = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        text = ""
        if isinstance(node, ast.JoinedStr):
            silent |= {id(part) for part in node.values}
            text = "".join(
                str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values
            )
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in silent:
            text = node.value
        if " " in text and not NO_PROSE.search(text):
            yield getattr(node, "lineno", 0), text


def scalars(file: Path) -> Iterator[tuple[int, str]]:
    """Yield every text of a content file with its line."""
    for event in yaml.parse(file.read_text("utf-8"), Loader=yaml.CSafeLoader):
        if isinstance(event, yaml.ScalarEvent) and " " in event.value and not NO_PROSE.search(event.value):
            yield event.start_mark.line + 1, event.value


def test_the_patterns_see_their_faults() -> None:
    assert [fault for fault, (pattern, example) in FAULTS.items() if not re.search(pattern, example)] == []


def test_no_text_has_a_fault() -> None:
    seen = [
        (f"{file.relative_to(ROOT)}:{line}", fault, text)
        for file in (*FILES, *CONTENT)
        for line, text in (scalars(file) if file in CONTENT else texts(ast.parse(file.read_text("utf-8"))))
        for fault, (pattern, _) in FAULTS.items()
        if re.search(pattern, text)
    ]
    assert seen == []


def test_what_is_learned_is_spelled_in_one_way() -> None:
    """In docstrings and comments too: ``learned`` was the more frequent form."""
    seen = [file for file in (*FILES, *CONTENT) if re.search(r"[Ll]earnt\b", file.read_text("utf-8"))]
    assert seen == []
