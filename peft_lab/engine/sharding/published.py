"""Published memory of steps on several devices, per device, with settings and sources.

``published.jsonl``: ``published`` is a range in bytes, ``measure`` the kind of figure (``allocated`` or ``reserved`` by
PyTorch's allocator; ``driver``: all memory in use on the card). Nothing is fitted to them.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from peft_lab.core import disk

FILE = "published.jsonl"


@cache
def published() -> tuple[dict[str, Any], ...]:
    """Return all figures."""
    return tuple(disk.read_json_lines(Path(__file__).with_name(FILE)))
