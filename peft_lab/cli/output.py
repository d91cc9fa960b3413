"""Output of commands: one JSON document or a table on stdout, everything else on stderr."""

from __future__ import annotations

import io
import json
import math
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import asdict, is_dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self, TextIO

from rich import box
from rich.cells import cell_len
from rich.console import Console, RenderableType
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from peft_lab.core import disk
from peft_lab.core.errors import PeftLabError

# ----------------------------------------
# What stands behind stdout and stderr: a reader that leaves, a full disk, a stream that was closed from the start.


class _Sink(io.RawIOBase):
    """Writes bytes to a file of the system; drops everything after a first failure. ``tells``: whether to raise that
    failure. A reader that has left (head, less) does not count as one."""

    def __init__(self, file: IO[bytes] | io.RawIOBase, tells: bool) -> None:
        super().__init__()
        self._file, self._tells, self._over = file, tells, False

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._file.fileno()

    def isatty(self) -> bool:
        return self._file.isatty()

    def write(self, data: Any) -> int | None:
        if not self._over:
            try:
                return self._file.write(data)
            except BrokenPipeError:
                self._over = True
            except OSError as error:
                self._over = True
                if self._tells:
                    raise unwritten(error) from error
        return len(data)


def unwritten(error: OSError) -> PeftLabError:
    """Return the error for output that could not be written, with the system's reason."""
    return PeftLabError(f"The output could not be written: {disk.reason(error)}.")


def careful_stream(stream: TextIO, tells: bool = True) -> TextIO:
    """Return the stream wrapped to survive a closed pipe; streams without a file, as in tests, are unchanged.
    ``tells``: raise the first other failure as a PeftLabError; otherwise drop it."""
    try:
        stream.fileno()
        inner = stream.buffer
    except (io.UnsupportedOperation, AttributeError):
        return stream
    stream.flush()
    sink = _Sink(getattr(inner, "raw", inner), tells)
    at_once = not tells or bool(getattr(stream, "write_through", False)) or stream.line_buffering
    return io.TextIOWrapper(
        io.BufferedWriter(sink), encoding=stream.encoding, errors=stream.errors, line_buffering=bool(at_once)
    )


@contextmanager
def standing() -> Iterator[None]:
    """Make sys.stdout and sys.stderr careful streams. Failures of stderr are dropped, as unreportable."""
    _open_closed()
    real = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = careful_stream(real[0]), careful_stream(real[1], tells=False)
    try:
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            with suppress(PeftLabError):  # reported by then, or the exit status of something worse counts
                stream.flush()
        sys.stdout, sys.stderr = real


def _open_closed() -> None:
    """Open standard streams that the caller has closed (``>&-``) on the null device. Otherwise the next opened file
    gets the stream's descriptor, and libraries print into it."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free: this one
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "w" if number else "r", encoding="utf-8", closefd=False))  # noqa: SIM115  for the life of the process


_PIPE_WIDTH = 1000  # a table in a pipe is as wide as its contents: nobody wraps it, grep wants whole lines
_SHORT = 20  # characters of a cell that is not folded
_reserved: list[TextIO] = []


class Collected:
    """What a command would have printed: its document, and its tables as text and HTML. ``notes``: for stderr."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.document: Any = None
        self.text = self.html = ""

    def take(self, document: Any, parts: Sequence[RenderableType]) -> None:
        """Take what :func:`show` is given."""
        console = Console(file=io.StringIO(), record=True, width=_TEXT_WIDTH, highlight=False, emoji=False)
        for part in parts:
            console.print(part)
        self.document = plain(document)
        self.html = console.export_html(inline_styles=True, code_format="<pre>{code}</pre>", clear=False)
        self.text = console.export_text()


_TEXT_WIDTH = 160  # of tables that are returned
_collected: list[Collected] = []


@contextmanager
def collected() -> Iterator[Collected]:
    """Yield what commands would print meanwhile, which they then do not."""
    _collected.append(Collected())
    try:
        yield _collected[-1]
    finally:
        _collected.pop()


@contextmanager
def reserved_stdout() -> Iterator[None]:
    """Let only :func:`show` reach stdout; prints of libraries and child processes go to stderr."""
    if _collected:  # nothing is printed
        yield
        return
    with _result_stream() as stream, redirect_stdout(sys.stderr):
        _reserved.append(stream)
        try:
            yield
        finally:
            _reserved.pop()
            stream.flush()


@contextmanager
def _result_stream() -> Iterator[TextIO]:
    """Yield the real stdout. If it is file descriptor 1, that descriptor points to stderr meanwhile."""
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
    saved = os.dup(1)
    with os.fdopen(os.dup(saved), "w", encoding=real.encoding, errors="replace") as stream:
        os.dup2(2, 1)
        try:
            yield careful_stream(stream)
        finally:
            os.dup2(saved, 1)
            os.close(saved)


