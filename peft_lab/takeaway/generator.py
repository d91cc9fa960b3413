"""Write files from the templates of this folder: each reads as the file that it writes (``templates/README.md``).

:func:`fill` renders a template. A script's template is a docstring and cells; :func:`as_script` and
:func:`as_notebook` lay them out.
"""

from __future__ import annotations

import html
import importlib
import inspect
import json
import re
import sys
import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peft_lab.training.tasks.base import Row

if TYPE_CHECKING:
    from jinja2 import Environment

TEMPLATES = Path(__file__).parent / "templates"
WIDTH = 100
ROW_MARK = "#| "

# ----------------------------------------
# What templates call.

#: A docstring's cross-reference to this package, which a written file does not have.
_ROLE = re.compile(r":(?:func|class|mod|meth|data):`~?(?:[\w.]+\.)?(\w+)`")
#: Annotations that a written file does without, with their replacements.
_ELSEWHERE = {
    "PreTrainedTokenizerBase": "Any", "Follow": "Any", "AbstractContextManager[Phase]": "Any",
    ": ModelShape": ": Any", ": Batch": ": Any",
}  # fmt: skip


def part(path: str) -> Any:
    """Return a function, class or constant of this package by its path, such as ``training.step.train_step``."""
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(f"peft_lab.{module}"), name)


def printed(*parts: Any) -> str:
    """Return the source of functions and classes, given themselves or by path, two blank lines between them."""
    return "\n\n".join(_source(part(one) if isinstance(one, str) else one) for one in parts).rstrip("\n")


@cache
def _source(of: Any) -> str:
    source = inspect.getsource(of)
    for name, other in _ELSEWHERE.items():
        source = source.replace(name, other)
    return _ROLE.sub(r"``\1``", source)


def constants(*paths: str) -> str:
    """Return a line ``NAME = value`` for each constant, by path."""
    return "\n".join(f"{path.rpartition('.')[2]} = {part(path)!r}" for path in paths)


def literal(value: Any) -> str:
    """Return a plain value as Python text, strings in double quotes. Raises TypeError if the value has no such text."""
    if value is None or isinstance(value, bool | int | float):
        return repr(value)
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(literal, value))}]"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{literal(key)}: {literal(item)}' for key, item in value.items())}}}"
    raise TypeError(f"a {type(value).__name__} cannot be written as a literal")


def _wrapped(text: str, label: str = "") -> str:
    """Return a paragraph wrapped to :data:`WIDTH`; a ``label`` has a column of its own, beside the first line."""
    if not label:
        return textwrap.fill(text.strip().replace("\n", " "), WIDTH) + "\n"
    lines = textwrap.wrap(
        text.strip().replace("\n", " "), WIDTH - 8, break_on_hyphens=False, break_long_words=False
    )
    return "".join(f"{'' if number else label:8}{line}\n" for number, line in enumerate(lines))


