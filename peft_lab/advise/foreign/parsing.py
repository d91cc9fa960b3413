"""Take a config file apart into keys and values, with their lines. Nothing in the file is run.

YAML and JSON are loaded as data. Of Python files and notebooks only literal arguments of calls are taken, of shell
scripts only the options of a command.
"""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, NamedTuple

import yaml

from peft_lab.core import disk
from peft_lab.core.errors import BadInput, echoed

FIELD = "file"
#: The most characters of a file. A notebook holds its outputs too.
MOST, MOST_NOTEBOOK = 256 << 10, 8 << 20
_DEEPEST, _MOST_WORDS, _LONGEST = 40, 20_000, 1_000
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
#: Calls that load, wrap or train a model; not those of like names that do something else.
_CALLS = re.compile(
    r"(?!Auto(Tokenizer|Processor|Config|Feature)|(.*\.)?(Stream|Generation|Sampling|Data)\w*$)"
    r".*?(from_pretrained|get_peft_model|Config|Trainer|TrainingArguments)"
)
_VARIABLE = re.compile(r"\$\{(\w+)(?::?-([^}]*))?\}|\$(\w+)")
_OPTION = re.compile(r"--(\w[\w-]*)(?:=(.*))?", re.DOTALL)


class Entry(NamedTuple):
    """A value as the file has it. ``line``: 0 if unknown. ``literal``: False if only running the file would tell it."""

    value: Any
    line: int = 0
    literal: bool = True


@dataclass(frozen=True)
class Parsed:
    """A file's entries by dotted key; of code also its command, or what it imports and calls, which tells the tool."""

    entries: Mapping[str, Entry]
    words: str | None = None


