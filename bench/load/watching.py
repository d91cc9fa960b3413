"""What a server holds while it is used: memory, open files and threads of its process and of all that it started."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil


def held(process: int) -> dict[str, float]:
    """Of a process: ``rss`` in MB, ``files``, ``threads``; of its children the same with ``children_`` before it
    (memory that they share is counted once), and ``children``, how many there are. A child that ends meanwhile is left
    out. Raises psutil.NoSuchProcess."""
    server = psutil.Process(process)
    rows = [_of(child, shared=True) for child in server.children(recursive=True)]
    counted = [row for row in rows if row is not None]
    own = _of(server)
    if own is None:
        raise psutil.NoSuchProcess(process)
    names = ("rss", "files", "threads")
    return {
        **dict(zip(names, own, strict=True)),
        "children": len(counted),
        **{f"children_{name}": sum(row[at] for row in counted) for at, name in enumerate(names)},
    }


def _of(process: psutil.Process, shared: bool = False) -> tuple[float, int, int] | None:
    try:
        size = process.memory_full_info().pss if shared else process.memory_info().rss
        return round(size / 1e6, 1), process.num_fds(), process.num_threads()
    except psutil.Error:
        return None


async def watch(
    process: int, until: float, every: float, table: str, also: Callable[[], dict[str, Any]]
) -> None:
    """Print what it holds, every so many seconds until then, and what ``also`` tells of the time since."""
    began = time.monotonic()
    while True:
        row = {"minute": round((time.monotonic() - began) / 60, 1), **held(process), **also()}
        print(row, flush=True)
        if table:
            with Path(table).open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
        if time.monotonic() + 1 > until:
            return
        await asyncio.sleep(max(0.5, min(every, until - time.monotonic())))
