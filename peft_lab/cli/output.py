"""What commands print: one JSON document or a table on stdout, everything else on stderr."""

from __future__ import annotations

import io
import json
import math
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any, Literal, TextIO

from rich import box
from rich.cells import cell_len
from rich.console import Console, RenderableType
from rich.markup import escape
from rich.table import Table

from peft_lab.cli import streams

_PIPE_WIDTH = 1000  # a table in a pipe is as wide as its contents: nobody wraps it, grep wants whole lines
_SHORT = 20  # characters of a cell that is not folded
_reserved: list[TextIO] = []


@contextmanager
def reserved_stdout() -> Iterator[None]:
    """While this lasts, only :func:`show` reaches stdout; prints of libraries and child processes go to stderr."""
    with _result_stream() as stream, redirect_stdout(sys.stderr):
        _reserved.append(stream)
        try:
            yield
        finally:
            _reserved.pop()
            stream.flush()


@contextmanager
def _result_stream() -> Iterator[TextIO]:
    """The real stdout. Where that is file descriptor 1, the descriptor itself is pointed at stderr meanwhile."""
    real = sys.stdout
    try:
        descriptor = real.fileno()
    except (io.UnsupportedOperation, AttributeError):  # replaced by an object without a file, as in tests
        yield real
        return
    if descriptor != 1:
        yield real
        return
    real.flush()
    kept = os.dup(1)
    with os.fdopen(os.dup(kept), "w", encoding=real.encoding, errors="replace") as stream:
        os.dup2(2, 1)
        try:
            yield streams.careful(stream)
        finally:
            os.dup2(kept, 1)
            os.close(kept)


def show(document: Any, as_json: bool, *, human: Callable[[], Sequence[RenderableType]]) -> None:
    """Print the command's result: the document, or what ``human`` makes of it (tables; texts as they are)."""
    stream = _reserved[-1] if _reserved else sys.stdout
    if as_json:
        stream.write(json.dumps(plain(document), indent=2, allow_nan=False) + "\n")
    else:
        for part in human():
            if isinstance(part, str):
                stream.write(part.removesuffix("\n") + "\n")
            else:
                _print(part, stream)
    stream.flush()


def note(message: str) -> None:
    """One line for the person at the terminal, on stderr."""
    print(" ".join(message.split()), file=sys.stderr)


def _print(part: RenderableType, stream: TextIO) -> None:
    """On a terminal too narrow for the longest words, lines run over its edge: names broken in pieces help nobody."""
    console = Console(file=stream, highlight=False, emoji=False)
    terminal, console.width = console.width, _PIPE_WIDTH
    if stream.isatty():
        console.width = max(terminal, console.measure(part).minimum)
    console.print(part)


def table(title: str, columns: Mapping[str, str], rows: Sequence[Sequence[Any]], caption: str = "") -> Table:
    """A table whose ``columns`` map a heading to ``left`` or ``right``. Cells are text already.

    Numbers, short texts and the first column, which names the row, stay in one piece; longer texts are folded.
    """
    cells = [[str(value) for value in row] for row in rows]
    built = Table(
        title=title or None,
        caption=caption or None,
        box=box.SIMPLE_HEAD,
        title_justify="left",
        caption_justify="left",
        title_style="bold",
        pad_edge=False,
    )
    for place, (heading, side) in enumerate(columns.items()):
        longest = max(map(cell_len, [heading, *(row[place] for row in cells)]))
        whole = side == "right" or place == 0 or longest <= _SHORT
        justify: Literal["left", "right"] = "right" if side == "right" else "left"
        built.add_column(
            heading, justify=justify, no_wrap=whole, min_width=longest if whole else None, overflow="fold"
        )
    for row in cells:
        built.add_row(*map(escape, row))
    return built


def plain(value: Any) -> Any:
    """``value`` as JSON knows it: dataclasses as objects, paths as text, numbers that are none as null."""
    if is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value))
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Path):
        return str(value)
    return value