def parse(text: str, name: str) -> Parsed:
    """Return the keys and values of a file; the ending of its name decides how it is read. Raises BadInput if it is too
    large, not in its language, or uses what is not read here; with the line where known."""
    ending = PurePath(name).suffix.lower()
    most = MOST_NOTEBOOK if ending == ".ipynb" else MOST
    if len(text) > most:
        raise BadInput(f"The file has {len(text):,} characters, but at most {most:,} are read.", FIELD)
    readers: dict[str, Callable[[str], Parsed]] = {".ipynb": _notebook, ".sh": _shell}
    readers[".py"] = lambda code: _of_calls([ast.parse(code)])
    try:
        found = readers.get(ending, _data)(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line, why = mark.line + 1 if mark else 1, echoed(getattr(error, "problem", error), 120)
        raise BadInput(
            f"Line {line} is not valid {'JSON' if ending == '.json' else 'YAML'}: {why}.", FIELD
        ) from None
    except SyntaxError as error:
        raise BadInput(f"Line {error.lineno or 1} is not valid Python: {error.msg}.", FIELD) from None
    except (
        ValueError,
        RecursionError,
        MemoryError,
    ) as error:  # the last is Python's for code too deep to parse
        raise BadInput(f"The file cannot be read: {echoed(error, 120)}.", FIELD) from None
    if not found.entries:
        raise BadInput("The file sets nothing: it has no keys with values.", FIELD)
    return found


def _data(text: str) -> Parsed:
    """Return the entries of YAML, or of JSON, which is YAML without tabs."""
    text = text.expandtabs()
    depth = 0
    for count, event in enumerate(yaml.parse(text, _LOADER)):  # before anything is built
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        place = f"Line {event.start_mark.line + 1}"
        if isinstance(event, yaml.AliasEvent):
            raise BadInput(
                f"{place} repeats a part by a YAML alias (*{echoed(event.anchor)}). Replace the alias by the part "
                "itself.",
                FIELD,
            )
        if depth > _DEEPEST or count > _MOST_WORDS:
            raise BadInput(f"{place}: the file has too many parts, or is nested too deeply.", FIELD)
    loader = _LOADER(text)
    try:
        node = loader.get_single_node()
        if node is not None and not isinstance(node, yaml.MappingNode):
            raise BadInput("The file has no keys at its top level, so it is not a config.", FIELD)
        return Parsed({} if node is None else dict(_flat(loader, node)))
    finally:
        loader.dispose()


def _flat(loader: Any, node: yaml.MappingNode, before: str = "") -> Iterator[tuple[str, Entry]]:
    for key, value in node.value:
        name = f"{before}{key.value}"
        if isinstance(value, yaml.MappingNode) and value.value:
            yield from _flat(loader, value, f"{name}.")
            continue
        line = key.start_mark.line + 1
        try:
            yield name, Entry(loader.construct_object(value, deep=True), line)
        except ValueError as error:  # a number of thousands of digits, a month 13
            raise BadInput(
                f"Line {line}: {echoed(name)} cannot be read: {echoed(error, 60)}.", FIELD
            ) from None


def _notebook(text: str) -> Parsed:
    content = disk.parse_json(text)
    cells = content.get("cells") if isinstance(content, dict) else None
    trees, size = list[ast.Module](), 0
    for cell in cells if isinstance(cells, list) else ():
        if isinstance(cell, dict) and cell.get("cell_type") == "code":
            code = "".join(map(str, cell.get("source") or ()))
            size += len(code)
            if size > MOST:
                raise BadInput(f"The notebook has more than {MOST:,} characters of code.", FIELD)
            try:
                trees.append(ast.parse(re.sub(r"(?m)^(\s*)[%!].*", r"\1pass", code)))
            except SyntaxError:  # a cell in another language: the others can be read
                continue
    return _of_calls(trees, False)


def _of_calls(trees: list[ast.Module], lines: bool = True) -> Parsed:
    """Return the arguments of calls, of a repeated argument the first; those in nested blocks come last."""
    known, found, named = dict[str, ast.expr](), dict[str, Entry](), set[str]()
    for node in (node for tree in trees for node in ast.walk(tree)):
        if isinstance(node, ast.ImportFrom):
            named.add(node.module or "")
        elif isinstance(node, ast.Import):
            named.update(one.name for one in node.names)
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            known.setdefault(node.targets[0].id, node.value)
        elif isinstance(node, ast.Call):
            name = ".".join(ast.unparse(node.func).split(".")[-2:])
            if not _CALLS.fullmatch(name):
                continue
            named.add(name)
            first = node.args[:1] if name.endswith("from_pretrained") else []
            for one in (*(ast.keyword("model_name", value) for value in first), *node.keywords):
                if one.arg and not (
                    isinstance(one.value, ast.Call) and _CALLS.search(ast.unparse(one.value.func))
                ):
                    literal, value = _literal(one.value, known)
                    found.setdefault(one.arg, Entry(value, one.value.lineno if lines else 0, literal))
    return Parsed(found, " ".join(sorted(named)))


def _literal(node: ast.expr, known: Mapping[str, ast.expr]) -> tuple[bool, Any]:
    """Return whether an expression is a literal, a name of one or a dtype of torch; and its value, or its text."""
    if isinstance(node, ast.Name) and node.id in known:
        node = known[node.id]
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "torch":
        return True, node.attr
    try:
        return True, ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return False, echoed(ast.unparse(node))


def _shell(text: str) -> Parsed:
    """Return the options of the command that has most of them, with the variables that the script sets."""
    known, best, line = dict[str, str](), Parsed({}), 1
    for command in re.split(r"(?<!\\)\n", text):
        start, line = line, line + command.count("\n") + 1
        try:
            parts = shlex.split(command.replace("\\\n", " "), comments=True)
        except ValueError:  # a part of a block in another language
            continue
        words = [
            _VARIABLE.sub(lambda one: known.get(one[1] or one[3], one[2] or one[0]), part) for part in parts
        ]
        while words and re.fullmatch(r"\w+=.*", words[0]):
            name, _, value = words.pop(0).partition("=")
            known[name] = value[:_LONGEST]  # values of values could double without end
        options = {name: Entry(value, start) for name, value in _options(words)}
        if words and len(options) >= len(best.entries):
            best = Parsed(options, " ".join(words))
    return best


def _options(words: list[str]) -> Iterator[tuple[str, Any]]:
    """Yield options with their values: true for a switch, a list for several words."""
    found, taking = dict[str, list[str]](), list[str]()
    for word in words:
        option = _OPTION.fullmatch(word)
        if option:
            taking = found[option[1].replace("-", "_")] = [] if option[2] is None else [option[2]]
        if (option and option[2] is not None) or word.endswith(".py"):
            taking = []  # what follows is none of its values
        elif not option:
            taking.append(word)
    said = {"true": True, "false": False, "none": None}
    for name, values in found.items():
        yield name, said.get(values[0].lower(), values[0]) if len(values) == 1 else values or True