def show(document: Any, as_json: bool, *, human: Callable[[], Sequence[RenderableType]]) -> None:
    """Print the command's result: the document as JSON, or the tables and texts that ``human`` returns."""
    stream = _reserved[-1] if _reserved else sys.stdout
    if _collected:
        _collected[-1].take(document, human())
    elif as_json:
        stream.write(json.dumps(plain(document), indent=2, allow_nan=False) + "\n")
    else:
        for part in human():
            if isinstance(part, str):
                stream.write(part.removesuffix("\n") + "\n")
            else:
                _print(part, stream)
    stream.flush()


def note(message: str) -> None:
    """Print one line for the person at the terminal, on stderr."""
    line = " ".join(message.split())
    if _collected:
        _collected[-1].notes.append(line)
    else:
        print(line, file=sys.stderr)


def _print(part: RenderableType, stream: TextIO) -> None:
    """Print a table or text. Lines may exceed a terminal that is too narrow for the longest words."""
    console = Console(file=stream, highlight=False, emoji=False)
    terminal, console.width = console.width, _PIPE_WIDTH
    if stream.isatty():
        console.width = max(terminal, console.measure(part).minimum)
    console.print(part)


#: A column's content: a key or attribute of the row, optionally with a function that formats it, or a function of it.
Column = str | tuple[str, Callable[[Any], object]] | Callable[[Any], object]


def table(
    title: str, rows: Iterable[Any], columns: Mapping[str, Column] | Sequence[str], caption: str = ""
) -> Table:
    """Make a table with one line per row. Cells that are ``None`` stay empty.

    Numbers, short texts and the first column, which names the row, do not wrap; longer texts do.

    Args:
        columns: keys or functions of the cells, by heading; headings alone if rows are tuples of cells. A
            heading that starts with ``>`` marks a column of numbers, aligned to the right.
    """
    makers = list(columns.values()) if isinstance(columns, Mapping) else None
    lines = [
        ["" if cell is None else str(cell) for cell in cells]
        for row in rows
        for cells in [row if makers is None else [_cell(row, maker) for maker in makers]]
    ]
    built = Table(
        title=title or None,
        caption=caption or None,
        box=box.SIMPLE_HEAD,
        title_justify="left",
        caption_justify="left",
        title_style="bold",
        pad_edge=False,
    )
    for place, marked in enumerate(columns):
        right, heading = marked.startswith(">"), marked.removeprefix(">")
        longest = max(map(cell_len, [heading, *(line[place] for line in lines)]))
        whole = right or place == 0 or longest <= _SHORT
        built.add_column(
            heading,
            justify="right" if right else "left",
            no_wrap=whole,
            min_width=longest if whole else None,
            overflow="fold",
        )
    for line in lines:
        built.add_row(*map(escape, line))
    return built


def _cell(row: Any, column: Column) -> object:
    if isinstance(column, tuple):
        value = _cell(row, column[0])
        return None if value is None else column[1](value)
    if callable(column):
        return column(row)
    return row[column] if isinstance(row, Mapping) else getattr(row, column)


def attributes(thing: object, *names: str) -> dict[str, Any]:
    """Return the named attributes of an object as a dict."""
    return {name: getattr(thing, name) for name in names}


def plain(value: Any) -> Any:
    """Return a value as JSON data: dataclasses as objects, paths as text, infinities and NaN as null."""
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


# ----------------------------------------
# Progress of long work, on stderr: a bar at a terminal, otherwise one line when a piece of work starts and ends.


class ProgressBars:
    """Draws named progress bars, as a context manager; :meth:`update` adds a bar at its first call. ``lines=False``:
    without a terminal print nothing, for work that takes seconds."""

    def __init__(self, lines: bool = True) -> None:
        self._lines = lines
        console = Console(file=sys.stderr)
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f}%"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[detail]}"),
        )
        self._bars = Progress(*columns, console=console, transient=True) if console.is_terminal else None
        self._tasks: dict[str, TaskID] = {}
        self._begun: set[str] = set()

    def __enter__(self) -> Self:
        if self._bars:
            self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bars:
            self._bars.stop()

    def update(self, name: str, fraction: float, detail: str = "") -> None:
        """Draw the bar ``name`` at ``fraction`` (0 to 1). Work done at its first call prints no line."""
        if self._bars:
            if name not in self._tasks:
                self._tasks[name] = self._bars.add_task(name, total=1.0, detail=detail)
            self._bars.update(self._tasks[name], completed=fraction, detail=detail)
            return
        if not self._lines:
            return
        ended = fraction >= 1
        if name not in self._begun and not ended:
            self._begun.add(name)
            print(f"{name}: started", file=sys.stderr, flush=True)
        elif name in self._begun and ended:
            self._begun.remove(name)
            print(f"{name}: done", file=sys.stderr, flush=True)
