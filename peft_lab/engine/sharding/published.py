"""Published memory of steps on several devices, per device, with settings and sources.

``published.jsonl``: ``published`` is a range in bytes, ``measure`` the kind of figure (``allocated`` or ``reserved`` by
PyTorch's allocator; ``driver``: all memory in use on the card). Nothing is fitted to them.
"""

from __future__ import annotations

import json
from functools import cache
from importlib import resources
from typing import Any

FILE = "published.jsonl"


@cache
def published() -> tuple[dict[str, Any], ...]:
    """Return all figures."""
    text = (resources.files(__package__) / FILE).read_text("utf-8")
    return tuple(json.loads(line) for line in text.splitlines())
