"""Progress of long work, on stderr: a bar at a terminal, otherwise one line when a piece of work starts and ends."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn


class ProgressBars:
    """Bars by name. Use as a context manager; :meth:`update` makes a bar when it first hears of it.

    ``lines=False`` leaves the lines out where there is no terminal: for work of seconds.
    """

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
        """Work called ``name`` is at ``fraction`` (0 to 1). What is done at the first word of it needs no line."""
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