@cache
def _templates() -> Environment:
    import yaml
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    made = Environment(
        loader=FileSystemLoader(TEMPLATES),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.globals.update(part=part, printed=printed, constants=constants)
    made.filters.update(
        literal=literal,
        wrapped=_wrapped,
        on_one_line=lambda text: " ".join(text.split("\n")),  # a line break would end a comment
        thousands="{:,}".format,
        cell=lambda value: " ".join(str(value).split()).replace("|", r"\|"),
        json=json.dumps,
        html=html.escape,
        yaml=lambda value: yaml.safe_dump(value, allow_unicode=True).removesuffix("...\n").strip(),
    )
    return made


def fill(template: str, **context: Any) -> str:
    """Return the text of a template. Raises jinja2.UndefinedError for a name that is not in the ``context``."""
    return _templates().get_template(template).render(context)


# ----------------------------------------
# From a template's text to a file.


@dataclass(frozen=True)
class NotebookCell:
    """One step of a script.

    Attributes:
        prose: why it is done this way, on one line; a comment or a text cell.
        folded: whether a notebook initially hides the code.
    """

    title: str
    prose: str
    code: str
    folded: bool


_CELL = re.compile(r"^# %% (.*)\n", re.MULTILINE)
_FOLDED = " [folded]"
_PROSE = re.compile(r"(?:#.*\n)*")
_IMPORTS = re.compile(r"^(?:(?:import [\w.]+|from [\w.]+ import [\w, ]+)\n)+\n*", re.MULTILINE)


def hoisted(text: str) -> tuple[str, str]:
    """Return the import statements of code, merged and sorted, the standard library first; and the code without."""
    modules: dict[str, set[str]] = {}
    for line in "".join(_IMPORTS.findall(text)).splitlines():
        words = line.split(maxsplit=3)
        if words and words[0] == "import":
            modules.setdefault(words[1], set()).add("")
        elif words:
            modules.setdefault(words[1], set()).update(words[3].split(", "))
    groups: list[list[str]] = [[], []]
    for module, names in sorted(modules.items()):
        lines = [f"import {module}"] if "" in names else []
        if names - {""}:
            lines.append(f"from {module} import {', '.join(sorted(names - {''}))}")
        groups[module.split(".")[0] not in sys.stdlib_module_names] += lines
    ordered = [sorted(group, key=lambda line: (line.startswith("from"), line)) for group in groups]
    return "\n\n".join("\n".join(group) for group in ordered if group), _IMPORTS.sub("", text)


def with_imports(text: str) -> str:
    """Return code that is not a file of its own, with its imports at the top."""
    imports, code = hoisted(text)
    return f"{imports}\n\n{code}"


def _read(text: str) -> tuple[str, str, list[NotebookCell]]:
    """Return a script template's text as its docstring, its imports and its cells."""
    head, *rest = _CELL.split(text)
    imports, cells = "", []
    everything = "".join(rest[1::2])
    imports, _ = hoisted(everything)
    for title, body in zip(rest[::2], rest[1::2], strict=True):
        prose = _PROSE.match(body)
        assert prose is not None
        lines = (line[1:].removeprefix(" ") for line in prose[0].split("\n"))
        code = hoisted(body[prose.end() :])[1].strip()
        cells.append(
            NotebookCell(title.removesuffix(_FOLDED), " ".join(lines).strip(), code, title.endswith(_FOLDED))
        )
    return head.strip().removeprefix('"""').removesuffix('"""').strip(), imports, cells


def as_script(text: str, rows: Iterable[Row] = ()) -> str:
    """Return a rendered template as one file: its docstring, all imports, the cells, the rows as comments."""
    header, imports, cells = _read(text)
    docstring = header.replace("\\", "\\\\").replace('"', '\\"')
    parts = [f'"""{docstring}\n"""\n\n{imports}\n']
    for cell in cells:
        rule = f"# -- {cell.title} ".ljust(WIDTH, "-")
        prose = textwrap.fill(cell.prose, WIDTH, initial_indent="# ", subsequent_indent="# ")
        parts.append(f"{rule}\n{prose}\n\n{cell.code}\n")
    parts.append("".join(f"{ROW_MARK}{line}\n" for line in row_lines(rows)))
    return "\n\n".join(parts)


def as_notebook(text: str, identity: str) -> str:
    """Return a rendered template cell by cell, as the JSON text of a notebook. Raises nbformat.ValidationError if the
    result is not a valid notebook, which is a bug."""
    import nbformat
    from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

    header, imports, cells = _read(text)
    title, _, rest = header.partition("\n")
    made = [
        new_markdown_cell(f"# {title}\n\n```text\n{rest.strip()}\n```", id="about"),
        new_code_cell(imports, id="imports"),
    ]
    for number, cell in enumerate(cells, start=1):
        made.append(new_markdown_cell(f"## {cell.title}\n\n{cell.prose}", id=f"text-{number}"))
        metadata = {"jupyter": {"source_hidden": True}} if cell.folded else {}
        made.append(new_code_cell(cell.code, id=f"code-{number}", metadata=metadata))
    book = new_notebook(
        cells=made,
        metadata={
            "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
            "language_info": {"name": "python"},
            "peft_lab": {"run": identity},
        },
    )
    nbformat.validate(book)
    return nbformat.writes(book) + "\n"


def row_lines(rows: Iterable[Row]) -> list[str]:
    """Return one JSON list ``["text", "target"]`` for each row; for a chat, its turns in place of the text.
    JSON escapes line breaks, so each is one line."""
    return [json.dumps([row.turns or row.text, row.target], ensure_ascii=False) for row in rows]
